from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from cortex_operator.cluster import MemoryCluster, ObjectKey
from cortex_operator.dataplane import DataPlaneUnreachable, ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from doubles import PodDouble

PATIENCE = 60.0
KEY = ResourceKey("CortexIndex", "default", "papers")
DEFINITION = {"chunking": {"splitLength": 8}, "language": "English"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody hangs no deadline ends anything, however busy the machine is."""
    for name in ("DEADLINE", "ORDER_DEADLINE"):
        monkeypatch.setattr(f"cortex_operator.dataplane_grpc.{name}", PATIENCE)


@pytest.fixture
async def pods() -> AsyncIterator[list[PodDouble]]:
    doubles = [PodDouble(), PodDouble()]
    for double in doubles:
        await double.start()
    yield doubles
    for double in doubles:
        await double.stop()


@pytest.fixture
async def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
async def dataplane(cluster: MemoryCluster) -> AsyncIterator[GrpcDataPlane]:
    plane = GrpcDataPlane(cluster)
    yield plane
    await plane.close()


async def endpoint(
    cluster: MemoryCluster, name: str, port: int, ready: bool = True, host: str = "127.0.0.1"
) -> ObjectKey:
    """An EndpointSlice with one pod of the index."""
    labels = {"kubernetes.io/service-name": "papers-search-headless"}
    obj = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 1}, {"name": "control", "port": port}],
        "endpoints": [
            {"addresses": [host], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}}
        ],
    }
    await cluster.apply(obj)
    return ObjectKey.of(obj)


@pytest.fixture
def closed() -> Iterator[Callable[[], int]]:
    """Gives ports where nobody listens, and nobody else comes to."""
    with ExitStack() as held:

        def hold() -> int:
            taken = held.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            return int(taken.getsockname()[1])

        yield hold


@contextmanager
def deaf() -> Iterator[int]:
    """A port, of all addresses of this machine, where connections are taken by the kernel and never answered."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield int(server.getsockname()[1])


async def test_without_a_pod_it_says_so(dataplane: GrpcDataPlane) -> None:
    with pytest.raises(DataPlaneUnreachable, match="papers has no pod yet"):
        await dataplane.describe(KEY)


async def test_a_revision_is_ordered_and_described(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble]
) -> None:
    await endpoint(cluster, "pod-a", pods[0].port)
    made = await dataplane.ensure_revision(KEY, "0123456789", DEFINITION, 2)
    assert (made.id, made.phase) == ("0123456789", "Current")
    assert pods[0].lake("papers").ensured == [("0123456789", 2)]
    pods[0].lake("papers").documents = 7
    found = await dataplane.describe(KEY)
    assert found.lake_read
    assert (found.current_revision, found.documents, found.missing) == ("0123456789", 7, ())
    assert [r.phase for r in found.revisions] == ["Current"]


async def test_who_may_not_write_gives_no_order_but_asks(cluster: MemoryCluster, pods: list[PodDouble]) -> None:
    class Fenced(BaseException):
        """In place of the end of the process."""

    def fence() -> None:
        raise Fenced

    await endpoint(cluster, "pod-a", pods[0].port)
    plane = GrpcDataPlane(cluster, fence)
    assert (await plane.describe(KEY)).lake_read
    with pytest.raises(Fenced):
        await plane.ensure_revision(KEY, "0123456789", DEFINITION, 2)
    assert pods[0].lake("papers").ensured == []
    await plane.close()


async def test_a_ready_pod_is_asked_before_one_that_is_not(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble]
) -> None:
    await endpoint(cluster, "pod-a", pods[0].port, ready=False)
    await endpoint(cluster, "pod-b", pods[1].port, ready=True)
    await dataplane.ensure_revision(KEY, "0123456789", DEFINITION, 2)
    assert (pods[0].lake("papers").ensured, len(pods[1].lake("papers").ensured)) == ([], 1)


async def test_when_one_pod_does_not_answer_the_next_is_asked(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble], closed: Callable[[], int]
) -> None:
    await endpoint(cluster, "pod-a", closed())
    await endpoint(cluster, "pod-b", pods[0].port, ready=False)
    assert (await dataplane.describe(KEY)).lake_read


async def test_a_pod_that_reaches_the_lake_is_preferred_and_else_what_is_missing_is_told(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble]
) -> None:
    await endpoint(cluster, "pod-a", pods[0].port)
    await endpoint(cluster, "pod-b", pods[1].port)
    pods[0].lake("papers").reachable = False
    assert (await dataplane.describe(KEY)).lake_read
    pods[1].lake("papers").reachable = False
    found = await dataplane.describe(KEY)
    assert not found.lake_read
    assert [(d.name, d.reason) for d in found.missing] == [("Lake", "LakeUnreachable")]


