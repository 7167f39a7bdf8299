"""StateService over real gRPC, PostgreSQL and Valkey: what it answers, what it refuses, how a watch ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
import redis.asyncio as aioredis
from cortex_workloads.runtime import errors
from cortex_workloads.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    StateSyncFailed,
    TooLarge,
    Unavailable,
)
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import GraphSettings
from cortex_workloads.runtime.state import feed, presence, service
from cortex_workloads.runtime.state.manager import StateManager
from cortex_workloads.runtime.state.marks import Marks
from cortex_workloads.runtime.state.service import StateService
from datapunk.cortex import common_pb2, state_pb2
from datapunk.cortex.state_pb2_grpc import StateServiceStub, add_StateServiceServicer_to_server
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from state_desk import DESK, A, Desk

NAME = common_pb2.ResourceRef(namespace="default", name="desk")
NOBODY = "6f1c1e5e-0d1a-4a53-9a3b-0f6f3f6f8f10"


class Pod:
    """A pod's server with StateService alone, and a client of it."""

    def __init__(self, stack: AsyncExitStack, lake: Lake, url: str, resource: Resource = DESK) -> None:
        self._stack = stack
        self.lake = lake
        self.state = StateManager(lake, url, resource)
        settings = GraphSettings(
            resource_name=resource.name, listen_host="127.0.0.1", port_grpc=0, port_control=0, port_metrics=0,
            drain_seconds=30,
        )  # fmt: skip
        self.server = Server(settings, "graph")
        self.stub: Any = None

    async def open(self, *, started: bool = True) -> Pod:
        self._stack.push_async_callback(self.state.close)
        server = await self._stack.enter_async_context(self.server)
        service = StateService(DESK, self.state, Marks(self.lake, DESK), server.draining)
        server.add(add_StateServiceServicer_to_server, service, port="control")
        await server.start()
        if started:
            self.state.start("desk-graph-1", lambda: {"runs": 2})
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['control']}")
        self.stub = StateServiceStub(await self._stack.enter_async_context(channel))
        return self

    async def ask(self, method: str, **fields: Any) -> Any:
        kind = getattr(state_pb2, f"{method}Request")
        try:
            return await getattr(self.stub, method)(kind(**{"resource": NAME, **fields}), timeout=60)
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc_error(error) from error

    async def watch(self, **fields: Any) -> AsyncIterator[state_pb2.WatchStateResponse]:
        try:
            async for step in self.stub.WatchState(state_pb2.WatchStateRequest(resource=NAME, **fields)):
                yield step
        except grpc.aio.AioRpcError as error:
            raise errors.from_rpc_error(error) from error


@pytest.fixture
async def pods(lake: Lake, state_url: str) -> AsyncIterator[Callable[..., Pod]]:
    async with AsyncExitStack() as stack:
        yield lambda url=state_url: Pod(stack, lake, url)


@pytest.fixture
async def pod(pods: Callable[..., Pod]) -> Pod:
    return await pods().open()


async def read(
    pod: Pod, aggregate: str, until: Callable[[state_pb2.ReadStateResponse], bool], **fields: Any
) -> state_pb2.ReadStateResponse:
    async with asyncio.timeout(60):
        while True:
            reply: state_pb2.ReadStateResponse = await pod.ask("ReadState", aggregate=aggregate, **fields)
            if until(reply):
                return reply
            await asyncio.sleep(0.02)


def copied(version: int) -> Callable[[state_pb2.ReadStateResponse], bool]:
    return lambda reply: (reply.source, reply.state.version) == (state_pb2.STATE_SOURCE_COPY, version)


async def test_a_state_is_read_with_its_source_and_its_age(desk: Desk, pod: Pod) -> None:
    run = await desk.run("t", question="why?")
    await desk.store.succeed(run, {"answer": "because", "n": 3, "nothing": None}, 4)
    name = f"run/{run.id}"
    durable = await pod.ask("ReadState", aggregate=name, consistency="CONSISTENCY_DURABLE")
    assert (durable.source, durable.age.ToMilliseconds()) == (state_pb2.STATE_SOURCE_LAKE, 0)
    assert (durable.state.aggregate, durable.state.version) == (name, 2)
    fields = MessageToDict(durable.state.fields)
    assert (fields["status"], fields["steps"]) == ("Succeeded", 4)
    assert fields["output"] == {"answer": "because", "n": 3, "nothing": None}

    bound = Duration(seconds=60)
    copy = await read(pod, name, copied(2), consistency="CONSISTENCY_BOUNDED", bound=bound)
    assert copy.state == durable.state
    assert 0 < copy.age.ToMilliseconds() < 60_000
    latest = await pod.ask("ReadState", aggregate=name)
    assert (latest.state, latest.source) == (durable.state, state_pb2.STATE_SOURCE_COPY)
    assert (await pod.ask("ReadState", aggregate=name.upper().replace("RUN", "run"))).state == durable.state
    assert not (await pod.ask("ReadState", aggregate=f"run/{NOBODY}")).HasField("state")


