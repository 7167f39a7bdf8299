"""Looks that both kinds take at the world. The only I/O before the plan."""

from __future__ import annotations

from cortex_kinds.common import CommonSpec

from cortex_operator.cluster import Cluster, Forbidden, NotFound, Object, ObjectKey
from cortex_operator.dataplane import DataPlane, DataPlaneUnreachable, Description, ResourceKey
from cortex_operator.manifests.disruption import needs_budget
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.serviceaccount import needs_service_account
from cortex_operator.reconcile.placement import Nodes, wants_nodes
from cortex_operator.reconcile.pods import is_ready


async def find(cluster: Cluster, key: ObjectKey, *, unwatched: bool = False) -> Object | None:
    """The object, or None; `unwatched`: also one that is not ours."""
    try:
        return await cluster.get(key, unwatched=unwatched)
    except NotFound:
        return None


async def find_deployment(cluster: Cluster, namespace: str, name: str) -> Object | None:
    """The Deployment of that name."""
    return await find(cluster, ObjectKey("apps/v1", "Deployment", namespace, name))


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


async def find_nodes(cluster: Cluster, spec: CommonSpec, pods: tuple[Object, ...]) -> Nodes:
    """The nodes, where they tell something about the resource's pods: a list of all of them is not cheap."""
    if not wants_nodes(spec, pods):
        return Nodes()
    try:
        return Nodes(tuple(await cluster.list("v1", "Node")), seen=True)
    except Forbidden as error:
        return Nodes(unreadable=str(error))


async def find_leftovers(cluster: Cluster, part: Part, name: str) -> tuple[tuple[ObjectKey, str], ...]:
    """Objects of an earlier spec, with their uid: the PodDisruptionBudget of more replicas, the ServiceAccount that the
    resource does without now; not those of somebody else."""
    spec, namespace = part.resource.spec, part.resource.metadata.namespace
    unneeded = [] if needs_budget(spec.desired_replicas) else [("policy/v1", "PodDisruptionBudget")]
    unneeded += [] if needs_service_account(spec, name) else [("v1", "ServiceAccount")]
    keys = [ObjectKey(api_version, kind, namespace, name) for api_version, kind in unneeded]
    metas = [((await find(cluster, key)) or {}).get("metadata", {}) for key in keys]
    return tuple((key, meta["uid"]) for key, meta in zip(keys, metas, strict=True) if _is_owned(meta, part))


def _is_owned(meta: Object, part: Part) -> bool:
    return any(owner["uid"] == part.resource.metadata.uid for owner in meta.get("ownerReferences", ()))
