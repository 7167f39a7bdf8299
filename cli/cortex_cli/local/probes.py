"""What kubelet asks a container: gRPC health, HTTP, TCP; shields the runner from channels and protocols."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from cortex_operator.cluster.port import Object
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cortex_cli.local.ports import LOOPBACK

CHANNEL_OPTIONS: Final = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.enable_http_proxy", 0),
]


class Prober:
    """Asks one container. `ports`: name -> port."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports
        self._channels: dict[int, grpc.aio.Channel] = {}

    async def ask(self, probe: Object) -> str:
        """Empty when the answer is good, else what is wrong."""
        timeout = float(probe.get("timeoutSeconds", 1))
        try:
            async with asyncio.timeout(timeout + 0.5):
                if "grpc" in probe:
                    return await self._grpc(probe["grpc"], timeout)
                if "httpGet" in probe:
                    return await self._http(probe["httpGet"])
                if "tcpSocket" in probe:
                    return await self._tcp(probe["tcpSocket"])
        except TimeoutError:
            return f"no answer in {timeout:g} s"
        except OSError as error:
            return error.strerror or str(error)
        except KeyError as error:
            return f"the container has no port {error}"
        return ""

    async def close(self) -> None:
        """Ends the connections."""
        for channel in self._channels.values():
            await channel.close(None)
        self._channels.clear()

    def _port(self, port: Any) -> int:
        return self._ports[port] if isinstance(port, str) else int(port)

    async def _grpc(self, ask: Object, timeout: float) -> str:
        port = self._port(ask["port"])
        if port not in self._channels:
            self._channels[port] = grpc.aio.insecure_channel(f"{LOOPBACK}:{port}", options=CHANNEL_OPTIONS)
        stub: Any = health_pb2_grpc.HealthStub(self._channels[port])
        try:
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=ask.get("service", "")), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        if reply.status == health_pb2.HealthCheckResponse.SERVING:
            return ""
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))

    async def _http(self, ask: Object) -> str:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port(ask["port"]))
        try:
            writer.write(f"GET {ask.get('path', '/')} HTTP/1.0\r\nHost: {LOOPBACK}\r\n\r\n".encode())
            words = (await reader.readline()).split()
        finally:
            writer.close()
        code = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        return "" if 200 <= code < 400 else f"HTTP {code}"

    async def _tcp(self, ask: Object) -> str:
        _, writer = await asyncio.open_connection(LOOPBACK, self._port(ask["port"]))
        writer.close()
        return ""
