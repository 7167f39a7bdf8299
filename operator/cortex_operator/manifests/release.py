"""What an installation decides for all its resources."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cortex_kinds.common import Resources

from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.manifests.isolation import Isolation
from cortex_operator.manifests.optional import Kind

VERSION: Final = "0.1.0"
"""Of this software. Within a version no pod template changes (tests/unit/operator/test_release_templates.py)."""


def _resources(cpu: tuple[str, str], memory: tuple[str, str]) -> Resources:
    return Resources(requests={"cpu": cpu[0], "memory": memory[0]}, limits={"cpu": cpu[1], "memory": memory[1]})


SEARCH_RESOURCES = _resources(("2", "4"), ("4Gi", "8Gi"))
GRAPH_RESOURCES = _resources(("2", "4"), ("8Gi", "16Gi"))


@dataclass(frozen=True)
class ReleaseSettings:
    """The release's images and defaults; a resource's own fields win."""

    search_image: str
    """Image of search and ingest, unless a resource names its own."""
    graph_image: str
    """Image of graph, unless a resource names its own."""
    image_pull_policy: str = "IfNotPresent"
    """Always, IfNotPresent or Never."""
    namespace: str = "cortex-system"
    """Where the operator itself is."""
    search_resources: Resources = SEARCH_RESOURCES
    """Requests and limits of a search pod."""
    graph_resources: Resources = GRAPH_RESOURCES
    """Requests and limits of a graph pod."""
    ingest_resources: Resources = SEARCH_RESOURCES
    """Requests and limits of an ingest pod; it embeds with as many threads as its CPU limit has CPUs."""
    drain_seconds: float = 10.0
    """How long calls in progress may take after SIGTERM."""
    log_level: str = "INFO"
    """Of the workloads."""
    gpu_pools: tuple[GPUPool, ...] | None = ()
    """What `spec.gpu.pool` may name; None: there are no nodes, and it is kept but not enforced."""
    served: frozenset[Kind] = frozenset()
    """Which of the optional kinds the cluster serves."""
    pod_monitors: bool = True
    """Whether each resource gets a PodMonitor, where the cluster serves that kind."""
    pod_monitor_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the PodMonitors, by which a Prometheus selects them."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets of the operator's namespace for the release's images: of Jobs that run there."""
    orphans: str = "datapunk-cortex-orphans"
    """The ConfigMap of the operator's namespace that names data that belongs to no resource."""
    prometheus_address: str = ""
    """URL of the Prometheus that metrics of autoscaling ask which name none; empty: there is none."""
    isolation: Isolation = field(default_factory=Isolation)
    """The NetworkPolicies of its resources."""
    otlp_endpoint: str = ""
    """Where the workloads send traces; empty: none are sent."""

    @cached_property
    def id(self) -> str:
        """Names the version and the settings that shape pods: all that they are beyond what their resource says."""
        pods = (
            *(self.search_image, self.graph_image, self.image_pull_policy, self.drain_seconds, self.log_level),
            *(self.search_resources, self.graph_resources, self.otlp_endpoint, self.gpu_pools),
        )
        return f"{VERSION}-{hashlib.sha256(repr(pods).encode()).hexdigest()[:8]}"
