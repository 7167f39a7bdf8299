"""What an operator decided, from the objects that it made of a resource: for a plan that cannot read its settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cortex_kinds.common import Resources
from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.gpu import is_gpu
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.network import NETWORK_POLICY
from cortex_operator.manifests.optional import POD_MONITOR, SCALED_OBJECT, Kind
from cortex_operator.manifests.reach import REACH, Reach
from cortex_operator.preview.look import Look
from cortex_operator.preview.revision import Resource
from cortex_operator.preview.run import Proposal, deployment_key, model_of
from cortex_operator.preview.sandbox import Sandbox
from cortex_operator.reconcile.network import place_rules
from cortex_operator.reconcile.recent import Recent

from cortex_cli.planning.policy import OFF, told
from cortex_cli.planning.pools import pools_of

_IMAGE: Final = "(the release's image)"
_PROMETHEUS: Final = "(the release's Prometheus)"
_RECENT: Final = 60.0


async def as_made(look: Look, proposal: Proposal, served: frozenset[Kind]) -> ReleaseSettings:
    """As far as the objects tell; of a resource that has none, what is usual. Raises Unavailable."""
    live, proposed = (model_of(obj) for obj in (proposal.live, proposal.proposed))
    made = _Made(look, proposal)
    deployment = await made.find("apps/v1", "Deployment")
    usual = ReleaseSettings(_IMAGE, _IMAGE, served=served, prometheus_address=_PROMETHEUS)
    if deployment is None or live is None:
        return replace(usual, gpu_pools=tuple(pools_of(None, live, proposed)))
    pod = deployment["spec"]["template"]["spec"]
    release = _of_pod(usual, pod["containers"][0], live)
    release = _of_settings(release, (await made.find("v1", "ConfigMap") or {}).get("data") or {})
    release = replace(release, gpu_pools=tuple(pools_of(pod, live, proposed)))
    release = await _of_ingest(release, look, live)
    if POD_MONITOR in served:
        monitor = await made.find(*POD_MONITOR)
        release = release if made.is_hidden(*POD_MONITOR) else _of_monitor(release, live, monitor)
    if SCALED_OBJECT in served:
        release = _of_scaled_object(release, live, await made.find(*SCALED_OBJECT))
    return await _of_policy(release, made, live)


class _Made:
    """The objects of a resource that have the name of its Deployment."""

    def __init__(self, look: Look, proposal: Proposal) -> None:
        self.look, self._deployment = look, deployment_key(proposal.key)

    def key(self, api_version: str, kind: str) -> ObjectKey:
        return ObjectKey(api_version, kind, self._deployment.namespace, self._deployment.name)

    async def find(self, api_version: str, kind: str) -> Object | None:
        return await self.look.find(self.key(api_version, kind))

    def is_hidden(self, api_version: str, kind: str) -> bool:
        return self.key(api_version, kind) in self.look.hidden


def _of_pod(release: ReleaseSettings, container: Object, live: Resource) -> ReleaseSettings:
    image = _IMAGE if live.spec.image else container["image"]
    resources = _default_resources(container, live)
    return replace(
        release,
        search_image=image,
        graph_image=image,
        image_pull_policy=container.get("imagePullPolicy", release.image_pull_policy),
        search_resources=resources,
        graph_resources=resources,
    )


def _of_settings(release: ReleaseSettings, data: dict[str, str]) -> ReleaseSettings:
    return replace(
        release,
        drain_seconds=float(data.get("CORTEX_DRAIN_SECONDS", release.drain_seconds)),
        log_level=data.get("CORTEX_LOG_LEVEL", release.log_level),
        otlp_endpoint=data.get("CORTEX_OTLP_ENDPOINT", release.otlp_endpoint),
    )


async def _of_ingest(release: ReleaseSettings, look: Look, live: Resource) -> ReleaseSettings:
    part = Part(live, "ingest")
    jobs = await look.list("batch/v1", "Job", live.metadata.namespace, part.selector) if _ingests(live) else []
    for job in jobs[:1]:
        container = job["spec"]["template"]["spec"]["containers"][0]
        release = replace(release, ingest_resources=_default_resources(container, live))
    return release


def _ingests(live: Resource) -> bool:
    return live.kind == "CortexIndex"


def _of_monitor(release: ReleaseSettings, live: Resource, monitor: Object | None) -> ReleaseSettings:
    if monitor is None:
        return replace(release, pod_monitors=False)
    ours = Part(live, "search" if _ingests(live) else "graph").labels
    labels = monitor["metadata"].get("labels") or {}
    return replace(release, pod_monitor_labels={name: value for name, value in labels.items() if name not in ours})


def _of_scaled_object(release: ReleaseSettings, live: Resource, scaled: Object | None) -> ReleaseSettings:
    """The address stands in the triggers of metrics that name none. Without one there is no ScaledObject."""
    metrics = live.spec.autoscaling.metrics if live.spec.autoscaling is not None else []
    nameless = [
        n for n, each in enumerate(metrics) if each.prometheus is not None and not each.prometheus.server_address
    ]
    if not nameless:
        return release
    triggers = (scaled or {}).get("spec", {}).get("triggers") or []
    found = [str(each["metadata"].get("serverAddress", "")) for each in triggers[nameless[0] : nameless[0] + 1]]
    return replace(release, prometheus_address="".join(found))


async def _of_policy(release: ReleaseSettings, made: _Made, live: Resource) -> ReleaseSettings:
    policy = await made.find(*NETWORK_POLICY)
    if policy is None:
        return release if made.is_hidden(*NETWORK_POLICY) else replace(release, isolation=OFF)
    reach = Reach.load((policy["metadata"].get("annotations") or {}).get(REACH, ""))
    cluster, namespace = Sandbox(made.look), live.metadata.namespace
    rules = await place_rules(cluster, Recent(_RECENT), reach.everywhere, namespace)
    found = told(policy, live.spec.network, rules)
    return replace(release, isolation=found.isolation, namespace=found.namespace) if found else release


def _default_resources(container: Object, live: Resource) -> Resources:
    """What the container has and the resource does not ask for."""
    made, own = container.get("resources") or {}, live.spec.resources.to_manifest()
    parts = {
        part: {n: q for n, q in (made.get(part) or {}).items() if n not in (own.get(part) or {}) and not is_gpu(n)}
        for part in ("requests", "limits")
    }
    return Resources.model_validate(parts)
