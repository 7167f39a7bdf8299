"""Runs: waited for, streamed, resumed, followed over pods that die."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cortex_workloads.gateway import replies
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY
from datapunk.cortex import api_pb2, api_pb2_grpc, common_pb2, state_pb2
from google.protobuf.struct_pb2 import Struct

RUNS = "/v1/namespaces/default/workflows/helpdesk/runs"
SSE = {"accept": "text/event-stream"}
ASK = {"input": {"question": "why?"}}


async def events(reply: Any) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """(id, name, data) of each server-sent event."""
    event: dict[str, str] = {}
    async for text in reply.aiter_lines():
        name, _, value = text.partition(": ")
        if text and name:
            event[name] = value
        elif "data" in event:
            yield event.get("id", ""), event["event"], json.loads(event["data"])
            event = {}


def streams_again() -> float:
    return REGISTRY.get_sample_value("cortex_retries_total", {"what": "Stream"}) or 0.0


async def finish(helpdesk: Any, *nodes: str) -> str:
    run_id = str(await helpdesk.runs.started.get())
    await helpdesk.runs.say(run_id, *nodes)
    await helpdesk.runs.complete(run_id, answer="because", count=3)
    return run_id


async def test_a_run_is_waited_for(helpdesk: Any) -> None:
    reply, run_id = await asyncio.gather(helpdesk.http.post(RUNS, json=ASK), finish(helpdesk, "say"))
    assert reply.status_code == 200
    assert reply.json() == {
        "runId": run_id, "threadId": "t1", "revision": "abc", "status": "Completed", "steps": 2,
        "output": {"answer": "because", "count": 3}, "tookSeconds": 0.0,
    }  # fmt: skip


async def test_a_run_is_streamed(helpdesk: Any) -> None:
    finishing = asyncio.create_task(finish(helpdesk, "say"))
    async with helpdesk.http.stream("POST", RUNS, json=ASK, headers=SSE) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        seen = [event async for event in events(reply)]
    run_id = await finishing
    assert [(event_id, name) for event_id, name, _ in seen] == [
        ("1000-0", "started"), ("1001-0", "step"), ("1002-0", "completed"),
    ]  # fmt: skip
    assert seen[1][2]["runId"] == run_id
    assert (seen[1][2]["node"], seen[1][2]["phase"]) == ("say", "Succeeded")
    assert seen[2][2]["output"] == {"answer": "because", "count": 3}


async def test_an_input_that_does_not_fit_names_every_violation(helpdesk: Any) -> None:
    reply = await helpdesk.http.post(RUNS, json={"input": {"question": "x" * 51, "depth": "deep", "else": 1}})
    assert reply.status_code == 422
    fields = [error["field"] for error in reply.json()["errors"]]
    assert sorted(fields) == ["/input", "/input/depth", "/input/question"]
    assert helpdesk.runs.requests == []


async def test_a_huge_input_is_cut_in_the_message_and_the_reason_is_kept(helpdesk: Any) -> None:
    body = (await helpdesk.http.post(RUNS, json={"input": {"question": "x" * 1_000_000}})).json()
    assert body["detail"].endswith("is too long; the limit is 50 characters")
    assert len(body["detail"]) < 250
    assert body["errors"][0]["message"].endswith("the limit is 50 characters")
    assert "spec.input.schema" in body["remedy"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("NodeFailed", 422), ("ExpressionFailed", 422), ("StepsExceeded", 422), ("StateTooLarge", 422),
        ("Interrupted", 503), ("NodeUnavailable", 503), ("DeadlineExceeded", 504), ("Internal", 500),
        ("SomethingNew", 500),
    ],
)  # fmt: skip
async def test_a_failed_run_is_a_problem_with_the_runs_own_code(helpdesk: Any, code: str, status: int) -> None:
    async def fail() -> str:
        run_id = str(await helpdesk.runs.started.get())
        failed = common_pb2.RunFailed(code=code, message="say broke; twice; mend it", node="say")
        await helpdesk.runs.add(run_id, failed=failed)
        return run_id

    reply, run_id = await asyncio.gather(helpdesk.http.post(RUNS, json=ASK), fail())
    body = reply.json()
    assert (reply.status_code, body["reason"], body["run"]["runId"]) == (status, code, run_id)
    assert (body["detail"], body["remedy"]) == (f"run {run_id} failed: say broke; twice", "mend it")
    shown = (await helpdesk.http.get(f"{RUNS}/{run_id}?wait=30")).json()
    assert (shown["status"], shown["error"]["node"]) == ("Failed", "say")


async def test_a_run_that_goes_on_is_shown_as_running_then_waited_for(helpdesk: Any) -> None:
    asking = asyncio.create_task(helpdesk.http.post(RUNS, json={**ASK, "runId": "r1"}))
    await helpdesk.runs.started.get()
    assert (await helpdesk.http.get(f"{RUNS}/r1")).json()["status"] == "Running"
    waiting = asyncio.create_task(helpdesk.http.get(f"{RUNS}/r1?wait=20"))
    await helpdesk.runs.complete("r1", answer="now")
    assert (await waiting).json()["output"] == {"answer": "now"}
    assert (await asking).json()["runId"] == "r1"


async def test_an_unknown_run_is_not_found(helpdesk: Any) -> None:
    for path in ("none", "none/events"):
        reply = await helpdesk.http.get(f"{RUNS}/{path}", headers=SSE)
        assert (reply.status_code, reply.json()["reason"]) == (404, "RunNotFound")
        assert reply.json()["remedy"] == "see the run id, or start a run by POST .../runs"


async def test_a_run_that_nobody_tells_of_is_not_called_running(helpdesk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex_workloads.gateway.state._READ_SECONDS", 0.01)
    helpdesk.runs.silent, helpdesk.states.hangs = lambda: True, True
    reply = await helpdesk.http.get(f"{RUNS}/r1")
    body = reply.json()
    assert (reply.status_code, body["reason"], body["retryable"]) == (504, "DeadlineExceeded", True)
    assert body["detail"] == "CortexWorkflow default/helpdesk does not say in time how run r1 is"
    assert "PostgreSQL" in body["remedy"]


async def test_why_nobody_tells_of_a_run_is_told(helpdesk: Any) -> None:
    helpdesk.runs.silent = lambda: True
    helpdesk.states.fail = Unavailable("the Lake does not answer", reason="LakeUnreachable")
    reply = await helpdesk.http.get(f"{RUNS}/r1")
    assert (reply.status_code, reply.json()["reason"], reply.json()["retryable"]) == (503, "LakeUnreachable", True)


async def test_a_silent_run_is_as_the_lake_has_it(helpdesk: Any) -> None:
    helpdesk.states.runs["run/r1"] = {"status": "Running", "thread": "t1", "revision": "abc", "steps": 2}
    helpdesk.runs.silent = lambda: True
    assert (await helpdesk.http.get(f"{RUNS}/r1")).json() == {
        "runId": "r1", "threadId": "t1", "revision": "abc", "status": "Running", "steps": 2,
    }  # fmt: skip
    assert helpdesk.states.requests[-1].consistency == state_pb2.CONSISTENCY_DURABLE
    unknown = await helpdesk.http.get(f"{RUNS}/none")
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "workflow 'helpdesk' has no run none")
    assert unknown.json()["remedy"] == "see the run id, or start a run by POST .../runs"


async def test_a_run_that_ended_and_answers_late_is_told_with_its_end(
    helpdesk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cortex_workloads.gateway.runs._ENDED_SECONDS", 60.0)
    await helpdesk.runs.complete("r1", answer="because")
    helpdesk.states.runs["run/r1"] = {"status": "Succeeded", "thread": "t1", "revision": "abc", "steps": 2}
    helpdesk.runs.silent = lambda: not helpdesk.states.requests
    shown = (await helpdesk.http.get(f"{RUNS}/r1")).json()
    assert (shown["status"], shown["output"]) == ("Completed", {"answer": "because"})


@pytest.mark.parametrize(("path", "headers"), [("r1/events", {"last-event-id": "x"}), ("r%201", {}), ("r1?wait=x", {})])
async def test_ids_that_are_none_are_refused(helpdesk: Any, path: str, headers: dict[str, str]) -> None:
    reply = await helpdesk.http.get(f"{RUNS}/{path}", headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")


async def test_a_parameter_that_is_wrong_is_named(helpdesk: Any) -> None:
    body = (await helpdesk.http.get(f"{RUNS}/r1?wait=601")).json()
    assert body["detail"].startswith("the parameter wait is not valid: Input should be less than")
    assert (body["errors"][0]["field"], "/docs" in body["remedy"]) == ("/query/wait", True)


async def test_events_resume_after_the_last_one_seen(helpdesk: Any) -> None:
    finishing = asyncio.create_task(finish(helpdesk, "a", "b", "c"))
    seen = []
    async with helpdesk.http.stream("POST", RUNS, json=ASK, headers=SSE) as reply:
        async for event in events(reply):
            seen.append(event)
            if event[1] == "step":
                break
    run_id = await finishing
    headers = {"last-event-id": seen[-1][0]}
    async with helpdesk.http.stream("GET", f"{RUNS}/{run_id}/events", headers=headers) as reply:
        seen += [event async for event in events(reply)]
    assert [event[0] for event in seen] == ["1000-0", "1001-0", "1002-0", "1003-0", "1004-0"]


async def test_a_client_that_saw_the_end_is_told_the_end_again(helpdesk: Any) -> None:
    _, run_id = await asyncio.gather(helpdesk.http.post(RUNS, json=ASK), finish(helpdesk))
    headers = {"last-event-id": "1001-0"}
    async with helpdesk.http.stream("GET", f"{RUNS}/{run_id}/events", headers=headers) as reply:
        assert [event[:2] async for event in events(reply)] == [("1001-0", "completed")]


async def test_a_run_without_live_progress_still_ends(helpdesk: Any) -> None:
    helpdesk.runs.ids = False
    seen = []
    async with helpdesk.http.stream("POST", RUNS, json=ASK, headers=SSE) as reply:
        stream = events(reply)
        run_id = (await anext(stream))[2]["runId"]
        await helpdesk.runs.say(run_id, "a")
        seen.append(await anext(stream))
        await helpdesk.lose(helpdesk.pods[0])
        await helpdesk.pod("helpdesk-graph")
        await helpdesk.runs.complete(run_id, answer="yes")
        seen += [event async for event in stream]
    assert [event[:2] for event in seen] == [("", "step"), ("", "completed")], "no event twice"


async def test_a_pod_that_dies_leaves_no_gap_and_no_duplicate(helpdesk: Any) -> None:
    seen, before = [], streams_again()
    async with helpdesk.http.stream("POST", RUNS, json=ASK, headers=SSE) as reply:
        stream = events(reply)
        run_id = (await anext(stream))[2]["runId"]
        await helpdesk.runs.say(run_id, "a", "b")
        seen += [await anext(stream), await anext(stream)]
        await helpdesk.lose(helpdesk.pods[0])
        await helpdesk.runs.say(run_id, "c")
        await helpdesk.pod("helpdesk-graph")
        await helpdesk.runs.say(run_id, "d")
        await helpdesk.runs.complete(run_id, answer="after all")
        seen += [event async for event in stream]
    assert [event[2].get("node") for event in seen] == ["a", "b", "c", "d", None]
    assert seen[-1][2]["output"] == {"answer": "after all"}
    assert {request.run_id for request in helpdesk.runs.requests} == {run_id}
    assert helpdesk.runs.requests[-1].after_event_id == "1002-0"
    assert streams_again() > before


async def test_a_workflow_without_pods_is_unavailable(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex_workloads.gateway.runs._LOST_SECONDS", 0.0)
    monkeypatch.setattr("cortex_workloads.runtime.channels._WAIT_SECONDS", 0.05)
    for headers in ({}, SSE):
        reply = await world.http.post(RUNS, json=ASK, headers=headers)
        assert (reply.status_code, reply.json()["reason"]) == (503, "NotReady")
        assert "CortexWorkflow default/helpdesk" in reply.json()["detail"]


async def test_a_quiet_stream_is_kept_alive_by_comments(helpdesk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "HEARTBEAT_SECONDS", 0.02)
    async with helpdesk.http.stream("POST", RUNS, json=ASK, headers=SSE) as reply:
        lines = reply.aiter_lines()
        async with asyncio.timeout(30):
            while not (await anext(lines)).startswith(": "):
                pass
        await helpdesk.runs.complete(str(await helpdesk.runs.started.get()), answer="still")
        rest = [text async for text in lines]
    assert any("still" in text for text in rest if text.startswith("data"))


async def test_a_client_that_leaves_ends_the_call_to_the_pod(helpdesk: Any) -> None:
    async with helpdesk.http.stream("POST", RUNS, json=ASK, headers=SSE) as reply:
        await anext(events(reply))
        assert not helpdesk.runs.left.is_set()
    await asyncio.wait_for(helpdesk.runs.left.wait(), 60)


async def test_who_waits_for_a_run_when_the_gateway_ends_is_told_which_run_goes_on(
    worlds: Any, tmp_path: Path, state_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        world = worlds(stack, tmp_path, state_url)
        # First, so that it outlives the gateway.
        await world.pod("helpdesk-graph")
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            await world.open()
            url = f"http://127.0.0.1:{world.ports['http']}{RUNS}"
            async with http.stream("POST", url, json={**ASK, "runId": "r2"}, headers=SSE) as following:
                followed = events(following)
                assert (await anext(followed))[1] == "started"
                waiting = asyncio.create_task(http.post(url, json=ASK))
                while (run_id := await world.runs.started.get()) == "r2":
                    pass
                await stack.aclose()
                body = (await waiting).json()
                assert (body["status"], body["reason"], body["retryable"]) == (503, "Draining", True)
                assert run_id in body["detail"]
                assert body["remedy"] == f"ask how it is by GET .../runs/{run_id}"
                ((_, name, problem),) = [event async for event in followed]
                assert (name, problem["reason"]) == ("interrupted", "Draining")
    # The collector may tell of what tests before left.
    ours = [record for record in caplog.records if record.name.startswith(("cortex", "uvicorn"))]
    assert [record for record in ours if record.exc_info] == []


@pytest.fixture
async def api(helpdesk: Any) -> AsyncIterator[Any]:
    await helpdesk.pod("papers-search")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{helpdesk.ports['grpc']}") as channel:
        yield api_pb2_grpc.CortexAPIStub(channel)


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


HELPDESK = common_pb2.ResourceRef(namespace="default", name="helpdesk")
PAPERS = common_pb2.ResourceRef(namespace="default", name="papers")


async def test_cortex_api_searches(api: Any, helpdesk: Any) -> None:
    helpdesk.haystack.documents["1"] = common_pb2.Document(id="1", content="bees")
    accepted = [common_pb2.FALLBACK_TEXT_ONLY]
    query = api_pb2.IndexQuery(
        index=PAPERS, query="bees", top_k=3, filter=struct(field="meta.year"), fallbacks=accepted
    )
    reply = await api.ProcessQuery(api_pb2.QueryRequest(index=query), timeout=60)
    assert [hit.id for hit in reply.search.hits] == ["1"]
    assert dict(helpdesk.haystack.searches[0].filter) == {"field": "meta.year"}
    assert list(helpdesk.haystack.searches[0].fallbacks) == accepted
    query.fallbacks.append(17)  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.ProcessQuery(api_pb2.QueryRequest(index=query), timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_cortex_api_runs_to_the_end(api: Any, helpdesk: Any) -> None:
    query = api_pb2.WorkflowQuery(workflow=HELPDESK, input=struct(question="why?"))
    call = api.ProcessQuery(api_pb2.QueryRequest(workflow=query), timeout=60)
    reply, _ = await asyncio.gather(call, finish(helpdesk))
    assert reply.run.completed.output["answer"] == "because"


async def test_cortex_api_streams_and_resumes(api: Any, helpdesk: Any) -> None:
    request = api_pb2.AnalysisRequest(workflow=HELPDESK, input=struct(question="why?"), run_id="r7")
    finishing = asyncio.create_task(finish(helpdesk, "a"))
    seen = [reply.event.event_id async for reply in api.StreamAnalysis(request, timeout=60)]
    await finishing
    request.after_event_id = seen[0]
    again = [reply.event.event_id async for reply in api.StreamAnalysis(request, timeout=60)]
    assert seen == ["1000-0", "1001-0", "1002-0"]
    assert again == seen[1:]


@pytest.mark.parametrize(
    ("request_", "code", "says"),
    [
        (api_pb2.QueryRequest(), grpc.StatusCode.INVALID_ARGUMENT, "no target"),
        (api_pb2.QueryRequest(index={"index": PAPERS}), grpc.StatusCode.INVALID_ARGUMENT, "/query"),
        (api_pb2.QueryRequest(workflow={"workflow": HELPDESK}), grpc.StatusCode.INVALID_ARGUMENT, "/input"),
        (api_pb2.QueryRequest(index={"query": "x"}), grpc.StatusCode.NOT_FOUND, "no CortexIndex"),
    ],
)
async def test_cortex_api_refuses_by_status(api: Any, request_: Any, code: grpc.StatusCode, says: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await api.ProcessQuery(request_, timeout=60)
    assert raised.value.code() is code
    assert says in (raised.value.details() or "")


async def test_cortex_api_tells_a_failed_run(api: Any, helpdesk: Any) -> None:
    async def fail() -> None:
        failed = common_pb2.RunFailed(code="DeadlineExceeded", message="too slow")
        await helpdesk.runs.add(await helpdesk.runs.started.get(), failed=failed)

    query = api_pb2.WorkflowQuery(workflow=HELPDESK, input=struct(question="why?"))
    failing = asyncio.create_task(fail())
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await api.ProcessQuery(api_pb2.QueryRequest(workflow=query), timeout=60)
    await failing
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
