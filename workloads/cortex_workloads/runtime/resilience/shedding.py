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
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from prometheus_client import Counter, Gauge

from cortex_workloads.runtime import errors, telemetry
from cortex_workloads.runtime.errors import Malformed, Overloaded
from cortex_workloads.runtime.resilience.bulkhead import Bulkhead, Place, Refused, Why
from cortex_workloads.runtime.resilience.policies import LimitPolicy
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


_OVERLOADED: Final = Overloaded("")


class Gate:
    """The way into one class of calls; `name` is its class in metrics, `what` names it for people."""

    def __init__(self, name: str, what: str, policy: LimitPolicy) -> None:
        self._name, self._what = name, what
        self.bulkhead = Bulkhead(policy)
        _LIMIT.labels(name).set_function(lambda: float(self.bulkhead.policy.concurrent))
        _RUNNING.labels(name).set_function(lambda: float(self.bulkhead.running))
        _WAITING.labels(name).set_function(lambda: float(self.bulkhead.waiting))
        self._told_at, self._untold = -_LOG_SECONDS, 0
        # Of many that are refused in the same moment most are told the same: it is made once.
        self._endings = lru_cache(maxsize=256)(self._ending)

    def place(self, left: float | None = None) -> Place:
        """Holds a place as a context; `left` are seconds until the caller's deadline. Entering raises Overloaded."""
        return Place(self, left)

    async def enter(self, left: float | None) -> float:
        """When the place that it takes was taken, for `leave`. Raises Overloaded."""
        try:
            return await self.bulkhead.enter(left)
        except Refused as refused:
            raise self._refused(refused) from None

    def leave(self, began: float) -> None:
        """Gives a place back."""
        self.bulkhead.leave(began)

    def change(self, policy: LimitPolicy) -> None:
        """From now on by this policy; see `Bulkhead.change`."""
        self.bulkhead.change(policy)
        # They say how many may run and wait.
        self._endings.cache_clear()

    def refusal(self) -> tuple[Any, ...] | None:
        """The end (`errors.ending`) of a call that comes now, whatever its deadline, counted; None: it may ask for a
        place."""
        try:
            self.bulkhead.check()
        except Refused as refused:
            self._count(refused.why)
            errors.count(_OVERLOADED)
            return self._endings(refused.why, round(_spread(refused.seconds), 1))
        return None

    def refuse(self, reason: str, because: str) -> Overloaded:
        """What a call hears that is refused for a reason of the caller's own, counted."""
        self._count(reason)
        return self._overloaded(because, _spread(self.bulkhead.wait()))

    def _refused(self, refused: Refused) -> Overloaded:
        self._count(refused.why)
        return self._overloaded(self._because(refused.why), _spread(refused.seconds))

    def _ending(self, why: Why, seconds: float) -> tuple[Any, ...]:
        return errors.ending(self._overloaded(self._because(why), seconds))

    def _because(self, why: Why) -> str:
        return _BECAUSE[why].format_map(self.bulkhead.policy.model_dump())

    def _overloaded(self, because: str, seconds: float) -> Overloaded:
        return Overloaded(
            f"there are more {self._what} than this pod can answer: {because}",
            remedy="try again after the time that RetryInfo or Retry-After says, or add replicas",
            retry_after=seconds,
        )

    def _count(self, reason: str) -> None:
        _SHED.labels(self._name, reason).inc()
        self._tell()

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
        if (ending := gate.refusal()) is not None:
            return _refusing(path, ending)
        handler = await continuation(handler_call_details)
        return _streaming(handler, gate, path) if handler.response_streaming else _unary(handler, gate, path)


def _refusing(path: str, ending: tuple[Any, ...]) -> Any:
    async def answer(_: bytes, context: Any) -> None:
        _account(path, ending[0])
        await context.abort(*ending)

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
    # The handler writes by itself (calls.py).
    async def answer(data: bytes, context: Any) -> None:
        try:
            async with gate.place(context.time_remaining()):
                await handler.unary_stream(_parsed(handler, data), context)
        except errors.CortexError as error:
            await _refuse(path, context, error)

    return grpc.unary_stream_rpc_method_handler(answer, None, handler.response_serializer)


def _parsed(handler: Any, data: bytes) -> Any:
    try:
        return handler.request_deserializer(data)
    except DecodeError:
        raise Malformed("the request is not the message of this method", remedy="use the protocol's code") from None


async def _refuse(path: str, context: Any, error: errors.CortexError) -> None:
    _account(path, errors.row(type(error)).code)
    await errors.abort(context, error)


def _account(path: str, code: grpc.StatusCode) -> None:
    service, _, method = path[1:].partition("/")
    telemetry.CALLS.labels(service, method, code.name).observe(0.0)


def _spread(seconds: float) -> float:
    # Those that are refused together do not come back together.
    return max(_LEAST_SECONDS, seconds) * random.uniform(1.0, 2.0)  # noqa: S311 - no secret
