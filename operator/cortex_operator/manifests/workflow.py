"""All objects of a CortexWorkflow."""

from __future__ import annotations

from typing import Any

from cortex_kinds.workflow import CortexWorkflow
from cortex_workloads.runtime.settings import GraphSettings

from cortex_operator.manifests import names
from cortex_operator.manifests.container import Container, secrets_of
from cortex_operator.manifests.deployment import deployment
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.pod import pod_template
from cortex_operator.manifests.release import ReleaseSettings
from cortex_operator.manifests.service import headless_service, service
from cortex_operator.manifests.serviceaccount import service_account

_PORTS = {"grpc": names.GRAPH_PORT, "control": names.CONTROL_PORT, "metrics": names.METRICS_PORT}


def workflow_objects(workflow: CortexWorkflow, release: ReleaseSettings) -> tuple[dict[str, Any], ...]:
    """The workflow's ServiceAccount, Services and Deployment, in the order in which they are applied."""
    part = Part(workflow, "graph")
    name = names.graph_name(workflow.metadata.name)
    template = pod_template(part, _graph_container(workflow, release).build(workflow.spec, release), name, release)
    replicas = 1 if workflow.spec.replicas is None else workflow.spec.replicas
    return (
        service_account(part, name),
        service(part, name, names.GRAPH_PORT),
        headless_service(part, names.graph_headless_name(workflow.metadata.name), _PORTS),
        deployment(part, name, replicas, template),
    )


def _graph_container(workflow: CortexWorkflow, release: ReleaseSettings) -> Container:
    namespace = workflow.metadata.namespace
    # model_construct: the settings must hold what stands here and nothing from the operator's own environment.
    settings = GraphSettings.model_construct(
        resource_namespace=namespace,
        resource_name=workflow.metadata.name,
        indexes={use.name: names.search_target(use.name, namespace) for use in workflow.spec.indexes},
        log_level=release.log_level,
        otlp_endpoint=release.otlp_endpoint,
        drain_seconds=release.drain_seconds,
    )
    secrets = secrets_of(workflow.spec)
    return Container("graph", "cortex_workloads.graph", settings, _PORTS, release.graph_resources, secrets)
