"""REST: the state of resources, as their pods tell it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from cortex_workloads.runtime.errors import StateSyncFailed, Unavailable
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state.manager import StateManager
from cortex_workloads.runtime.state.marks import Marks
from cortex_workloads.runtime.state.service import StateService
from cortex_workloads.runtime.telemetry import REGISTRY
from datapunk.cortex import state_pb2

ONE = "/v1/namespaces/default/workflows/helpdesk"
HELPDESK = Resource("CortexWorkflow", "default", "helpdesk")
PAPERS = "/v1/namespaces/default/indexes/papers"


def is_problem(reply: Any, status: int, reason: str) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = dict(reply.json())
    assert body["reason"] == reason
    return body


async def sse(reply: Any) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """(id, name, data) of each event."""
    event: dict[str, str] = {}
    async for line in reply.aiter_lines():
        if line:
            field, _, value = line.partition(":")
            event[field] = value.strip()
        elif "data" in event:
            yield event.get("id", ""), event.get("event", ""), json.loads(event["data"])
            event = {}


async def test_a_state_is_shown_with_its_source_and_age(helpdesk: Any) -> None:
    reply = await helpdesk.http.get(f"{ONE}/state/run/r?consistency=Bounded&boundMs=500")
    assert reply.json() == {
        "aggregate": "run/r", "version": 3, "fields": {"status": "Running", "steps": 2, "output": None},
        "source": "Copy", "ageSeconds": 0.25,
    }  # fmt: skip
    (asked,) = helpdesk.states.requests
    assert (asked.resource.name, asked.aggregate) == ("helpdesk", "run/r")
    assert (asked.consistency, asked.bound.ToMilliseconds()) == (state_pb2.CONSISTENCY_BOUNDED, 500)
    await helpdesk.http.get(f"{ONE}/state/run/r")
    assert (helpdesk.states.requests[1].consistency, helpdesk.states.requests[1].HasField("bound")) == (2, False)


async def test_names_of_threads_come_through_as_they_are(helpdesk: Any) -> None:
    body = is_problem(await helpdesk.http.get(f"{ONE}/state/thread/a%2Fb%20%3F%C3%A9"), 404, "AggregateNotFound")
    assert helpdesk.states.requests[0].aggregate == "thread/a/b ?é"
    assert body["detail"] == "CortexWorkflow default/helpdesk has no thread/a/b ?é"
    body = is_problem(await helpdesk.http.get(f"{ONE}/state/thread/%2E%2E"), 404, "AggregateNotFound")
    assert "has no thread/.." in body["detail"]


async def test_an_index_has_a_state_too(papers: Any) -> None:
    assert (await papers.http.get(f"{PAPERS}/state/run/r")).status_code == 200
    assert papers.states.requests[0].resource.name == "papers"


@pytest.mark.parametrize(
    "path",
    [
        "state/run/r?consistency=Psychic", "state/run/r?boundMs=0", "state/run/r?boundMs=3600001",
        "history/run/r?limit=501", "history/run/r?after=-1", "changes?after=-1",
    ],
)  # fmt: skip
async def test_wrong_parameters_are_named(helpdesk: Any, path: str) -> None:
    field = path.partition("?")[2].partition("=")[0]
    body = is_problem(await helpdesk.http.get(f"{ONE}/{path}"), 422, "InvalidInput")
    assert [error["field"] for error in body["errors"]] == [f"/query/{field}"]
    assert helpdesk.states.requests == []


async def test_a_bound_of_another_read_is_named_as_it_was_given(helpdesk: Any) -> None:
    body = is_problem(await helpdesk.http.get(f"{ONE}/state/run/r?boundMs=500"), 422, "InvalidInput")
    assert [error["field"] for error in body["errors"]] == ["/query/boundMs"]
    assert body["detail"] == "boundMs is of Bounded alone"


async def test_a_history_comes_in_pages(helpdesk: Any) -> None:
    for n in range(3):
        await helpdesk.states.add("RunChanged", steps=n)
    first = (await helpdesk.http.get(f"{ONE}/history/run/r?limit=2")).json()
    assert first["more"] is True
    assert first["events"][1] == {
        "position": 2, "aggregate": "run/r", "version": 2, "type": "RunChanged", "data": {"steps": 1},
        "at": "2023-11-14T22:13:20Z", "by": "pod-1",
    }  # fmt: skip
    rest = (await helpdesk.http.get(f"{ONE}/history/run/r?after=2")).json()
    assert ([event["version"] for event in rest["events"]], rest["more"]) == ([3], False)
    assert (await helpdesk.http.get(f"{ONE}/history/run/r?after=3")).json() == {"events": [], "more": False}
    is_problem(await helpdesk.http.get(f"{ONE}/history/run/none"), 404, "AggregateNotFound")


async def test_changes_begin_at_once_and_go_on_over_a_lost_pod(helpdesk: Any) -> None:
    await helpdesk.states.add("RunStarted")
    async with asyncio.timeout(60), helpdesk.http.stream("GET", f"{ONE}/changes") as reply:
        events = sse(reply)
        assert await anext(events) == ("1", "position", {"position": 1})
        await helpdesk.states.add("RunChanged", steps=1)
        event_id, name, data = await anext(events)
        assert (event_id, name, data["position"], data["data"]) == ("2", "change", 2, {"steps": 1})
        await helpdesk.lose(helpdesk.pods[0])
        await helpdesk.states.add("RunChanged", steps=2)
        await helpdesk.pod("helpdesk-graph")
        await helpdesk.states.add("RunSucceeded")
        assert [(await anext(events))[:2] for _ in range(2)] == [("3", "change"), ("4", "change")]


async def test_changes_that_break_are_looked_for_by_one_layer_which_counts(helpdesk: Any) -> None:
    def by_grpc() -> float:
        labels = {"service": "datapunk.cortex.StateService", "method": "WatchState"}
        return REGISTRY.get_sample_value("cortex_grpc_server_retries_total", labels) or 0.0

    def by_us() -> float:
        return REGISTRY.get_sample_value("cortex_retries_total", {"what": "Stream"}) or 0.0

    before = by_grpc(), by_us()
    async with asyncio.timeout(60), helpdesk.http.stream("GET", f"{ONE}/changes") as reply:
        events = sse(reply)
        await anext(events)
        helpdesk.states.fail = Unavailable("it begins", reason="Starting")
        await helpdesk.pod("helpdesk-graph")
        await helpdesk.lose(helpdesk.pods[0])
        while len(helpdesk.states.requests) < 4:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
        helpdesk.states.fail = None
        await helpdesk.states.add("RunSucceeded")
        assert (await anext(events))[1] == "change"
    assert by_grpc() == before[0]
    assert by_us() >= before[1] + 3


async def test_changes_go_on_after_the_last_id(helpdesk: Any) -> None:
    for _ in range(3):
        await helpdesk.states.add("RunChanged")
    for path, headers in (("changes?after=2", {}), ("changes?after=0", {"last-event-id": "2"})):
        async with asyncio.timeout(60), helpdesk.http.stream("GET", f"{ONE}/{path}", headers=headers) as reply:
            events = sse(reply)
            assert [(await anext(events))[:2] for _ in range(2)] == [("2", "position"), ("3", "change")]
    reply = await helpdesk.http.get(f"{ONE}/changes", headers={"last-event-id": "1-0"})
    assert "'1-0'" in is_problem(reply, 422, "InvalidInput")["detail"]
    for strange in ("", "x", "1-", "1-xyz", "1-0123ABCD", "1" * 19):
        reply = await helpdesk.http.get(f"{ONE}/changes", params={"after": strange})
        assert is_problem(reply, 422, "InvalidInput")["errors"][0]["field"] == "/query/after"


@pytest.fixture
async def lake(lake_dsn: str) -> AsyncIterator[Lake]:
    lake = Lake(lake_dsn, 4)
    await lake.open()
    await lake.answered()
    await migrate(lake)
    async with lake.transaction() as connection:
        await revisions.ensure(connection, HELPDESK, "aaaaaaaaaa", {"of": "a"}, 2)
    yield lake
    await lake.close()


async def test_an_id_of_a_history_that_is_no_more_is_refused(world: Any, lake: Lake, state_url: str) -> None:
    async with AsyncExitStack() as stack:
        manager = StateManager(lake, state_url, HELPDESK)
        stack.push_async_callback(manager.close)
        world.states = StateService(HELPDESK, manager, Marks(lake, HELPDESK), asyncio.Event())
        await world.pod("helpdesk-graph")
        manager.start("helpdesk-graph-1", dict)
        async with asyncio.timeout(60), world.http.stream("GET", f"{ONE}/changes?after=0") as reply:
            events = sse(reply)
            assert await anext(events) == ("0", "position", {"position": 0})
            told = [await anext(events) for _ in range(2)]
        for n, (event_id, name, data) in enumerate(told, 1):
            assert (event_id, name, data["position"]) == (f"{n}-{data['mark']}", "change", n)
        left = told[-1][0]
        async with asyncio.timeout(60), world.http.stream("GET", f"{ONE}/changes?after={left}") as reply:
            mark = left.partition("-")[2]
            assert await anext(sse(reply)) == (left, "position", {"position": 2, "mark": mark})

        async with lake.transaction() as connection:
            # A restored Lake goes another way, and overtakes.
            await connection.execute("SET LOCAL cortex.dropping = 'on'")
            await connection.execute(
                "WITH gone AS (DELETE FROM events WHERE position = 2 RETURNING *)"
                " INSERT INTO events (resource_id, aggregate, version, type, data, position)"
                " SELECT resource_id, 'thread/else', 9, 'ThreadAdvanced', '{}', position FROM gone"
            )
            await connection.execute("UPDATE resources SET retain = 7")
        for asked in ({"params": {"after": left}}, {"headers": {"last-event-id": left}}):
            body = is_problem(await world.http.get(f"{ONE}/changes", **asked), 409, "PositionUnknown")
            assert (body["retryable"], "is another one" in body["detail"]) == (False, True)
        async with asyncio.timeout(60), world.http.stream("GET", f"{ONE}/changes?after=2") as reply:
            assert (await anext(sse(reply)))[0] not in (left, "2")


async def test_a_position_that_is_not_there_is_a_problem(helpdesk: Any) -> None:
    helpdesk.states.fail = StateSyncFailed("the feed ends at 3", reason="PositionUnknown")
    assert is_problem(await helpdesk.http.get(f"{ONE}/changes?after=9"), 409, "PositionUnknown")["retryable"] is False


async def test_a_watch_that_cannot_begin_is_a_problem_at_once(helpdesk: Any) -> None:
    helpdesk.states.fail = Unavailable("the Lake is gone", reason="LakeUnreachable")
    async with asyncio.timeout(15):
        is_problem(await helpdesk.http.get(f"{ONE}/changes"), 503, "LakeUnreachable")


async def test_the_report_says_what_differs(helpdesk: Any) -> None:
    assert (await helpdesk.http.get(f"{ONE}/state")).json() == {
        "position": 7, "problem": "the shared state does not answer", "rows": [], "copies": [], "replicas": [],
    }  # fmt: skip
    report = state_pb2.StateReport(position=7, rows=[{"aggregate": "run/r", "message": "its row is missing"}])
    report.copy.epoch, report.copy.position = "e1", 5
    report.copy.lag.FromMilliseconds(1500)
    replica = report.replicas.add(aggregate="replica/p", version=4)
    replica.fields.update({"runs": 2})
    helpdesk.states.report = report
    assert (await helpdesk.http.get(f"{ONE}/state")).json() == {
        "position": 7,
        "copy": {"epoch": "e1", "position": 5, "lagSeconds": 1.5},
        "rows": [{"aggregate": "run/r", "message": "its row is missing"}],
        "copies": [],
        "replicas": [{"aggregate": "replica/p", "version": 4, "fields": {"runs": 2}}],
    }


async def test_a_rebuild_wants_a_body_that_pages_of_the_web_cannot_send(helpdesk: Any) -> None:
    is_problem(await helpdesk.http.post(f"{ONE}/state/rebuild"), 415, "UnsupportedMediaType")
    reply = await helpdesk.http.post(f"{ONE}/state/rebuild", json={"force": True})
    (mistake,) = is_problem(reply, 422, "InvalidInput")["errors"]
    assert mistake == {"field": "/force", "message": "there is no such field; write {}: it has none"}
    assert helpdesk.states.requests == []
    assert (await helpdesk.http.post(f"{ONE}/state/rebuild", json={})).json()["position"] == 7


async def test_pods_of_the_release_before_are_told_from_a_defect(world: Any) -> None:
    await world.pod("helpdesk-graph", states=False)
    body = is_problem(await world.http.get(f"{ONE}/state/run/r"), 501, "Unimplemented")
    assert "of a release that does not tell its state" in body["detail"]
