"""The objects behind every resource that serves, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cortex_workloads.runtime.resilience.policies import Policies

from cortex_operator.manifests.autoscaler import autoscalers
from cortex_operator.manifests.claim import claim_templates, container_claims, pod_claims
from cortex_operator.manifests.configmap import CONFIG_DIGEST, config_digest, config_map
from cortex_operator.manifests.container import Container
from cortex_operator.manifests.deployment import deployment
from cortex_operator.manifests.disruption import disruption_budget, needs_budget
from cortex_operator.manifests.gpu import gpu_limits
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.network import Peer, network_policy
from cortex_operator.manifests.placement import pod_scheduling, queue_labels
from cortex_operator.manifests.pod import pod_template
from cortex_operator.manifests.podmonitor import pod_monitor, wants_pod_monitor
from cortex_operator.manifests.policies import policies_data
from cortex_operator.manifests.reach import Reach
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.scale import Scale
from cortex_operator.manifests.service import headless_service, service
from cortex_operator.manifests.serviceaccount import needs_service_account, service_account


@dataclass(frozen=True)
class Serving:
    """What tells the resources apart. `name` is that of all objects but the headless Service; `policies` are those
    of its pods, `clients` may call them, beside the gateway."""

    part: Part
    name: str
    headless_name: str
    container: Container
    policies: Policies
    clients: tuple[Peer, ...] = ()


def serving_objects(
    serving: Serving, release: ReleaseSettings, scale: Scale | None = None, reach: Reach | None = None
) -> tuple[dict[str, Any], ...]:
    """NetworkPolicy (unless the release wants none), ServiceAccount (unless the resource names one), ConfigMap,
    Services, PodDisruptionBudget (none for a single pod), Deployment, where that does not carry the number of pods its
    autoscaler, and a PodMonitor where the cluster serves that kind, in the order in which they are applied.
    GPUs that are claimed have a ResourceClaimTemplate before the Deployment."""
    part, name, container = serving.part, serving.name, serving.container
    scale = scale or Scale(part.resource.spec.desired_replicas)
    budget = (disruption_budget(part, name),) if needs_budget(scale.running) else ()
    monitor = (pod_monitor(part, name, release.pod_monitor_labels),) if wants_pod_monitor(release) else ()
    account = (service_account(part, name),) if needs_service_account(part.resource.spec, name) else ()
    return (
        *_policy(serving, release, reach or Reach()),
        *account,
        config_map(part, name, {**container.plain_env(), **policies_data(serving.policies)}),
        service(part, name, container.ports["grpc"]),
        headless_service(part, serving.headless_name, container.ports),
        *budget,
        *claim_templates(part, name, release),
        deployment(part, name, _template(serving, release), scale, release),
        *(() if scale.told or scale.waits else autoscalers(part, name, release)),
        *monitor,
    )


def _policy(serving: Serving, release: ReleaseSettings, reach: Reach) -> tuple[dict[str, Any], ...]:
    if not release.isolation.enabled:
        return ()
    return (network_policy(serving.part, serving.name, release, serving.container.ports, serving.clients, reach),)


def _template(serving: Serving, release: ReleaseSettings) -> dict[str, Any]:
    spec = serving.part.resource.spec
    container = serving.container.build(spec, release, config_map=serving.name, extra_limits=gpu_limits(spec.gpu))
    container = {**container, "resources": {**container["resources"], **container_claims(spec.gpu)}}
    return pod_template(
        serving.part,
        container,
        serving.name,
        serving.container.settings.ending_seconds,
        annotations={CONFIG_DIGEST: config_digest(serving.container.plain_env())},
        labels=queue_labels(spec.placement),
        scheduling={**pod_scheduling(serving.part, release.gpu_pools), **pod_claims(spec.gpu, serving.name)},
        volumes=serving.container.volumes,
    )