async def test_a_replica_is_read_where_it_is(desk: Desk, pod: Pod) -> None:
    reply = await read(pod, "replica/desk-graph-1", lambda reply: reply.HasField("state"))
    assert MessageToDict(reply.state.fields) == {"pod": "desk-graph-1", "runs": 2}
    assert reply.source == state_pb2.STATE_SOURCE_COPY
    assert not (await pod.ask("ReadState", aggregate="replica/gone")).HasField("state")


async def test_without_the_shared_state_replicas_are_unknown_and_the_rest_is_read(
    desk: Desk, pods: Callable[..., Pod]
) -> None:
    pod = await pods("redis://127.0.0.1:1").open()
    run = await desk.run()
    with pytest.raises(Unavailable) as raised:
        await pod.ask("ReadState", aggregate="replica/x")
    assert raised.value.reason == "StateUnreachable"
    assert (await pod.ask("ReadState", aggregate=f"run/{run.id}")).source == state_pb2.STATE_SOURCE_LAKE
    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.restoring = 'on'")
        await connection.execute("UPDATE runs SET steps = 99 WHERE run_id = %s", (run.id,))
    assert len((await pod.ask("ExamineState")).report.rows) == 1
    report = (await pod.ask("RebuildState")).report
    assert not report.HasField("copy")
    assert "does not answer" in report.problem
    assert (report.position > 0, list(report.rows)) == (True, [])


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("ReadState", {"aggregate": ""}, "aggregate", "no aggregate ''"),
    ("ReadState", {"aggregate": "resource/x"}, "aggregate", "no aggregate"),
    ("ReadState", {"aggregate": "x" * 1000}, "aggregate", "no aggregate"),
    ("ReadState", {"aggregate": NOBODY}, "aggregate", f"did you mean run/{NOBODY}?"),
    ("ReadState", {"aggregate": "run/none"}, "aggregate", "UUID"),
    ("ReadState", {"aggregate": "revision/xyz"}, "aggregate", "10 hex digits"),
    ("ReadState", {"aggregate": "thread/"}, "aggregate", "1 to 128"),
    ("ReadState", {"aggregate": "thread/" + "x" * 129}, "aggregate", "1 to 128"),
    ("ReadState", {"aggregate": "thread/a\0b"}, "aggregate", "printable"),
    ("ReadState", {"aggregate": "replica/A/B"}, "aggregate", "by its pod"),
    ("ReadState", {"aggregate": "resource", "consistency": 9}, "consistency", "9"),
    ("ReadState", {"aggregate": "resource", "consistency": 3, "bound": Duration()}, "bound", "above 0"),
    ("ReadState", {"aggregate": "resource", "consistency": 3, "bound": Duration(seconds=-1)}, "bound", "above 0"),
    ("ReadState", {"aggregate": "resource", "consistency": 3, "bound": Duration(seconds=3601)}, "bound", "3600"),
    ("ReadState", {"aggregate": "resource", "bound": Duration(seconds=1)}, "bound", "Bounded alone"),
    ("StateHistory", {"aggregate": "replica/x"}, "aggregate", "no events"),
    ("StateHistory", {"aggregate": "resource", "limit": 501}, "limit", "500"),
    ("StateHistory", {"aggregate": "resource", "limit": -1}, "limit", "1 to 500"),
    ("StateHistory", {"aggregate": "resource", "after_version": -1}, "after_version", "-1"),
]


async def test_what_is_asked_for_is_checked(desk: Desk, pod: Pod) -> None:
    for method, fields, field, says in WRONG:
        with pytest.raises(InvalidInput) as raised:
            await pod.ask(method, **fields)
        assert [where for where, _ in raised.value.violations] == [field]
        assert says in str(raised.value)


async def test_another_resource_is_refused(desk: Desk, pod: Pod) -> None:
    for method in ("ReadState", "StateHistory", "ExamineState", "RebuildState"):
        with pytest.raises(FailedPrecondition, match="not default/other") as raised:
            await pod.ask(method, resource=common_pb2.ResourceRef(namespace="default", name="other"))
        assert raised.value.reason == "WrongResource"


async def test_before_the_schema_is_there_the_pod_says_that_it_starts(pods: Callable[..., Pod]) -> None:
    pod = await pods().open(started=False)
    async with asyncio.timeout(60):
        await pod.state._lake.answered()
    with pytest.raises(Unavailable) as raised:
        await pod.ask("ReadState", aggregate="resource")
    assert raised.value.reason == "Starting"
    with pytest.raises(Unavailable):
        await anext(pod.watch())


