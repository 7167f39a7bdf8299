"""What every service's process is made of: gRPC servers, health, reflection, metrics, signals, draining.

    async def serve(settings: SearchSettings) -> None:
        async with Server(settings, "search") as server:
            server.health.expect("Lake", "Model")             # not ready until both were ok once
            server.add(add_HaystackServiceServicer_to_server, Haystack(...))
            server.add(add_ControlServiceServicer_to_server, Control(...), port="control")
            await server.start()                              # listens; probes are answered from here on
            await connect_to_the_lake()
            await server.health.ok("Lake")
            ...
            await server.wait()                               # until SIGTERM or SIGINT; leaving the block drains

    if __name__ == "__main__":
        run(serve, SearchSettings)

Servicers raise `runtime.errors.CortexError`. Ports come from `settings.port_NAME`; 0 takes a free one (`server.ports`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Protocol, Self, TypeVar

import grpc
import uvloop
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from cortex_workloads.runtime import metrics, telemetry
from cortex_workloads.runtime.calls import CallInterceptor
from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.health import Health
from cortex_workloads.runtime.resilience.retries import RetryInterceptor
from cortex_workloads.runtime.resilience.shedding import Gate, ShedInterceptor
from cortex_workloads.runtime.settings import Settings, env_name

_log: Final = logging.getLogger("cortex.server")
MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""The largest message that a server or a channel takes."""
OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", 64 * 1024),
    # Without this a second process on the same port gets half of the connections instead of an error.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Clients come back, ask DNS again and spread over the pods that are new; a stream may end first.
    ("grpc.max_connection_age_ms", 60_000),
    ("grpc.max_connection_age_grace_ms", 660_000),
)


class StartError(RuntimeError):
    """The service cannot start like this; the message is one line that says why and what to change."""


class PortTaken(StartError):
    """A port that the service needs is in use; the message names the port and its environment variable."""

    def __init__(self, host: str, port: int, field: str) -> None:
        super().__init__(
            f"cannot listen on {host}:{port}: the port is in use, or the address is not of this machine; "
            f"stop what uses it, or set {env_name(field)} to another port"
        )


class _Adder(Protocol):
    def __call__(self, servicer: Any, server: Any) -> None: ...


class Server:
    """The servers of one process, on `hosts` (default: `settings.listen_host`). `health` and `ports` (name -> bound
    port) are for the service to use; `draining` is set at SIGTERM, before calls in progress are waited for."""

    def __init__(self, settings: Settings, service: str, *, hosts: Sequence[str] = ()) -> None:
        self.settings = settings
        self.hosts = tuple(hosts) or (settings.listen_host,)
        self.service = service
        self.health = Health()
        self.ports: dict[str, int] = {}
        self._gates: dict[str, Gate] = {}
        self._signals = _SIGNALS.get() or _Signals()
        self.draining = self._signals.received
        self._grpc: dict[str, grpc.aio.Server] = {}
        self._services: dict[str, list[str]] = {}
        self._http: list[asyncio.Server] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def add(self, adder: _Adder, servicer: Any, *, port: str = "grpc", gates: Mapping[str, Gate] | None = None) -> None:
        """Serves a servicer on `settings.port_PORT`; `adder` is the generated `add_...Servicer_to_server`. Methods that
        `gates` names are refused in overload."""
        server = self._grpc.get(port) or self._new(port)
        adder(servicer, _Recorder(server, self._services[port]))
        service = self._services[port][-1]
        self._gates |= {f"/{service}/{method}": gate for method, gate in (gates or {}).items()}

    async def start(self) -> None:
        """Listens on every port. Raises PortTaken."""
        await self.health.publish()
        await self._start_metrics()
        for name, server in self._grpc.items():
            names = (*self._services[name], "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
            self.ports[name] = self._bind(server, name)
            await server.start()
        _log.info("listening", extra={"ports": self.ports})

    async def wait(self) -> None:
        """Returns at SIGTERM or SIGINT, when readiness is withdrawn; a second signal ends the process at once. A signal
        before this is called cancels what is being done instead."""
        self._signals.waited_for = True
        await self.draining.wait()
        _log.info("draining", extra={"seconds": self.settings.drain_seconds})
        await self.health.drain()

    async def stop(self) -> None:
        """Ends what listens; calls in progress have `drain_seconds`."""
        self.draining.set()
        await self.health.drain()
        await asyncio.gather(*(server.stop(self.settings.drain_seconds) for server in self._grpc.values()))
        for http in self._http:
            http.close()
        telemetry.flush()

    def _new(self, port: str) -> grpc.aio.Server:
        interceptors = (RetryInterceptor(), ShedInterceptor(self._gates), CallInterceptor())
        server = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, server)
        self._grpc[port], self._services[port] = server, []
        return server

    def _bind(self, server: grpc.aio.Server, name: str) -> int:
        field = f"port_{name}"
        port: int = getattr(self.settings, field)
        for host in self.hosts:
            _check_free(host, port, field)
            try:
                port = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            except RuntimeError as error:
                raise PortTaken(host, port, field) from error
        return port

    async def _start_metrics(self) -> None:
        port = self.settings.port_metrics
        for host in self.hosts:
            try:
                server = await metrics.serve(self.health, host, port)
            except OSError as error:
                raise PortTaken(host, port, "port_metrics") from error
            self._http.append(server)
            port = server.sockets[0].getsockname()[1]
        self.ports["metrics"] = port


def _check_free(host: str, port: int, field: str) -> None:
    # gRPC would tell of a taken port by a line of its own on stderr, besides its exception.
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(host, port, field) from error


class _Signals:
    """SIGTERM and SIGINT of the process."""

    def __init__(self) -> None:
        self.received = asyncio.Event()
        self.waited_for = False
        self._main = asyncio.current_task()

    def install(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._got, number)

    def _got(self, number: int) -> None:
        if self.received.is_set():
            _log.warning("a second signal: ending at once")
            sys.stdout.flush()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received.set()
        if not self.waited_for and self._main is not None:
            self._main.cancel()


_SIGNALS: Final[ContextVar[_Signals | None]] = ContextVar("signals", default=None)


class _Recorder:
    """Stands before a server and notes the names of the services that are added, for reflection."""

    def __init__(self, server: grpc.aio.Server, names: list[str]) -> None:
        self._server, self._names = server, names

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        self._names.append(service)
        self._server.add_registered_method_handlers(service, handlers)


S = TypeVar("S", bound=Settings)


def run(serve: Callable[[S], Awaitable[None]], settings_type: type[S]) -> None:
    """A service's `main`: reads the environment, sets up logs, runs `serve` to its end. Wrong settings, a
    StartError and a CortexError are one clear line on stderr and exit code 1."""
    try:
        settings = settings_type()
    except ValidationError as error:
        sys.exit("; ".join(_wrong(line) for line in error.errors()))
    service = settings_type.__name__.removesuffix("Settings").lower()
    telemetry.configure(settings, service)

    try:
        uvloop.run(_main(serve, settings))
    except (StartError, CortexError) as error:
        sys.exit(f"{service}: {error}")


async def _main(serve: Callable[[S], Awaitable[None]], settings: S) -> None:
    signals = _Signals()
    _SIGNALS.set(signals)
    signals.install()
    try:
        await serve(settings)
    except asyncio.CancelledError:
        if not signals.received.is_set():
            raise


def _wrong(line: Any) -> str:
    name = env_name("_".join(str(part) for part in line["loc"]))
    return f"the environment variable {name} is not valid: {line['msg']}"
