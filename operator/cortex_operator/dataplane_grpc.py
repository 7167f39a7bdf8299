"""`GrpcDataPlane`: the port `DataPlane` over the ControlService of the pods.

Shields the operator from where pods are and which of them answers. Pods are found by the EndpointSlices of the
resource's headless Service. However many there are, a question takes DEADLINE seconds at most: a few are asked, ready
ones first, and who did not answer well is behind the others the next time.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable
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

from cortex_operator.asking import ask_some
from cortex_operator.cluster import Cluster, Object
from cortex_operator.dataplane import DataPlaneUnreachable, Dependency, Description, ResourceKey
from cortex_operator.manifests.names import graph_headless_name, search_headless_name

DEADLINE: Final = 3.0
"""Seconds that a question takes at most, to all pods that are asked."""
ORDER_DEADLINE: Final = 2.0
"""Seconds that an order to one pod takes at most."""
HEAD_START: Final = 0.25
"""Seconds after which another pod is asked beside one that has not answered yet."""
ASKED: Final = 4
"""Pods that are asked at most."""
ORDERED: Final = 2
"""Pods that an order is given to at most."""
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
        self._ranks: dict[ResourceKey, dict[str, int]] = {}
        self._turns = itertools.count(1)

    async def describe(self, key: ResourceKey) -> Description:
        """What the Lake holds about the resource, from the first pod that reaches the Lake; else from one that says
        that it does not. Raises DataPlaneUnreachable."""
        pods = await self._pods(key)
        first = self._to_ask(key, pods)
        said = await ask_some(first, lambda pod, seconds: self._describe(key, pod, seconds), DEADLINE, HEAD_START)
        self._rank(key, good=said.good, bad=first[: said.asked])
        if said.best is None:
            raise _unreachable(key, said.failures, len(pods))
        return said.best

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        """Sees that the revision's row is there. Raises DataPlaneUnreachable, or ValueError when the pod refuses."""
        ensure = control_pb2.EnsureRevision(id=revision, definition=_struct(definition), retain=retain)
        # One id for all pods that are tried: one of them may have carried the order out without being able to say so.
        request = control_pb2.CommandRequest(resource=_ref(key), operation_id=str(uuid.uuid4()), ensure_revision=ensure)
        failures: list[str] = []
        pods = await self._pods(key)
        # Never two at once: another one only when the one before has failed or let its time pass.
        for pod in sorted(pods, key=lambda pod: (self._rank_of(key, pod), pod))[:ORDERED]:
            stub = self._stub(key, pod)
            self._fence()
            try:
                response = await stub.Command(request, timeout=ORDER_DEADLINE)
            except grpc.aio.AioRpcError as error:
                if error.code() in _REFUSALS:
                    raise ValueError(f"pod {pod.name} refuses revision {revision}: {error.details()}") from error
                failures.append(_said(pod, error))
                self._rank(key, bad=[pod])
                continue
            return _revision(response.revision)
        raise _unreachable(key, failures, len(pods))

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

    def _to_ask(self, key: ResourceKey, pods: Iterable[_Pod]) -> list[_Pod]:
        """A few, in the order in which they are asked: ready ones, and where there are others at least one of them."""
        ordered = sorted(pods, key=lambda pod: (pod.not_ready, self._rank_of(key, pod), pod))
        ready = [pod for pod in ordered if not pod.not_ready]
        others = ordered[len(ready) :]
        first = ready[: ASKED - bool(others)]
        return [*first, *others[: ASKED - len(first)]]

    async def _describe(self, key: ResourceKey, pod: _Pod, seconds: float) -> Description | str:
        request = control_pb2.DescribeRequest(resource=_ref(key))
        try:
            return _description(pod, await self._stub(key, pod).Describe(request, timeout=seconds))
        except grpc.aio.AioRpcError as error:
            return _said(pod, error)

    def _rank_of(self, key: ResourceKey, pod: _Pod) -> int:
        return self._ranks.get(key, {}).get(pod.address, 0)

    def _rank(self, key: ResourceKey, *, good: _Pod | None = None, bad: Iterable[_Pod] = ()) -> None:
        """Who answered well goes before all others, who did not behind them; of those the ones of longest ago first."""
        told = {pod.address: next(self._turns) for pod in bad}
        if good is not None:
            told[good.address] = -next(self._turns)
        if told:
            self._ranks.setdefault(key, {}).update(told)

    def _stub(self, key: ResourceKey, pod: _Pod) -> ControlServiceAsyncStub:
        channels = self._channels.setdefault(key, {})
        if pod.address not in channels:
            channels[pod.address] = grpc.aio.insecure_channel(pod.address, options=_OPTIONS)
        return ControlServiceStub(channels[pod.address])

    async def _close_others(self, key: ResourceKey, addresses: set[str]) -> None:
        ranks = {address: rank for address, rank in self._ranks.pop(key, {}).items() if address in addresses}
        if ranks:
            self._ranks[key] = ranks
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


def _unreachable(key: ResourceKey, failures: Iterable[str], pods: int) -> DataPlaneUnreachable:
    said = sorted(failures)
    if not said:
        return DataPlaneUnreachable(f"{key.kind} {key.namespace}/{key.name} has no pod yet")
    asked = f" ({len(said)} of {pods} were asked)" if len(said) < pods else ""
    return DataPlaneUnreachable(f"no pod answers{asked}: {'; '.join(said)}")


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
