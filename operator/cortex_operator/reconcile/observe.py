"""Looks that both kinds take at the world. The only I/O before the plan."""

from __future__ import annotations

from cortex_operator.cluster import Cluster, NotFound, Object, ObjectKey
from cortex_operator.dataplane import DataPlane, DataPlaneUnreachable, Description, ResourceKey
from cortex_operator.manifests.autoscaler import HPA, autoscaler_kind
from cortex_operator.manifests.disruption import needs_budget
from cortex_operator.manifests.labels import Part, Resource
from cortex_operator.manifests.network import NETWORK_POLICY
from cortex_operator.manifests.optional import POD_MONITOR, SCALED_OBJECT
from cortex_operator.manifests.origin import RELEASE, UPDATE
from cortex_operator.manifests.podmonitor import wants_pod_monitor
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.scale import Scale
from cortex_operator.reconcile.fleet import Fleet, Standing
from cortex_operator.reconcile.pods import is_ready


async def find(cluster: Cluster, key: ObjectKey, *, unwatched: bool = False) -> Object | None:
    """The object, or None; `unwatched`: also one that is not ours."""
    try:
        return await cluster.get(key, unwatched=unwatched)
    except NotFound:
        return None


def belongs_to(obj: Object, resource: Resource) -> bool:
    """Whether it is that resource's, by its uid; labels anybody may set."""
    return any(owner["uid"] == resource.metadata.uid for owner in obj["metadata"].get("ownerReferences") or ())


async def find_deployment(cluster: Cluster, namespace: str, name: str) -> Object | None:
    """The Deployment of that name."""
    return await find(cluster, ObjectKey("apps/v1", "Deployment", namespace, name))


def find_standing(fleet: Fleet | None, resource: Resource) -> Standing:
    """Whether the resource may move to the operator's release."""
    if fleet is None:
        return Standing()
    meta = resource.metadata
    return fleet.standing(ResourceKey(resource.kind, meta.namespace, meta.name), meta.annotations.get(UPDATE, ""))


async def find_settings(cluster: Cluster, deployment: Object | None, release: ReleaseSettings) -> dict[str, str] | None:
    """What the ConfigMap of a Deployment of another release holds; None: there is none, or the release is the same."""
    if deployment is None:
        return None
    meta = deployment["metadata"]
    if (meta.get("annotations") or {}).get(RELEASE) == release.id:
        return None
    found = await find(cluster, ObjectKey("v1", "ConfigMap", meta["namespace"], meta["name"]))
    return None if found is None else dict(found.get("data") or {})


async def find_pods(cluster: Cluster, part: Part) -> tuple[Object, ...]:
    """The part's pods."""
    return tuple(await cluster.list("v1", "Pod", namespace=part.resource.metadata.namespace, labels=part.selector))


async def ask(dataplane: DataPlane, key: ResourceKey, pods: tuple[Object, ...]) -> tuple[Description | None, str]:
    """The description, or why there is none. Nobody is asked while there is no pod."""
    if not pods:
        return None, "there is no pod to ask"
    try:
        return await dataplane.describe(key), ""
    except DataPlaneUnreachable as error:
        return None, str(error)


async def find_unlisted(cluster: Cluster, namespace: str, service: str, pods: tuple[Object, ...]) -> str:
    """That the headless Service lists none of the ready pods; empty when it lists one, or there is none."""
    ready = {pod["metadata"]["name"] for pod in pods if is_ready(pod)}
    if not ready:
        return ""
    labels = {"kubernetes.io/service-name": service}
    slices = await cluster.list("discovery.k8s.io/v1", "EndpointSlice", namespace=namespace, labels=labels)
    endpoints = [endpoint for one in slices for endpoint in one.get("endpoints") or ()]
    if ready & {(endpoint.get("targetRef") or {}).get("name") for endpoint in endpoints}:
        return ""
    return (
        f"Service {service} lists none of the ready pods ({', '.join(sorted(ready))}): see that its selector has only "
        f"labels that the pods have (kubectl -n {namespace} get service/{service} -o yaml; get pods --show-labels)"
    )


async def find_leftovers(
    cluster: Cluster, part: Part, name: str, scale: Scale, release: ReleaseSettings
) -> tuple[tuple[ObjectKey, str], ...]:
    """What there must not be, with its uid; not what is somebody else's: a PodDisruptionBudget of more pods than there
    are to be now, an autoscaler where the Deployment is told the number or one of the other kind says it, a
    PodMonitor or a NetworkPolicy where the release wants none."""
    autoscaled = autoscaler_kind(part.resource.spec, release)
    kinds = [] if needs_budget(scale.running) else [("policy/v1", "PodDisruptionBudget")]
    kinds += [HPA] if scale.told or autoscaled != HPA else []
    kinds += [SCALED_OBJECT] if SCALED_OBJECT in release.served and autoscaled != SCALED_OBJECT else []
    kinds += [POD_MONITOR] if POD_MONITOR in release.served and not wants_pod_monitor(release) else []
    kinds += [] if release.isolation.enabled else [NETWORK_POLICY]
    namespace = part.resource.metadata.namespace
    found = [(key, await find_uid(cluster, part, key)) for key in (ObjectKey(*kind, namespace, name) for kind in kinds)]
    return tuple((key, uid) for key, uid in found if uid)


async def find_uid(cluster: Cluster, part: Part, key: ObjectKey) -> str:
    """Of an object that belongs to the part's resource; empty when there is none, or it is going already."""
    found = await find(cluster, key)
    if found is None or "deletionTimestamp" in found["metadata"] or not belongs_to(found, part.resource):
        return ""
    return str(found["metadata"]["uid"])


async def find_autoscaler(cluster: Cluster, namespace: str, name: str, scale: Scale) -> Object | None:
    """The operator's own HorizontalPodAutoscaler, where there is to be one."""
    return None if scale.told else await find(cluster, ObjectKey(*HPA, namespace, name))
