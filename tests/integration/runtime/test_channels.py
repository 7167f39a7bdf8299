"""Channels follow the catalogue file: balance, pods that come and go, errors that name the resource."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.catalogue import FileCatalogue
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import GatewaySettings, SearchSettings
from cortex_workloads.runtime.targets import target
from cortex_workloads.runtime.telemetry import REGISTRY
from datapunk.cortex import common_pb2, graph_pb2, graph_pb2_grpc, search_pb2, search_pb2_grpc

TARGET = target("papers", "CortexIndex", "default")


SEARCH = {"service": "datapunk.cortex.HaystackService", "method": "Search"}


class Pod(search_pb2_grpc.HaystackServiceServicer, graph_pb2_grpc.GraphServiceServicer):
    def __init__(self, name: str) -> None:
        self.name = name
        self.go_on = asyncio.Event()
        self.busy = 0

    async def Search(self, request: search_pb2.SearchRequest, context: Any) -> search_pb2.SearchResponse:
        match request.query:
            case "fail":
                raise FailedPrecondition("another index", reason="WrongPod", remedy="ask another")
            case "busy":
                self.busy += 1
                raise Unavailable("not now", reason="Busy")
            case "wait":
                await self.go_on.wait()
            case "trace":
                sent = dict(context.invocation_metadata())["traceparent"]
                return search_pb2.SearchResponse(result=common_pb2.SearchResult(revision=sent))
        return search_pb2.SearchResponse(result=common_pb2.SearchResult(revision=self.name))

    async def UpdateIndex(self, _: Any, __: Any) -> Any:
        raise NotImplementedError

    async def ExecuteWorkflow(self, _: Any, __: Any) -> AsyncIterator[graph_pb2.WorkflowResponse]:
        yield graph_pb2.WorkflowResponse(event=common_pb2.RunEvent(run_id="first"))
        await self.go_on.wait()
        yield graph_pb2.WorkflowResponse(event=common_pb2.RunEvent(run_id="second"))

    async def ManageAgents(self, _: Any, __: Any) -> Any:
        raise NotImplementedError


class Place:
    """Pods, the catalogue file and channels over it."""

    def __init__(self, stack: AsyncExitStack, directory: Path) -> None:
        self._stack, self.file = stack, directory / "catalogue.json"
        self.ports: dict[str, int] = {}
        self.pods: dict[str, tuple[Pod, Server]] = {}

    async def start(self, name: str) -> Pod:
        settings = SearchSettings(listen_host="127.0.0.1", port_grpc=0, port_metrics=0, port_control=0, drain_seconds=5)
        server = await self._stack.enter_async_context(Server(settings, name))
        pod = Pod(name)
        server.add(search_pb2_grpc.add_HaystackServiceServicer_to_server, pod)
        server.add(graph_pb2_grpc.add_GraphServiceServicer_to_server, pod)
        await server.start()
        self.pods[name] = (pod, server)
        return pod

    def ready(self, *names: str, condition: dict[str, Any] | None = None) -> None:
        status = {"status": {"conditions": [condition]}} if condition else {}
        metadata = {"name": "papers", "namespace": "default"}
        item = {"apiVersion": "cortex.datapunk.io/v1alpha1", "kind": "CortexIndex", "metadata": metadata, **status}
        slices = [
            {
                "metadata": {"labels": {"kubernetes.io/service-name": "papers-search-headless"}},
                "ports": [{"name": "grpc", "port": self.pods[name][1].ports["grpc"]}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            }
            for name in names
        ]
        self.file.with_suffix(".new").write_text(json.dumps({"items": [item], "endpointSlices": slices}))
        os.replace(self.file.with_suffix(".new"), self.file)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield Place(stack, tmp_path)


@pytest.fixture
async def channels(place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Channels]:
    # What comes is waited for, however busy this machine is.
    monkeypatch.setattr("cortex_workloads.runtime.channels._WAIT_SECONDS", 60.0)
    async with Channels(GatewaySettings(catalogue_file=place.file)) as made:
        yield made


@pytest.fixture
def haystack(channels: Channels) -> Any:
    return search_pb2_grpc.HaystackServiceStub(channels.channel(TARGET))


async def asked(haystack: Any, query: str = "who", **options: Any) -> str:
    reply = await haystack.Search(search_pb2.SearchRequest(query=query), **options)
    return str(reply.result.revision)


def counted(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


async def test_calls_are_spread_over_the_ready_pods(place: Place, haystack: Any) -> None:
    for name in "abc":
        await place.start(name)
    place.ready("a", "b")
    seen: set[str] = set()
    async with asyncio.timeout(60):
        while seen != {"a", "b"}:
            seen.add(await asked(haystack))


async def test_the_same_stub_follows_the_pods(place: Place, haystack: Any) -> None:
    for name in "ab":
        await place.start(name)
    place.ready("a")
    assert await asked(haystack) == "a"
    place.ready("b")
    async with asyncio.timeout(60):
        while await asked(haystack) != "b":
            pass


async def test_a_call_in_progress_keeps_the_pod_that_it_has(place: Place, haystack: Any, channels: Channels) -> None:
    pod = await place.start("a")
    await place.start("b")
    place.ready("a")
    graph = graph_pb2_grpc.GraphServiceStub(channels.channel(TARGET))
    stream = aiter(graph.ExecuteWorkflow(graph_pb2.WorkflowRequest(), timeout=60))
    assert (await anext(stream)).event.run_id == "first"
    place.ready("b")
    async with asyncio.timeout(60):
        while await asked(haystack) != "b":
            pass
    pod.go_on.set()
    assert (await anext(stream)).event.run_id == "second"


async def test_a_call_waits_for_the_first_pod(place: Place, haystack: Any) -> None:
    await place.start("a")
    call = asyncio.create_task(asked(haystack, timeout=60))
    await asyncio.wait({call}, timeout=0.05)
    assert not call.done()
    place.ready("a")
    assert await call == "a"


async def test_no_pod_is_unavailable_with_the_conditions_words(place: Place, haystack: Any, channels: Channels) -> None:
    condition = {
        "type": "Ready", "status": "False", "reason": "ImageMissing", "message": "pull it", "lastTransitionTime": "x",
    }  # fmt: skip
    place.ready(condition=condition)
    assert isinstance(channels._catalogue, FileCatalogue)
    channels._catalogue.refresh()
    begun = time.monotonic()
    with pytest.raises(
        Unavailable, match="CortexIndex default/papers has no ready pod: ImageMissing: pull it"
    ) as raised:
        await asked(haystack, timeout=0.3)
    assert raised.value.reason == "ImageMissing"
    assert time.monotonic() - begun < 30, "the call's own deadline bounds the wait"


async def test_a_pod_that_is_gone_from_its_address_is_unavailable(
    place: Place, haystack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.start("a")
    place.ready("a")
    assert await asked(haystack) == "a"
    monkeypatch.setattr("cortex_workloads.runtime.channels._WAIT_SECONDS", 0.1)
    await place.pods["a"][1].stop()
    with pytest.raises(Unavailable, match="CortexIndex default/papers does not answer"):
        await asked(haystack, timeout=60)


async def test_pods_that_came_while_the_process_stood_still_are_asked(
    place: Place, haystack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cortex_workloads.runtime.channels._WAIT_SECONDS", 0.3)
    for name in "ab":
        await place.start(name)
    first = asyncio.create_task(asked(haystack, timeout=30))
    await asyncio.sleep(0)
    place.ready("a")
    time.sleep(0.5)  # noqa: ASYNC251 - nothing of the process goes on
    assert await first == "a"


async def test_a_call_goes_to_the_pod_that_takes_the_place_of_a_dead_one(place: Place, haystack: Any) -> None:
    for name in "ab":
        await place.start(name)
    place.ready("a")
    assert await asked(haystack) == "a"
    await place.pods["a"][1].stop()
    before = counted("cortex_retries_total", what="Moved")
    call = asyncio.create_task(asked(haystack, timeout=60))
    await asyncio.wait({call}, timeout=0.2)
    place.ready("b")
    assert await call == "b"
    assert counted("cortex_retries_total", what="Moved") == before + 1


async def test_changes_that_are_not_the_pods_do_not_use_up_the_second_try(place: Place, haystack: Any) -> None:
    for name in "ab":
        await place.start(name)
    place.ready("a")
    assert await asked(haystack) == "a"
    await place.pods["a"][1].stop()
    call = asyncio.create_task(asked(haystack, timeout=60))
    for message in ("one", "two"):
        condition = {
            "type": "Ready", "status": "False", "reason": "x", "message": message, "lastTransitionTime": "x",
        }  # fmt: skip
        await asyncio.wait({call}, timeout=0.5)
        place.ready("a", condition=condition)
    await asyncio.wait({call}, timeout=0.5)
    place.ready("b")
    assert await call == "b"


async def test_errors_come_back_as_they_were_raised(place: Place, haystack: Any) -> None:
    await place.start("a")
    place.ready("a")
    with pytest.raises(FailedPrecondition, match="another index") as raised:
        await asked(haystack, "fail")
    assert (raised.value.reason, raised.value.remedy) == ("WrongPod", "ask another")


async def test_a_deadline_names_who_was_asked(place: Place, haystack: Any) -> None:
    await place.start("a")
    place.ready("a")
    assert await asked(haystack) == "a"
    with pytest.raises(DeadlineExceeded, match="CortexIndex default/papers"):
        await asked(haystack, "wait", timeout=0.2)


async def test_the_trace_goes_along(place: Place, haystack: Any) -> None:
    await place.start("a")
    place.ready("a")
    with telemetry.tracer().start_as_current_span("test"):
        assert (await asked(haystack, "trace")).split("-")[1] == telemetry.trace_id()


@pytest.mark.parametrize("wrong", ["papers:50052", "dns:///papers:1", "dns:///a.b.svc", ""])
async def test_a_target_that_is_none_is_refused(channels: Channels, wrong: str) -> None:
    with pytest.raises(ValueError, match="is not a target"):
        channels.channel(wrong)


async def test_in_a_cluster_the_target_itself_is_resolved() -> None:
    async with Channels(GatewaySettings()) as channels:
        stub: Any = search_pb2_grpc.HaystackServiceStub(
            channels.channel("dns:///no-such-search-headless.here.svc:50052")
        )
        with pytest.raises((Unavailable, DeadlineExceeded), match="CortexIndex here/no-such"):
            await asked(stub, timeout=5)


async def test_only_a_channel_with_retries_tries_again(place: Place, channels: Channels) -> None:
    pod = await place.start("a")
    place.ready("a")
    for retries, calls in ((False, 1), (True, 4)):
        pod.busy, told = 0, counted("cortex_grpc_server_retries_total", **SEARCH)
        stub = search_pb2_grpc.HaystackServiceStub(channels.channel(TARGET, retries=retries))
        with pytest.raises(Unavailable, match="not now"):
            await asked(stub, "busy")
        assert pod.busy == calls
        assert counted("cortex_grpc_server_retries_total", **SEARCH) == told + calls - 1
