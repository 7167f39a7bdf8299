"""What surrounds every HTTP request: trace context, access log, metrics, the Host check, defects told as problems."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from opentelemetry.trace import SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cortex_workloads.gateway import replies
from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.errors import Forbidden, Unavailable, count, internal, to_problem

_log: Final = logging.getLogger("cortex.http")
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET: Final = frozenset({"/livez", "/readyz", "/healthz"})


class Edge:
    """The outermost ASGI application. Unless `any_host`, only requests for a loopback host name are answered: a page of
    the web whose name was made to resolve to this machine must not read it."""

    def __init__(self, app: ASGIApp, *, any_host: bool) -> None:
        self._app = app
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; other protocols than HTTP are closed."""
        if scope["type"] != "http":
            return
        headers = [(key.decode("latin-1"), value) for key, value in scope["headers"]]
        context = telemetry.context_from(headers)
        name = f"{scope['method']} {scope['path']}"
        with telemetry.tracer().start_as_current_span(
            name, context=context, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ):
            await _Exchange(scope, send).answer(self._inner(dict(headers)), receive)

    def _inner(self, headers: dict[str, bytes]) -> ASGIApp:
        if headers.get("sec-fetch-site") == b"cross-site" and headers.get("sec-fetch-mode") != b"navigate":
            foreign = Forbidden(
                "a page of another site asks through the user's browser",
                reason="CrossSite",
                remedy="ask from a program, or from a page of this gateway",
            )
            return replies.problem(foreign)
        host = headers.get("host", b"").decode("latin-1").lower()
        if self._any_host or not host or _without_port(host) in _LOCAL_HOSTS:
            return self._app
        error = Forbidden(
            f"this gateway does not answer for the host {host[:100]}",
            reason="HostNotAllowed",
            remedy="ask for localhost or 127.0.0.1",
        )
        return replies.problem(error)


class _Exchange:
    """One request and its reply."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self._status = 0
        self._events = self._ended = False
        self._started = time.perf_counter()

    async def answer(self, app: ASGIApp, receive: Receive) -> None:
        try:
            await app(self._scope, receive, self._sent)
        except asyncio.CancelledError:
            # The server does this at its end to who is left. That a client left is told by `receive`.
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                raise
            await self._end(receive)
        except Exception:
            _log.exception("a defect")
            if not self._status:
                await replies.problem(internal(telemetry.trace_id()))(self._scope, receive, self._sent)
        finally:
            self._account()

    async def _end(self, receive: Receive) -> None:
        ending = Unavailable("the gateway is being stopped", remedy="try again", reason="Draining")
        if not self._status:
            await replies.problem(ending)(self._scope, receive, self._sent)
        elif self._events and not self._ended:
            count(ending)
            last = replies.sse(("", "interrupted", to_problem(ending, telemetry.trace_id())))
            await self._sent({"type": "http.response.body", "body": last})

    async def _sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            kind = dict(message["headers"]).get(b"content-type", b"")
            self._events = kind.startswith(b"text/event-stream")
            extra = {"x-trace-id": telemetry.trace_id(), **telemetry.headers()}
            message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in extra.items())]
            message["headers"].append((b"x-content-type-options", b"nosniff"))
        elif not message.get("more_body", False):
            self._ended = True
        await self._send(message)

    def _method(self) -> str:
        return self._scope["method"] if self._scope["method"] in _METHODS else "other"

    def _account(self) -> None:
        seconds, route = time.perf_counter() - self._started, _route(self._scope)
        status = self._status or 499
        telemetry.REQUESTS.labels(self._method(), route, str(status)).observe(seconds)
        level = logging.WARNING if status >= 500 else logging.DEBUG if route in _QUIET else logging.INFO
        extra = {"method": self._scope["method"], "path": self._scope["path"], "status": status}
        _log.log(level, "answered", extra={**extra, "seconds": round(seconds, 6)})


def _route(scope: Scope) -> str:
    # Never the path itself: a metric's label must not be the client's to choose.
    route: Any = scope.get("route")
    return getattr(route, "path", "none")


def _without_port(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