async def test_a_resource_that_the_lake_does_not_know_is_named(pod: Pod) -> None:
    for method in ("ExamineState", "RebuildState"):
        with pytest.raises(NotFound) as raised:
            await pod.ask(method)
        assert raised.value.reason == "ResourceUnknown"


async def test_a_history_comes_in_pages_of_a_bounded_size(
    desk: Desk, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await desk.run()
    for steps in range(1, 31):
        async with desk.lake.connection() as connection:
            await connection.execute("UPDATE runs SET steps = %s WHERE run_id = %s", (steps, run.id))
    await desk.rows("SELECT last FROM number_events(%s, 500)", await desk.row())
    name = f"run/{run.id}"
    whole = await pod.ask("StateHistory", aggregate=name)
    assert [event.version for event in whole.events] == list(range(1, 32))
    assert not whole.more
    assert (whole.events[0].type, whole.events[1].type) == ("RunStarted", "RunChanged")
    assert MessageToDict(whole.events[3].data) == {"steps": 3}
    assert whole.events[0].by != ""
    assert whole.events[0].at.seconds > 0

    first = await pod.ask("StateHistory", aggregate=name, limit=25)
    rest = await pod.ask("StateHistory", aggregate=name, after_version=first.events[-1].version)
    assert (len(first.events), first.more, rest.more) == (25, True, False)
    assert [*first.events, *rest.events] == [*whole.events]
    assert not (await pod.ask("StateHistory", aggregate=name, limit=31)).more
    assert (await pod.ask("StateHistory", aggregate=name, limit=30)).more

    monkeypatch.setattr(feed, "_BYTES", 1)
    assert (await pod.ask("StateHistory", aggregate=name)) == whole
    monkeypatch.setattr(service, "_PAGE_BYTES", sum(event.ByteSize() for event in whole.events[:7]))
    small = await pod.ask("StateHistory", aggregate=name)
    assert ([*small.events], small.more) == ([*whole.events[:7]], True)
    monkeypatch.setattr(service, "_PAGE_BYTES", 1)
    assert len((await pod.ask("StateHistory", aggregate=name)).events) == 1
    assert len((await pod.ask("StateHistory", aggregate=f"run/{NOBODY}")).events) == 0


async def test_a_megabyte_is_read_and_what_is_nested_too_deeply_is_named(desk: Desk, pod: Pod) -> None:
    large = await desk.run("large")
    await desk.store.succeed(large, {"text": ["x" * 1000] * 1100}, 1)
    reply = await pod.ask("ReadState", aggregate="thread/large")
    assert reply.ByteSize() > 1_100_000
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}
    run = await desk.run("deep")
    await desk.store.succeed(run, deep, 1)
    with pytest.raises(TooLarge, match="32 levels"):
        await pod.ask("ReadState", aggregate=f"run/{run.id}")
    events = (await pod.ask("StateHistory", aggregate=f"run/{run.id}")).events
    assert [event.HasField("data") for event in events] == [True, False]
    just: dict[str, Any] = {}
    for _ in range(29):
        just = {"a": just}
    edge = await desk.run("edge")
    await desk.store.succeed(edge, {"a": just}, 1)
    assert (await pod.ask("ReadState", aggregate=f"run/{edge.id}")).state.HasField("fields")


async def test_a_watch_says_where_it_begins_and_tells_every_change_once(desk: Desk, pod: Pod) -> None:
    before = await desk.run("a")
    watch = pod.watch()
    async with asyncio.timeout(60):
        begun = (await anext(watch)).position
        assert begun > 0
        await desk.store.succeed(before, {"n": 1}, 1)
        told = [await anext(watch), await anext(watch)]
    await watch.aclose()  # type: ignore[attr-defined]
    assert [step.position for step in told] == [begun + 1, begun + 2]
    assert [step.event.position for step in told] == [begun + 1, begun + 2]
    assert {step.event.type for step in told} == {"RunSucceeded", "ThreadAdvanced"}
    again = pod.watch(after=0)
    async with asyncio.timeout(60):
        assert (await anext(again)).position == 0
        assert [(await anext(again)).position for _ in range(begun + 2)] == list(range(1, begun + 3))
    await again.aclose()  # type: ignore[attr-defined]


async def test_a_position_that_is_not_there_is_refused_at_once(desk: Desk, pod: Pod) -> None:
    with pytest.raises(StateSyncFailed) as raised:
        await anext(pod.watch(after=10_000))
    assert raised.value.reason == "PositionUnknown"
    with pytest.raises(InvalidInput):
        await anext(pod.watch(after=-1))


