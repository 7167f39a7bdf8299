"""Load that a service sheds: what a refused caller hears, metrics, the log; and the interceptor that does so before a
request is parsed.

    gate = Gate("Search", policy)
    async with gate.place(left): ...       # raises Overloaded, with the time after which to try again

Shields the servicers from overload, and the bulkheads from errors and gRPC.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge

from cortex_workloads.runtime import errors, telemetry
from cortex_workloads.runtime.errors import Malformed, Overloaded
from cortex_workloads.runtime.resilience.bulkhead import Bulkhead, Refused
from cortex_workloads.runtime.settings import LimitPolicy
from cortex_workloads.runtime.telemetry import REGISTRY

_log: Final = logging.getLogger("cortex.resilience")
_LIMIT: Final = Gauge("cortex_limit", "Calls of a class that may run at once", ("class",), registry=REGISTRY)
_RUNNING: Final = Gauge("cortex_limit_running", "Calls of a class that run", ("class",), registry=REGISTRY)
_WAITING: Final = Gauge("cortex_limit_waiting", "Calls of a class that wait for a place", ("class",), registry=REGISTRY)
_SHED: Final = Counter("cortex_shed_total", "Calls refused as Overloaded", ("class", "reason"), registry=REGISTRY)
_LOG_SECONDS: Final = 10.0
_LEAST_SECONDS: Final = 0.1
"""What a refused caller is told to wait at least."""
_BECAUSE: Final = {
    "Full": "{concurrent} run and {waiting} wait, as many as may",
    "Slow": "those that wait take longer than {wait_seconds:g} s",
    "Late": "those that wait take longer than your deadline allows",
}


class Gate:
    """The way into one class of calls; `name` is its class in metrics, `what` names it for people."""

    def __init__(self, name: str, what: str, policy: LimitPolicy) -> None:
        self._name, self._what = name, what
        self.bulkhead = Bulkhead(policy)
        _LIMIT.labels(name).set_function(lambda: float(self.bulkhead.policy.concurrent))
        _RUNNING.labels(name).set_function(lambda: float(self.bulkhead.running))
        _WAITING.labels(name).set_function(lambda: float(self.bulkhead.waiting))
        self._told_at, self._untold = -_LOG_SECONDS, 0

    @asynccontextmanager
    async def place(self, left: float | None = None) -> AsyncIterator[None]:
        """Holds a place; `left` are seconds until the caller's deadline. Raises Overloaded."""
        try:
            async with self.bulkhead.place(left):
                yield
        except Refused as refused:
            raise self._overloaded(refused) from None

    def refusal(self) -> Overloaded | None:
        """What a call hears that comes now, whatever its deadline; None: it may ask for a place."""
        try:
            self.bulkhead.check()
        except Refused as refused:
            return self._overloaded(refused)
        return None

    def refuse(self, reason: str, because: str, seconds: float | None = None) -> Overloaded:
        """What a refused call hears, counted; `seconds`: how long those take that are before it."""
        _SHED.labels(self._name, reason).inc()
        self._tell()
        wait = self.bulkhead.wait() if seconds is None else seconds
        return Overloaded(
            f"there are more {self._what} than this pod can answer: {because}",
            remedy="try again after the time that RetryInfo or Retry-After says, or add replicas",
            # Those that are refused together do not come back together.
            retry_after=max(_LEAST_SECONDS, wait) * random.uniform(1.0, 2.0),  # noqa: S311 - no secret
        )

    def _overloaded(self, refused: Refused) -> Overloaded:
        because = _BECAUSE[refused.why].format_map(self.bulkhead.policy.model_dump())
        return self.refuse(refused.why, because, refused.seconds)

    def _tell(self) -> None:
        # One line for many: whoever sheds load has no time for a line each.
        self._untold += 1
        if (now := time.monotonic()) - self._told_at >= _LOG_SECONDS:
            _log.warning("sheds load", extra={"class": self._name, "shed": self._untold})
            self._told_at, self._untold = now, 0


class ShedInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server(interceptors=[...])`, the first of them. `gates` by method, `/package.Service/Method`; all
    other methods pass."""

    def __init__(self, gates: Mapping[str, Gate]) -> None:
        self._gates = gates

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handlers of the methods with a gate; they get bytes, which are parsed behind it."""
        path = handler_call_details.method
        if (gate := self._gates.get(path)) is None:
            return await continuation(handler_call_details)
        if (error := gate.refusal()) is not None:
            return _refusing(path, error)
        handler = await continuation(handler_call_details)
        return _streaming(handler, gate, path) if handler.response_streaming else _unary(handler, gate, path)


def _refusing(path: str, error: Overloaded) -> Any:
    async def answer(_: bytes, context: Any) -> None:
        await _refuse(path, context, error)

    # Of a method that streams, too: a call that ends without a message has no shape.
    return grpc.unary_unary_rpc_method_handler(answer, None, None)


def _unary(handler: Any, gate: Gate, path: str) -> Any:
    async def answer(data: bytes, context: Any) -> Any:
        try:
            async with gate.place(context.time_remaining()):
                return await handler.unary_unary(_parsed(handler, data), context)
        except errors.CortexError as error:
            await _refuse(path, context, error)

    return grpc.unary_unary_rpc_method_handler(answer, None, handler.response_serializer)


def _streaming(handler: Any, gate: Gate, path: str) -> Any:
    async def answer(data: bytes, context: Any) -> AsyncIterator[Any]:
        try:
            async with gate.place(context.time_remaining()):
                async for response in handler.unary_stream(_parsed(handler, data), context):
                    yield response
        except errors.CortexError as error:
            await _refuse(path, context, error)

    return grpc.unary_stream_rpc_method_handler(answer, None, handler.response_serializer)


def _parsed(handler: Any, data: bytes) -> Any:
    try:
        return handler.request_deserializer(data)
    except DecodeError:
        raise Malformed("the request is not the message of this method", remedy="use the protocol's code") from None


async def _refuse(path: str, context: Any, error: errors.CortexError) -> None:
    service, _, method = path[1:].partition("/")
    telemetry.CALLS.labels(service, method, errors.row(type(error)).code.name).observe(0.0)
    await errors.abort(context, error)
