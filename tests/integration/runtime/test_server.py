"""A service's servers, over real gRPC and HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.errors import DETAILS_KEY, InvalidInput, from_rpc_error
from cortex_workloads.runtime.server import PortTaken, Server
from cortex_workloads.runtime.settings import SearchSettings
from datapunk.cortex import control_pb2_grpc, search_pb2, search_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc


class Haystack(search_pb2_grpc.HaystackServiceServicer):
    async def Search(self, request: search_pb2.SearchRequest, _: Any) -> search_pb2.SearchResponse:
        match request.query:
            case "invalid":
                raise InvalidInput("not like this", remedy="like that", violations=[("query", "is odd")])
            case "defect":
                raise RuntimeError("the password is hunter2")
            case "slow":
                raise TimeoutError
            case "wait":
                self.waiting = asyncio.Event()
                await self.waiting.wait()
        return search_pb2.SearchResponse()

    async def UpdateIndex(self, _: Any, __: Any) -> search_pb2.UpdateResponse:
        return search_pb2.UpdateResponse()


class Control(control_pb2_grpc.ControlServiceServicer):
    async def Describe(self, _: Any, __: Any) -> Any:
        raise InvalidInput("no")

    async def Command(self, _: Any, __: Any) -> Any:
        raise InvalidInput("no")


SETTINGS = SearchSettings(listen_host="127.0.0.1", port_grpc=0, port_control=0, port_metrics=0, drain_seconds=30)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(SETTINGS, "search") as made:
        made.health.expect("Lake")
        made.add(search_pb2_grpc.add_HaystackServiceServicer_to_server, Haystack())
        made.add(control_pb2_grpc.add_ControlServiceServicer_to_server, Control(), port="control")
        await made.start()
        yield made


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as made:
        yield made


async def search(channel: grpc.aio.Channel, query: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await search_pb2_grpc.HaystackServiceStub(channel).Search(search_pb2.SearchRequest(query=query), timeout=60)
    return raised.value


async def test_an_error_becomes_its_status_with_details(channel: grpc.aio.Channel) -> None:
    error = await search(channel, "invalid")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert DETAILS_KEY in dict(error.trailing_metadata() or ())
    assert from_rpc_error(error).violations == (("query", "is odd"),)


def counted(family: str, kind: str) -> float:
    return telemetry.REGISTRY.get_sample_value("cortex_errors_total", {"family": family, "type": kind}) or 0.0


@pytest.mark.parametrize(
    ("query", "family", "kind"),
    [
        ("invalid", "InvalidInput", "InvalidInput"),
        ("defect", "Internal", "Internal"),
        ("slow", "Unavailable", "DeadlineExceeded"),
    ],
)
async def test_an_error_is_counted_once_by_family_and_type(
    channel: grpc.aio.Channel, query: str, family: str, kind: str
) -> None:
    before = counted(family, kind)
    await search(channel, query)
    assert counted(family, kind) == before + 1


async def test_a_defect_is_told_by_its_trace_id_and_logged_whole(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    error = await search(channel, "defect")
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(error)
    told = from_rpc_error(error)
    assert len(told.remedy.split("trace id ")[1].split(":")[0]) == 32
    assert any(record.exc_info and "hunter2" in str(record.exc_info[1]) for record in caplog.records)


async def test_time_that_ran_out_is_deadline_exceeded(channel: grpc.aio.Channel) -> None:
    assert (await search(channel, "slow")).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_health_is_of_the_pod_and_of_its_loop(server: Server, channel: grpc.aio.Channel) -> None:
    async def status(service: str) -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        return int((await health_pb2_grpc.HealthStub(channel).Check(request)).status)

    assert (await status(""), await status("liveness")) == (2, 1)
    await server.health.ok("Lake")
    assert (await status(""), await status("liveness")) == (1, 1)


@pytest.mark.parametrize(
    ("port", "service"), [("grpc", "datapunk.cortex.HaystackService"), ("control", "datapunk.cortex.ControlService")]
)
async def test_reflection_names_the_services_of_each_port(server: Server, port: str, service: str) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports[port]}") as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        names = {one.name async for reply in call for one in reply.list_services_response.service}
    assert {service, "grpc.health.v1.Health"} <= names
    assert len([name for name in names if name.startswith("datapunk")]) == 1


async def http(port: int, request: bytes) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request + b"\r\n\r\n")
    head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
    writer.close()
    return head.split(b"\r\n")[0], body


async def test_metrics_and_probes_over_http(server: Server, channel: grpc.aio.Channel) -> None:
    await search(channel, "invalid")
    port = server.ports["metrics"]
    status, body = await http(port, b"GET /readyz HTTP/1.1")
    assert status == b"HTTP/1.1 503 Service Unavailable"
    assert json.loads(body)["checks"]["Lake"]["reason"] == "Starting"
    await server.health.ok("Lake")
    assert (await http(port, b"GET /readyz HTTP/1.1"))[0] == b"HTTP/1.1 200 OK"
    assert (await http(port, b"GET /livez HTTP/1.1"))[1] == b"ok\n"
    _, body = await http(port, b"GET /metrics?x=1 HTTP/1.1")
    call = b'method="Search",service="datapunk.cortex.HaystackService"'
    assert b'cortex_grpc_server_seconds_count{code="INVALID_ARGUMENT",' + call in body
    assert b"process_cpu_seconds_total" in body
    for request, code in ((b"GET /x HTTP/1.1", b"404"), (b"POST /livez HTTP/1.1", b"405"), (b"nonsense", b"400")):
        assert code in (await http(port, request))[0]


@pytest.mark.parametrize("field", ["port_grpc", "port_control", "port_metrics"])
async def test_a_taken_port_is_named(server: Server, field: str) -> None:
    port = server.ports[field.removeprefix("port_")]
    async with Server(SETTINGS.model_copy(update={field: port}), "search") as other:
        other.add(search_pb2_grpc.add_HaystackServiceServicer_to_server, Haystack())
        other.add(control_pb2_grpc.add_ControlServiceServicer_to_server, Control(), port="control")
        with pytest.raises(PortTaken, match=f"127.0.0.1:{port}.*CORTEX_{field.upper()}"):
            await other.start()


async def test_calls_in_progress_end_before_the_server_does(channel: grpc.aio.Channel) -> None:
    haystack = Haystack()
    async with Server(SETTINGS, "search") as server:
        server.add(search_pb2_grpc.add_HaystackServiceServicer_to_server, haystack)
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.ports['grpc']}") as own:
            stub = search_pb2_grpc.HaystackServiceStub(own)
            call = asyncio.ensure_future(stub.Search(search_pb2.SearchRequest(query="wait"), timeout=60))
            async with asyncio.timeout(60):
                while not hasattr(haystack, "waiting"):
                    await asyncio.wait({call}, timeout=0.01)
            stopping = asyncio.create_task(server.stop())
            await server.draining.wait()
            assert not server.health.ready
            haystack.waiting.set()
            assert await call == search_pb2.SearchResponse()
            await stopping


async def test_answered_calls_are_logged_only_when_asked_for(
    channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    stub = search_pb2_grpc.HaystackServiceStub(channel)
    with caplog.at_level(logging.INFO, "cortex.calls"):
        await stub.Search(search_pb2.SearchRequest(query="x"))
        assert [record for record in caplog.records if record.name == "cortex.calls"] == []
    with caplog.at_level(logging.DEBUG, "cortex.calls"):
        await stub.Search(search_pb2.SearchRequest(query="x"))
        assert [record.__dict__["code"] for record in caplog.records if record.name == "cortex.calls"] == ["OK"]
