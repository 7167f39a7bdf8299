"""`GrpcDataPlane`: the port `DataPlane` over the ControlService of the pods.

Shields the operator from where pods are and which of them answers. Pods are found by the EndpointSlices of the
resource's headless Service; ready ones are asked first, then the others, each at most DEADLINE seconds.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
from cortex_kinds.common import RevisionStatus
from datapunk.cortex import common_pb2, control_pb2
from datapunk.cortex.control_pb2_grpc import ControlServiceStub

if TYPE_CHECKING:
    from datapunk.cortex.control_pb2_grpc import ControlServiceAsyncStub
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from cortex_operator.cluster import Cluster, Object
from cortex_operator.dataplane import DataPlaneUnreachable, Dependency, Description, ResourceKey
from cortex_operator.manifests.names import graph_headless_name, search_headless_name

DEADLINE: Final = 2.0
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # A pod that comes back at its address must not be kept waiting by the back-off of the one before.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
_REFUSALS: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED})


@dataclass(frozen=True, order=True)
class _Pod:
    not_ready: bool
    name: str
    address: str


class GrpcDataPlane:
    """Asks pods; keeps one channel per pod until the pod is gone. `fence` is called just before each order and does not
    return when this process may give none. `close` ends all channels."""

    def __init__(self, cluster: Cluster, fence: Callable[[], object] = lambda: None) -> None:
        self._cluster = cluster
        self._fence = fence
        self._channels: dict[ResourceKey, dict[str, grpc.aio.Channel]] = {}

    async def describe(self, key: ResourceKey) -> Description:
        """What the Lake holds about the resource, from a pod that reaches the Lake when there is one.

        Raises DataPlaneUnreachable.
        """
        request = control_pb2.DescribeRequest(resource=_ref(key))
        best: Description | None = None
        failures: list[str] = []
        for pod in await self._pods(key):
            try:
                response = await self._stub(key, pod).Describe(request, timeout=DEADLINE)
            except grpc.aio.AioRpcError as error:
                failures.append(_said(pod, error))
                continue
            found = _description(pod, response)
            if found.lake_read:
                return found
            best = best or found
        if best is None:
            raise _unreachable(key, failures)
        return best

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        """Sees that the revision's row is there. Raises DataPlaneUnreachable, or ValueError when the pod refuses."""
        ensure = control_pb2.EnsureRevision(id=revision, definition=_struct(definition), retain=retain)
        # One id for all pods that are tried: one of them may have carried the order out without being able to say so.
        request = control_pb2.CommandRequest(resource=_ref(key), operation_id=str(uuid.uuid4()), ensure_revision=ensure)
        failures: list[str] = []
        for pod in await self._pods(key):
            stub = self._stub(key, pod)
            self._fence()
            try:
                response = await stub.Command(request, timeout=DEADLINE)
            except grpc.aio.AioRpcError as error:
                if error.code() in _REFUSALS:
                    raise ValueError(f"pod {pod.name} refuses revision {revision}: {error.details()}") from error
                failures.append(_said(pod, error))
                continue
            return _revision(response.revision)
        raise _unreachable(key, failures)

    async def forget(self, key: ResourceKey) -> None:
        """Closes the channels to the resource's pods."""
        await self._close_others(key, set())

    async def close(self) -> None:
        """Closes all channels."""
        for key in list(self._channels):
            await self._close_others(key, set())

    async def _pods(self, key: ResourceKey) -> list[_Pod]:
        slices = await self._cluster.list(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            namespace=key.namespace,
            labels={"kubernetes.io/service-name": _service(key)},
        )
        pods = sorted({pod for one in slices for pod in _pods_of(one)})
        await self._close_others(key, {pod.address for pod in pods})
        return pods

    def _stub(self, key: ResourceKey, pod: _Pod) -> ControlServiceAsyncStub:
        channels = self._channels.setdefault(key, {})
        if pod.address not in channels:
            channels[pod.address] = grpc.aio.insecure_channel(pod.address, options=_OPTIONS)
        return ControlServiceStub(channels[pod.address])

    async def _close_others(self, key: ResourceKey, addresses: set[str]) -> None:
        channels = self._channels.get(key, {})
        gone = [channels.pop(address) for address in channels.keys() - addresses]
        if not channels:
            self._channels.pop(key, None)
        for channel in gone:
            await channel.close()


def _service(key: ResourceKey) -> str:
    return search_headless_name(key.name) if key.kind == "CortexIndex" else graph_headless_name(key.name)


def _ref(key: ResourceKey) -> common_pb2.ResourceRef:
    return common_pb2.ResourceRef(namespace=key.namespace, name=key.name)


def _struct(value: dict[str, Any]) -> Struct:
    return json_format.ParseDict(value, Struct())


def _pods_of(endpoint_slice: Object) -> list[_Pod]:
    port = next((p["port"] for p in endpoint_slice.get("ports") or () if p.get("name") == "control"), None)
    return [
        _Pod(
            not_ready=not (endpoint.get("conditions") or {}).get("ready", True),
            name=(endpoint.get("targetRef") or {}).get("name", address),
            address=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        )
        for endpoint in endpoint_slice.get("endpoints") or ()
        for address in endpoint["addresses"][:1]
        if port is not None
    ]


def _said(pod: _Pod, error: grpc.aio.AioRpcError) -> str:
    return f"{pod.name} ({pod.address}) said {error.code().name}: {error.details()}"


def _unreachable(key: ResourceKey, failures: list[str]) -> DataPlaneUnreachable:
    if not failures:
        return DataPlaneUnreachable(f"{key.kind} {key.namespace}/{key.name} has no pod yet")
    return DataPlaneUnreachable(f"no pod answers: {'; '.join(failures)}")


def _description(pod: _Pod, response: control_pb2.DescribeResponse) -> Description:
    return Description(
        pod=response.pod or pod.name,
        lake_read=response.lake_read,
        current_revision=response.current_revision,
        revisions=tuple(map(_revision, response.revisions)),
        documents=response.documents,
        missing=tuple(Dependency(d.name, d.reason, d.message) for d in response.dependencies if not d.reachable),
    )


def _revision(revision: control_pb2.Revision) -> RevisionStatus:
    phase = control_pb2.RevisionPhase.Name(revision.phase).removeprefix("REVISION_PHASE_")
    return RevisionStatus(
        id=revision.id,
        phase=phase.capitalize(),
        documents=revision.documents,
        chunks=revision.chunks,
        waiting=revision.waiting,
        created_at=revision.created_at.ToJsonString() if revision.HasField("created_at") else "",
        message=revision.message[:1024],
    )
