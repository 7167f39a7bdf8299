"""Where the gateway listens: loopback only, until there is authentication."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import uvicorn

from cortex_workloads.runtime.server import PortTaken, StartError
from cortex_workloads.runtime.settings import GatewaySettings

_V4: Final = "127.0.0.1"
_V6: Final = "::1"
_LAST_SECONDS: Final = 2.0
"""What requests that are cancelled at the end have to say so."""


class Refused(StartError):
    """The gateway does not start with such settings."""


def hosts(settings: GatewaySettings) -> tuple[str, ...]:
    """The addresses to bind: both loopback ones where there are both. Raises Refused for one that others can reach,
    unless `insecure_listen` says so."""
    host = settings.listen_host
    if host in (_V4, _V6, "localhost"):
        return tuple(address for address in (_V4, _V6) if _exists(address)) or (_V4,)
    if _is_loopback(host) or settings.insecure_listen:
        return (host,)
    raise Refused(
        f"will not listen on {host}: there is no authentication yet, so whoever reaches that address could read and "
        "write everything; keep CORTEX_LISTEN_HOST=127.0.0.1, or set CORTEX_INSECURE_LISTEN=true "
        "(`cortex up --insecure-listen`) where the whole network may do that"
    )


def sockets(addresses: tuple[str, ...], port: int) -> list[socket.socket]:
    """Listening sockets, all on the same port; 0 takes a free one. Raises PortTaken."""
    made: list[socket.socket] = []
    for address in addresses:
        try:
            made.append(_socket(address, port))
        except OSError as error:
            for done in made:
                done.close()
            raise PortTaken(address, port, "port_http") from error
        port = made[0].getsockname()[1]
    return made


@asynccontextmanager
async def http(app: Any, listening: list[socket.socket], drain_seconds: float) -> AsyncIterator[None]:
    """Serves an ASGI application; at the end requests in progress have `drain_seconds`, then they are cancelled."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    server = _Quiet(config)
    serving = asyncio.create_task(server.serve(sockets=listening))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        if left := list(server.server_state.tasks):
            await asyncio.wait(left, timeout=_LAST_SECONDS)


class _Quiet(uvicorn.Server):
    """Leaves signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _socket(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
        made.listen(1024)
    except OSError:
        made.close()
        raise
    return made


def _exists(address: str) -> bool:
    try:
        _socket(address, 0).close()
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return False
        raise
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
