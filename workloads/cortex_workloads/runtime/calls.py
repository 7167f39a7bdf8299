"""What happens around every gRPC call that we answer: trace, errors to status, metrics, access log.

Shields the servicers from gRPC's statuses: they raise `CortexError`; anything else that they raise is a defect, logged
with its traceback and told to the caller by its trace id only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import grpc
from opentelemetry.trace import SpanKind

from cortex_workloads.runtime import errors, telemetry

_log: Final = logging.getLogger("cortex.calls")
# Health checks and reflection would drown everything else, and need nothing of this.
_UNTOUCHED: Final = ("/grpc.health.", "/grpc.reflection.")
_OURS: Final = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED"})
_NOBODY: Final = (grpc.aio.InternalError, grpc.aio.UsageError)
"""What gRPC says when it has nobody to send to: the caller has left, or the server has stopped."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server(interceptors=[...])`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler; unknown methods stay gRPC's own affair."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        if handler is None or path.startswith(_UNTOUCHED):
            return handler
        if handler.response_streaming:
            return _streaming(handler, path)
        return _unary(handler, path)


def _unary(handler: Any, path: str) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        async with _around(path, context):
            return await handler.unary_unary(request, context)

    return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def _streaming(handler: Any, path: str) -> Any:
    # No generator: gRPC leaves one where it stands when the caller goes, and it is closed later, by another task and
    # outside its trace. This one ends in the task of the call, whatever happens.
    async def answer(request: Any, context: Any) -> None:
        async with _around(path, context), aclosing(handler.unary_stream(request, context)) as responses:
            async for response in responses:
                try:
                    await context.write(response)
                except _NOBODY as error:
                    raise asyncio.CancelledError from error

    return grpc.unary_stream_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


@asynccontextmanager
async def _around(path: str, context: Any) -> AsyncIterator[None]:
    started, code, failure = time.perf_counter(), "OK", ""
    parent = telemetry.context_from(context.invocation_metadata() or ())
    with telemetry.tracer().start_as_current_span(
        path[1:], context=parent, kind=SpanKind.SERVER, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            code = "ABORTED"
            raise
        except BaseException as raised:
            error = _told(raised)
            code, failure = errors.row(type(error)).code.name, str(error)
            await errors.abort(context, error)
        finally:
            _account(path, code, failure, time.perf_counter() - started)


def _told(raised: BaseException) -> errors.CortexError:
    match raised:
        case errors.CortexError():
            return raised
        case TimeoutError():
            return errors.DeadlineExceeded(
                "the time for this call ran out", remedy="allow it more time, or ask for less"
            )
    _log.error("a defect: %s", raised, exc_info=raised)
    return errors.internal(telemetry.trace_id())


def _account(path: str, code: str, failure: str, seconds: float) -> None:
    service, _, method = path[1:].partition("/")
    telemetry.CALLS.labels(service, method, code).observe(seconds)
    level = logging.DEBUG if code in ("OK", "CANCELLED") else logging.WARNING if code in _OURS else logging.INFO
    if _log.isEnabledFor(level):
        extra = {"rpc": path, "code": code, "seconds": round(seconds, 6)}
        _log.log(level, failure or "answered", extra=extra)