async def first(pod: Pod, **fields: Any) -> state_pb2.WatchStateResponse:
    watch = pod.watch(**fields)
    async with asyncio.timeout(60):
        step = await anext(watch)
    await watch.aclose()  # type: ignore[attr-defined]
    return step


async def test_a_position_of_another_history_is_told_by_its_mark(desk: Desk, pod: Pod) -> None:
    await desk.run("a")
    watch = pod.watch(after=0)
    async with asyncio.timeout(60):
        begun = await anext(watch)
        end = (await pod.ask("ExamineState")).report.position
        steps = [await anext(watch) for _ in range(end)]
    await watch.aclose()  # type: ignore[attr-defined]
    last = steps[-1]
    assert (begun.position, begun.mark, last.position) == (0, "", end)
    assert len({step.mark for step in steps}) == end
    same: list[dict[str, Any]] = [{}, {"after": end}, {"after": end, "mark": last.mark}]
    for asked in same:
        assert await first(pod, **asked) == state_pb2.WatchStateResponse(position=end, mark=last.mark)

    await desk.elsewhere()
    await desk.run("b")
    with pytest.raises(StateSyncFailed, match="is another one") as raised:
        await first(pod, after=end, mark=last.mark)
    assert raised.value.reason == "PositionUnknown"
    assert (await first(pod, after=1, mark=steps[0].mark)).mark == steps[0].mark
    other = (await first(pod, after=end)).mark
    assert other not in ("", last.mark)
    assert (await first(pod, after=end, mark=other)).mark == other

    strange: list[dict[str, Any]] = [{"mark": other}, {"after": 0, "mark": other}, {"after": 1, "mark": "x"}]
    for asked in strange:
        with pytest.raises(InvalidInput, match="mark"):
            await first(pod, **asked)


async def test_a_watch_ends_when_its_history_becomes_another_one(desk: Desk, pod: Pod) -> None:
    await desk.run("a")
    end = (await pod.ask("ExamineState")).report.position
    watch = pod.watch(after=end - 1)
    async with asyncio.timeout(60):
        assert [(await anext(watch)).position for _ in range(2)] == [end - 1, end]
        await desk.elsewhere()
        with pytest.raises(StateSyncFailed, match="is another one"):
            await anext(watch)


async def test_a_pod_that_ends_sends_its_watchers_away(desk: Desk, pod: Pod) -> None:
    watch = pod.watch()
    async with asyncio.timeout(60):
        await anext(watch)
        stopping = asyncio.create_task(pod.server.stop())
        with pytest.raises(Unavailable) as raised:
            await anext(watch)
        await stopping
    assert raised.value.reason == "Draining"


def settled(report: state_pb2.StateReport) -> bool:
    """The copy is complete, and marked so, and the pod has said that it is there: one after the other, in any order."""
    return report.copy.position == report.position and report.copy.HasField("lag") and bool(report.replicas)


async def test_differences_are_reported_and_mended(
    desk: Desk, pods: Callable[..., Pod], state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A replica that stood still for seconds is there all the same.
    monkeypatch.setattr(presence, "LIVES_SECONDS", 600.0)
    pod = await pods().open()
    run = await desk.run("a")
    name = f"run/{run.id}"
    await read(pod, name, copied(1), consistency="CONSISTENCY_BOUNDED", bound=Duration(seconds=60))
    async with asyncio.timeout(60):
        # The pod looks for what others committed every half second.
        while not settled(fine := (await pod.ask("ExamineState")).report):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (list(fine.rows), list(fine.copies), fine.problem) == ([], [], "")
    assert fine.position > 0
    assert fine.copy.HasField("lag")
    assert [replica.aggregate for replica in fine.replicas] == ["replica/desk-graph-1"]

    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.restoring = 'on'")
        await connection.execute("UPDATE runs SET steps = 99 WHERE run_id = %s", (run.id,))
    client = aioredis.from_url(state_url)
    await client.hset("cortex:{workflow:default/desk}:state:resource", "retain", json.dumps(77))
    found = (await pod.ask("ExamineState")).report
    assert [one.aggregate for one in found.rows] == [name]
    assert "steps" in found.rows[0].message
    assert {one.aggregate for one in found.copies} == {name, "resource"}

    mended = (await pod.ask("RebuildState")).report
    assert (list(mended.rows), list(mended.copies)) == ([], [])
    assert mended.copy.epoch not in ("", fine.copy.epoch)
    assert MessageToDict((await pod.ask("ReadState", aggregate=name)).state.fields)["steps"] == 0
    assert MessageToDict((await pod.ask("ReadState", aggregate="resource")).state.fields)["current"] == A
    await client.aclose()
