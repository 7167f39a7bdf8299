"""Load that the gateway sheds: by class, and no resource takes the places of the others; REST and gRPC share them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from cortex_workloads.runtime import errors
from cortex_workloads.runtime.errors import Overloaded
from cortex_workloads.runtime.resilience.policies import (
    GatewayLimits,
    GatewayRunsLimit,
    GatewayStateLimit,
    GatewayWritingLimit,
)
from datapunk.cortex import api_pb2, api_pb2_grpc, common_pb2

PAPERS = "/v1/namespaces/default/indexes/papers"
BOOKS = "/v1/namespaces/default/indexes/books"
RUNS = "/v1/namespaces/default/workflows/helpdesk/runs"
DOCUMENTS = {"documents": [{"id": "1", "content": "bees fly"}]}
LIMITS = GatewayLimits(
    writing=GatewayWritingLimit(concurrent=2),
    runs=GatewayRunsLimit(concurrent=2),
    state=GatewayStateLimit(concurrent=2),
)


@pytest.fixture
async def limited(worlds: Any, tmp_path: Path, state_url: str) -> AsyncIterator[Any]:
    """A gateway with two places for writes, runs and states: one for each resource; both have a pod."""
    async with AsyncExitStack() as stack:
        world = worlds(stack, tmp_path, state_url)
        await world.open(limits=LIMITS)
        for service in ("papers-search", "helpdesk-graph"):
            await world.pod(service)
        yield world


async def writing(world: Any) -> asyncio.Task[Any]:
    """A write that has reached the pod, which holds it."""
    world.haystack.hold = asyncio.Event()
    call = asyncio.create_task(world.http.post(f"{PAPERS}/documents", json=DOCUMENTS))
    await asyncio.wait_for(world.haystack.holding.wait(), 60)
    return call


async def test_a_resource_that_holds_its_share_is_refused_and_the_others_go_on(limited: Any) -> None:
    call = await writing(limited)
    # Before its body is read: it would be refused as no JSON.
    reply = await limited.http.post(f"{PAPERS}/documents", content=b"not read")
    problem = reply.json()
    assert (reply.status_code, problem["reason"], problem["family"]) == (429, "Overloaded", "Exhausted")
    assert "default/indexes/papers hold half of the places" in problem["detail"]
    assert int(reply.headers["retry-after"]) >= 1
    assert (await limited.http.post(f"{PAPERS}/search", json={"query": "bees"})).status_code == 200
    assert (await limited.http.post(f"{BOOKS}/documents", json=DOCUMENTS)).status_code == 404
    assert (await limited.http.get(f"{PAPERS}/progress")).status_code == 200
    limited.haystack.hold.set()
    assert (await call).status_code == 200
    assert (await limited.http.post(f"{PAPERS}/documents", json=DOCUMENTS)).status_code == 200


async def test_rest_and_grpc_share_the_places(limited: Any) -> None:
    started = asyncio.create_task(limited.http.post(RUNS, json={"input": {"question": "why?"}}))
    run = await asyncio.wait_for(limited.runs.started.get(), 60)
    helpdesk = common_pb2.ResourceRef(namespace="default", name="helpdesk")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{limited.ports['grpc']}") as channel:
        api: Any = api_pb2_grpc.CortexAPIStub(channel)
        query = api_pb2.WorkflowQuery(workflow=helpdesk)
        for call in (
            api.ProcessQuery(api_pb2.QueryRequest(workflow=query), timeout=30),
            anext(aiter(api.StreamAnalysis(api_pb2.AnalysisRequest(workflow=helpdesk), timeout=30))),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            told = errors.from_rpc_error(raised.value)
            assert isinstance(told, Overloaded)
            assert told.retry_after is not None
    await limited.runs.complete(run, answer="because")
    assert (await started).status_code == 200
    assert (await limited.http.get(f"{RUNS}/{run}?wait=30")).json()["status"] == "Completed"


async def test_who_follows_changes_holds_a_place_and_takes_none_of_searches(limited: Any) -> None:
    state = f"{PAPERS}/state/run/r"
    async with limited.http.stream("GET", f"{PAPERS}/changes") as following:
        lines = following.aiter_lines()
        await asyncio.wait_for(anext(lines), 60)
        for more in (state, f"{PAPERS}/changes", f"{PAPERS}/history/run/r", f"{PAPERS}/progress", f"{PAPERS}/state"):
            reply = await limited.http.get(more)
            assert (reply.status_code, reply.json()["reason"]) == (429, "Overloaded")
        assert (await limited.http.post(f"{PAPERS}/search", json={"query": "bees"})).status_code == 200
        assert (await limited.http.get(state.replace("indexes/papers", "workflows/helpdesk"))).status_code == 200
    async with asyncio.timeout(60):
        while (await limited.http.get(state)).status_code != 200:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
