"""What stands behind the gateway: the catalogue, the pods of each resource, live progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from datapunk.cortex import control_pb2_grpc, graph_pb2_grpc, search_pb2_grpc, state_pb2_grpc
from datapunk.cortex.common_pb2 import ResourceRef

from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW, Catalogue, Resource
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.health import Health
from cortex_workloads.runtime.progress import ProgressStream
from cortex_workloads.runtime.resilience.circuits import Circuit
from cortex_workloads.runtime.resilience.live import Live
from cortex_workloads.runtime.resilience.policies import GatewayPolicies
from cortex_workloads.runtime.targets import target

if TYPE_CHECKING:
    # Exists in the stubs of the types only.
    from datapunk.cortex.control_pb2_grpc import ControlServiceAsyncStub
    from datapunk.cortex.graph_pb2_grpc import GraphServiceAsyncStub
    from datapunk.cortex.search_pb2_grpc import HaystackServiceAsyncStub
    from datapunk.cortex.state_pb2_grpc import StateServiceAsyncStub

_CONTROL_PORT: Final = 50059
CATALOGUE: Final = "Catalogue"
"""The check of health that says whether the catalogue is there and followed."""


@dataclass(frozen=True)
class Backend:
    """One for the process; stubs are made as they are asked for."""

    catalogue: Catalogue
    channels: Channels
    progress: ProgressStream
    health: Health
    answers: Shared
    policies: Live[GatewayPolicies]

    def index(self, namespace: str, name: str) -> Resource:
        """Raises NotFound, which lists near names."""
        return self.catalogue.get(INDEX, namespace, name)

    def workflow(self, namespace: str, name: str) -> Resource:
        """Raises NotFound, which lists near names."""
        return self.catalogue.get(WORKFLOW, namespace, name)

    def haystack(self, index: Resource) -> HaystackServiceAsyncStub:
        """The pods of an index."""
        return search_pb2_grpc.HaystackServiceStub(self.channels.channel(_target(index)))

    def graph(self, workflow: Resource) -> GraphServiceAsyncStub:
        """The pods of a workflow. Who follows a run tries again himself: gRPC knows no last event."""
        return graph_pb2_grpc.GraphServiceStub(self.channels.channel(_target(workflow), retries=False))

    def control(self, resource: Resource) -> ControlServiceAsyncStub:
        """The control port of a resource's pods."""
        return control_pb2_grpc.ControlServiceStub(self.channels.channel(_control(resource)))

    def state(self, resource: Resource, *, retries: bool = True) -> StateServiceAsyncStub:
        """What a resource's pods tell of its state, on the control port; without gRPC's `retries` for who tries again
        himself."""
        return state_pb2_grpc.StateServiceStub(self.channels.channel(_control(resource), retries=retries))

    def circuits(self, resource: Resource) -> dict[str, Circuit]:
        """By port, `grpc` and `control`: those that were called."""
        targets = {"grpc": _target(resource), "control": _control(resource)}
        found = {port: self.channels.circuit(target) for port, target in targets.items()}
        return {port: circuit for port, circuit in found.items() if circuit is not None}


def ref(resource: Resource) -> ResourceRef:
    """A resource's name on the wire."""
    return ResourceRef(namespace=resource.namespace, name=resource.name)


def _target(resource: Resource) -> str:
    return target(resource.name, resource.kind, resource.namespace)


def _control(resource: Resource) -> str:
    return f"{_target(resource).rpartition(':')[0]}:{_CONTROL_PORT}"