async def test_when_nobody_answers_each_pod_is_named_with_what_it_said(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, closed: Callable[[], int]
) -> None:
    await endpoint(cluster, "pod-a", closed())
    await endpoint(cluster, "pod-b", closed())
    with pytest.raises(DataPlaneUnreachable, match=r"pod-a .*UNAVAILABLE.*pod-b .*UNAVAILABLE"):
        await dataplane.describe(KEY)


async def test_a_refusal_is_final(cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble]) -> None:
    await endpoint(cluster, "pod-a", pods[0].port)
    await endpoint(cluster, "pod-b", pods[1].port)
    pods[0].lake("papers").refuse = "the id does not match the definition"
    with pytest.raises(ValueError, match=r"pod-a refuses.*does not match the definition"):
        await dataplane.ensure_revision(KEY, "0123456789", DEFINITION, 2)
    assert pods[1].lake("papers").ensured == []


async def test_a_pod_that_hangs_costs_no_more_than_its_head_start_and_is_asked_last_from_then_on(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble]
) -> None:
    with deaf() as port:
        await endpoint(cluster, "pod-a", port)
        await endpoint(cluster, "pod-b", pods[0].port)
        begun = time.monotonic()
        assert (await dataplane.describe(KEY)).lake_read
        await dataplane.ensure_revision(KEY, "0123456789", DEFINITION, 2)
        assert time.monotonic() - begun < PATIENCE / 2
        assert pods[0].lake("papers").ensured == [("0123456789", 2)]


@pytest.fixture
def hasty(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("DEADLINE", 0.6), ("ORDER_DEADLINE", 0.2), ("HEAD_START", 0.05)):
        monkeypatch.setattr(f"cortex_operator.dataplane_grpc.{name}", seconds)


@pytest.mark.usefixtures("hasty")
async def test_many_pods_that_hang_cost_one_deadline_and_each_is_asked_in_its_turn(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble], monkeypatch: pytest.MonkeyPatch
) -> None:
    with deaf() as port:
        for number in range(11):
            await endpoint(cluster, f"pod-{number:02}", port, host=f"127.0.1.{number + 1}")
        await endpoint(cluster, "pod-99", pods[0].port)
        asked: list[str] = []
        took: list[float] = []
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(DataPlaneUnreachable, match="4 of 12 were asked") as failed:
                await dataplane.describe(KEY)
            took.append(time.monotonic() - begun)
            asked += re.findall(r"pod-\d\d", str(failed.value))
        assert min(took) < 2  # a busy machine may hold up one of them
        assert asked == [f"pod-{number:02}" for number in range(8)]
        monkeypatch.setattr("cortex_operator.dataplane_grpc.DEADLINE", PATIENCE)
        assert (await dataplane.describe(KEY)).lake_read
        # The one that answered is asked first: any other would be waited for.
        for name in ("ORDER_DEADLINE", "HEAD_START"):
            monkeypatch.setattr(f"cortex_operator.dataplane_grpc.{name}", PATIENCE)
        async with asyncio.timeout(PATIENCE / 2):
            for _ in range(2):
                assert (await dataplane.describe(KEY)).lake_read
                await dataplane.ensure_revision(KEY, "0123456789", DEFINITION, 2)
        assert len(dataplane._channels[KEY]) == 12


@pytest.mark.usefixtures("hasty")
async def test_an_order_is_given_to_two_pods_at_most_one_after_the_other(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble], monkeypatch: pytest.MonkeyPatch
) -> None:
    with deaf() as port:
        for number in range(3):
            await endpoint(cluster, f"pod-{number}", port, host=f"127.0.1.{number + 1}")
        await endpoint(cluster, "pod-9", pods[0].port, ready=False)
        with pytest.raises(DataPlaneUnreachable, match=r"2 of 4 were asked\): pod-0 .*DEADLINE_EXCEEDED.*; pod-1 "):
            await dataplane.ensure_revision(KEY, "0123456789", DEFINITION, 2)
        assert pods[0].lake("papers").ensured == []
        for name in ("DEADLINE", "ORDER_DEADLINE"):
            monkeypatch.setattr(f"cortex_operator.dataplane_grpc.{name}", PATIENCE)
        assert (await dataplane.describe(KEY)).lake_read
        await dataplane.ensure_revision(KEY, "0123456789", DEFINITION, 2)
        assert pods[0].lake("papers").ensured == [("0123456789", 2)]


async def test_the_channel_to_a_pod_that_is_gone_is_closed(
    cluster: MemoryCluster, dataplane: GrpcDataPlane, pods: list[PodDouble]
) -> None:
    gone = await endpoint(cluster, "pod-a", pods[0].port)
    await dataplane.describe(KEY)
    kept = dataplane._channels[KEY]
    assert list(kept) == [f"127.0.0.1:{pods[0].port}"]
    await cluster.delete(gone)
    await endpoint(cluster, "pod-b", pods[1].port)
    await dataplane.describe(KEY)
    assert list(dataplane._channels[KEY]) == [f"127.0.0.1:{pods[1].port}"]
    await dataplane.forget(KEY)
    assert dataplane._channels == {}
