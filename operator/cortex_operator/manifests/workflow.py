"""All objects of a CortexWorkflow."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from cortex_kinds.base import parse_duration
from cortex_kinds.cache import WorkflowCache
from cortex_kinds.workflow import CortexWorkflow, CortexWorkflowSpec, Durability
from cortex_workloads.runtime.settings import POLICIES_FILE, GraphSettings

from cortex_operator.manifests import names
from cortex_operator.manifests.container import Container, secrets_of
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.policies import policies_volume, workflow_policies
from cortex_operator.manifests.reach import Reach
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.scale import Scale
from cortex_operator.manifests.serving import Serving, serving_objects

MOST_RUN_DRAIN_SECONDS: Final = 300.0
"""A node that is to be emptied does not wait for ever."""
_PORTS = {"grpc": names.GRAPH_PORT, "control": names.CONTROL_PORT, "metrics": names.METRICS_PORT}


def workflow_objects(
    workflow: CortexWorkflow,
    release: ReleaseSettings,
    scale: Scale | None = None,
    granted: Collection[str] = (),
    reach: Reach | None = None,
) -> tuple[dict[str, Any], ...]:
    """The workflow's objects, in the order in which they are applied. `scale`: unless it is as the spec alone says.
    `granted`: those of its indexes in other namespaces that let it use them; its pods are told of no others. `reach`:
    where its pods must get to."""
    name = workflow.metadata.name
    container = _graph_container(workflow, release, granted)
    part, headless = Part(workflow, "graph"), names.graph_headless_name(name)
    serving = Serving(part, names.graph_name(name), headless, container, workflow_policies(workflow.spec))
    return serving_objects(serving, release, scale, reach)


def _graph_container(workflow: CortexWorkflow, release: ReleaseSettings, granted: Collection[str]) -> Container:
    namespace = workflow.metadata.namespace
    results = (workflow.spec.cache or WorkflowCache()).node_results
    homes = {use.name: use.home(namespace) for use in workflow.spec.indexes}
    used = {name: home for name, home in homes.items() if home == namespace or name in granted}
    # model_construct: the settings must hold what stands here and nothing from the operator's own environment.
    settings = GraphSettings.model_construct(
        resource_namespace=namespace,
        resource_name=workflow.metadata.name,
        indexes={name: names.search_target(name, home) for name, home in used.items()},
        index_namespaces={name: home for name, home in used.items() if home != namespace},
        log_level=release.log_level,
        otlp_endpoint=release.otlp_endpoint,
        drain_seconds=release.drain_seconds,
        run_drain_seconds=_run_drain_seconds(workflow.spec),
        policies_file=POLICIES_FILE,
        node_cache_bytes=results.memory_bytes,
        node_cache_shared_entry_bytes=results.shared_entry_bytes,
    )
    return Container(
        "graph",
        release.graph_image,
        "cortex_workloads.graph",
        settings,
        _PORTS,
        release.graph_resources,
        secrets_of(workflow.spec),
        (policies_volume(names.graph_name(workflow.metadata.name)),),
    )


def _run_drain_seconds(spec: CortexWorkflowSpec) -> float:
    """A run without checkpoints would begin again in another pod, so its own has the time that it may take; others go
    on where they are."""
    if spec.execution.durability is not Durability.EXIT:
        return 0.0
    return min(parse_duration(spec.limits.duration).total_seconds(), MOST_RUN_DRAIN_SECONDS)
