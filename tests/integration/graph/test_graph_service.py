"""A run through a real pod: what it answers, what it refuses, what it keeps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from cortex_workloads.runtime.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    TooLarge,
    Unavailable,
    Unimplemented,
    from_rpc_error,
)
from cortex_workloads.runtime.state.aggregates import Consistency, Source
from datapunk.cortex import common_pb2, graph_pb2
from google.protobuf.json_format import MessageToDict
from grpc.aio import AioRpcError

Define = Callable[..., dict[str, Any]]
QUESTION = {"question": "How heavy is a blue whale?"}
COUNTS = {
    "input": {"schema": {"type": "object"}},
    "nodes": [
        {"name": "count", "type": "Transform", "transform": {"set": {"n": "has(state.n) ? state.n + 1 : 1"}}},
        {"name": "find", "type": "Search", "search": {"index": "papers", "query": "'q'"}},
    ],
    "edges": [{"from": "START", "to": "count"}, {"from": "count", "to": "find"}, {"from": "find", "to": "END"}],
}


def kinds(events: list[Any]) -> list[str]:
    return [event.WhichOneof("event") for event in events]


def output(events: list[Any]) -> dict[str, Any]:
    assert kinds(events)[-1] == "completed", events[-1]
    return MessageToDict(events[-1].completed.output)


async def test_a_question_is_answered_with_its_source(client: Any, define: Define, index: Any) -> None:
    revision = await client.ensure(define())
    events = await client.run(QUESTION)
    answer = output(events)
    assert kinds(events) == [
        "started",
        *("step", "step", "partial", "progress"),
        *("step", "step", "progress"),
        *("step", "step", "partial", "progress"),
        "completed",
    ]
    assert events[0].started.revision == revision.id
    assert events[0].started.attempt == 1
    assert "150 tonnes" in answer["answer"]
    assert (answer["sources"][0]["id"], answer["sources"][0]["index"]) == ("whale", "papers")
    assert answer["documents"][1]["meta"] == {"n": 2}
    assert events[6].step.message == "to answer: no case holds"
    assert len({event.event_id for event in events}) == len(events)
    assert events[-1].completed.steps == 3
    assert 0 < index.seconds_left[0] <= 600


async def test_without_documents_the_route_refuses(client: Any, define: Define, index: Any) -> None:
    await client.ensure(define())
    index.documents = []
    assert output(await client.run(QUESTION))["answer"] == "nothing found"


async def test_the_same_run_id_is_the_same_run(client: Any, define: Define, index: Any) -> None:
    await client.ensure(define())
    run_id = str(uuid.uuid4())
    first = await client.run(QUESTION, run_id=run_id)
    second = await client.run(QUESTION, run_id=run_id)
    assert [event.event_id for event in second] == [event.event_id for event in first]
    assert second == first
    assert len(index.requests) == 1
    with pytest.raises(InvalidInput, match="was started otherwise: input"):
        await client.run({"question": "another"}, run_id=run_id)
    with pytest.raises(InvalidInput, match="the run belongs to thread"):
        await client.run(QUESTION, run_id=run_id, thread_id="another")


async def test_every_violation_of_the_input_is_listed(client: Any, define: Define) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": {"minLength": 2}}},
    }
    await client.ensure(define({**COUNTS, "input": {"schema": {**schema, "required": ["c"]}}}))
    with pytest.raises(InvalidInput) as refused:
        await client.run({"a": 1.5, "b": ["ok", "x"]})
    assert [field for field, _ in refused.value.violations] == ["input", "input.a", "input.b[1]"]
    with pytest.raises(InvalidInput, match=r"U\+0000"):
        await client.run({"c": "\0"})
    assert output(await client.run({"a": 2, "c": 1}))["a"] == 2


async def test_input_is_bounded_by_the_state(client: Any, define: Define) -> None:
    await client.ensure(define({**COUNTS, "limits": {"stateBytes": "1Ki"}}))
    with pytest.raises(TooLarge, match=r"limits\.stateBytes \(1,024\)"):
        await client.run({"text": "x" * 1024})


async def test_a_thread_keeps_its_state_and_its_revision(client: Any, define: Define, index: Any) -> None:
    first = await client.ensure(define(COUNTS))
    assert output(await client.run({"a": 1}, thread_id="t"))["n"] == 1
    await client.ensure(define({**COUNTS, "limits": {"steps": 7}}))
    index.failures = [FailedPrecondition("no")]
    assert kinds(await client.run({"a": 2}, thread_id="t"))[-1] == "failed"
    events = await client.run({"b": 3}, thread_id="t")
    assert {key: output(events)[key] for key in "nab"} == {"n": 2, "a": 1, "b": 3}
    assert events[0].started.revision == first.id
    other = await client.run({})
    assert output(other)["n"] == 1
    assert other[0].started.revision != first.id


async def test_a_number_beyond_64_bits_is_kept_and_copied(
    client: Any, define: Define, index: Any, harness: Any
) -> None:
    """PostgreSQL has 1e20 as an integer of 21 digits, which nobody could write as JSON again."""
    node = {"name": "grow", "type": "Transform", "transform": {"set": {"n": "has(state.n) ? state.n * 2.0 : 1e20"}}}
    edges = [{"from": "START", "to": "grow"}, {"from": "grow", "to": "END"}]
    await client.ensure(define({**COUNTS, "nodes": [node], "edges": edges}))
    state = harness.pods[0].state
    for n in (1e20, 2e20):
        events = await client.run({}, thread_id="t")
        assert output(events)["n"] == n
    async with asyncio.timeout(60):
        reply = await state.read("thread/t", Consistency.DURABLE)
        # The last that a round of the relay does: it says that the copy is complete.
        while (await state.read("thread/t", Consistency.BOUNDED, 60.0)).source is not Source.COPY:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while (report := await state.examine()).standing.position < report.position:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.05)
    assert reply.state.fields["state"]["n"] == 2e20
    assert (report.problem, report.rows, report.copies) == ("", [], [])


async def test_a_thread_runs_one_run_at_a_time(client: Any, define: Define, index: Any) -> None:
    await client.ensure(define(COUNTS))
    index.gate.clear()
    run_id = str(uuid.uuid4())
    running = asyncio.create_task(client.run({}, run_id=run_id, thread_id="t"))
    await asyncio.wait_for(index.asked.wait(), 60)
    with pytest.raises(FailedPrecondition, match=f"run {run_id} of thread 't' is still running") as refused:
        await client.run({}, thread_id="t")
    assert refused.value.reason == "ThreadBusy"
    index.gate.set()
    assert output(await running)["n"] == 1
    assert output(await client.run({}, thread_id="t"))["n"] == 2


async def test_a_failed_node_is_named_with_its_reason(client: Any, define: Define, index: Any) -> None:
    await client.ensure(define())
    index.failures = [Unavailable("the index rests", remedy="wake it")] * 10
    events = await client.run(QUESTION)
    failed = events[-1].failed
    assert (failed.code, failed.node) == ("NodeUnavailable", "retrieve")
    assert "the index rests; wake it" in failed.message
    assert [e.step.phase for e in events if e.WhichOneof("event") == "step"][-1] == common_pb2.StepEvent.PHASE_FAILED


async def test_a_run_goes_on_when_its_caller_leaves(client: Any, define: Define, index: Any) -> None:
    await client.ensure(define())
    index.gate.clear()
    run_id = str(uuid.uuid4())
    leaving = asyncio.create_task(client.run(QUESTION, run_id=run_id))
    await asyncio.wait_for(index.asked.wait(), 60)
    leaving.cancel()
    await asyncio.wait([leaving])
    index.gate.set()
    assert "150 tonnes" in output(await client.run(run_id=run_id, attach_only=True))["answer"]
    assert len(index.requests) == 1


async def test_attaching_goes_on_after_an_event_without_gap_or_duplicate(
    client: Any, define: Define, index: Any
) -> None:
    await client.ensure(define())
    index.gate.clear()
    run_id = str(uuid.uuid4())
    whole = asyncio.create_task(client.run(QUESTION, run_id=run_id))
    await asyncio.wait_for(index.asked.wait(), 60)
    live = client.events(run_id=run_id, attach_only=True)
    early = [await anext(live)]
    middle = asyncio.create_task(client.run(run_id=run_id, attach_only=True, after_event_id=early[0].event_id))
    index.gate.set()
    events = await whole
    assert early + await middle == events
    assert early + [event async for event in live] == events
    for position, event in enumerate(events[:-1]):
        assert (
            await client.run(run_id=run_id, attach_only=True, after_event_id=event.event_id) == events[position + 1 :]
        )
    last = events[-1].event_id
    assert await client.run(run_id=run_id, attach_only=True, after_event_id=last) == events[-1:]


async def test_without_its_stream_a_run_ends_as_the_lake_says(client: Any, define: Define, harness: Any) -> None:
    import redis

    await client.ensure(define())
    events = await client.run(QUESTION)
    with redis.Redis.from_url(harness.settings["state_url"]) as state:
        state.flushdb()
    replayed = await client.run(run_id=events[0].run_id, attach_only=True)
    assert kinds(replayed) == ["completed"]
    assert (replayed[0].completed, replayed[0].event_id) == (events[-1].completed, "")


async def test_without_state_events_have_no_ids_and_runs_go_on(harness: Any, define: Define, index: Any) -> None:
    client = await harness.start(state_url="redis://127.0.0.1:1/0")
    await harness.ready(harness.pods[0])
    await client.ensure(define())
    index.gate.clear()
    run_id = str(uuid.uuid4())
    running = asyncio.create_task(client.run(QUESTION, run_id=run_id))
    await asyncio.wait_for(index.asked.wait(), 60)
    attached = asyncio.create_task(client.run(run_id=run_id, attach_only=True))
    index.gate.set()
    events = await running
    assert "150 tonnes" in output(events)["answer"]
    assert {event.event_id for event in events} == {""}
    assert output(await attached) == output(events)
    assert kinds(await client.run(run_id=run_id, attach_only=True)) == ["completed"]


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"run_id": str(uuid.uuid4()), "attach_only": True}, NotFound, "has no run"),
        ({"attach_only": True}, InvalidInput, "needs a run_id"),
        ({"run_id": "mine"}, InvalidInput, "is not a UUID"),
        ({"thread_id": "x" * 129}, InvalidInput, "thread id"),
        ({"after_event_id": "yesterday"}, InvalidInput, "not the id of an event"),
    ],
)
async def test_wrong_requests_are_refused(
    client: Any, define: Define, fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    await client.ensure(define())
    with pytest.raises(error, match=said):
        await client.run(QUESTION, **fields)


async def test_a_workflow_without_a_revision_says_so(client: Any) -> None:
    with pytest.raises(FailedPrecondition, match="has no current revision") as refused:
        await client.run(QUESTION)
    assert refused.value.reason == "NoRevision"


async def test_agents_are_answered_honestly(client: Any) -> None:
    workflow = common_pb2.ResourceRef(namespace="default", name="helpdesk")

    async def manage(**action: Any) -> graph_pb2.AgentResponse:
        try:
            return await client.graph.ManageAgents(graph_pb2.AgentRequest(**{"workflow": workflow, **action}))
        except AioRpcError as error:
            raise from_rpc_error(error) from error

    assert list((await manage(list=graph_pb2.ListAgents())).agents) == []
    with pytest.raises(NotFound, match="no agent 'x'"):
        await manage(get=graph_pb2.GetAgent(id="x"))
    with pytest.raises(Unimplemented, match="suspend needs an Agent node"):
        await manage(suspend=graph_pb2.SuspendAgent(id="x"))
    with pytest.raises(InvalidInput, match="no action"):
        await manage()
    with pytest.raises(FailedPrecondition, match="not default/other"):
        await manage(workflow=common_pb2.ResourceRef(namespace="default", name="other"))
