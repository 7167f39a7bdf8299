"""Every error that a caller can see, in one table: type -> reason, gRPC code, HTTP status, title, family.

Shields the services from two wire formats: gRPC status with google.rpc details, and problem+json (RFC 9457). Raise a
`CortexError`; the servers turn it into either one, and `runtime.channels` turns a gRPC status back into it. Reasons
that narrow a type's own are in `runtime.reasons`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.redaction import redacted

DOMAIN: Final = "cortex.datapunk.io"
TYPE_PREFIX: Final = f"https://{DOMAIN}/errors/"
DETAILS_KEY: Final = "grpc-status-details-bin"
# Trailers share 8 KiB in foreign clients, percent-encoded and base64 included: these bounds (bytes) keep below it.
_MESSAGE_BYTES: Final = 1024
_REMEDY_BYTES: Final = 512
_VIOLATIONS_BYTES: Final = 2048


class CortexError(Exception):
    """What went wrong, for the caller: names the thing and the reason; `remedy` says what to do.

    `reason` (CamelCase, stable, in `runtime.reasons`) narrows the type's own; `violations` are (field, message) of a
    request; `retry_after` is in seconds. Passwords of addresses are left out of every text.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        reason: str | None = None,
        violations: Iterable[tuple[str, str]] = (),
        retry_after: float | None = None,
    ) -> None:
        self.message = redacted(message)
        super().__init__(self.message)
        self.remedy = redacted(remedy)
        self.reason = reason or row(type(self)).reason
        self.violations = tuple((field, redacted(text)) for field, text in violations)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class InvalidInput(CortexError):
    """The request is well formed but wrong; `violations` name every field."""


class Malformed(CortexError):
    """The request cannot be read at all (not JSON, not UTF-8)."""


class UnsupportedMediaType(CortexError):
    """The request's content type is not one that the operation takes."""


class MethodNotAllowed(CortexError):
    """The path exists, the method does not."""


class TooLarge(CortexError):
    """The request, or one part of it, is larger than its limit."""


class NotFound(CortexError):
    """What the request names is not there."""


class AlreadyExists(CortexError):
    """What the request makes is there already, and is something else."""


class FailedPrecondition(CortexError):
    """The request is right, but not for what it meets as it is now (a pod of another resource, a failed revision)."""


class Unavailable(CortexError):
    """Something that the request needs does not answer now."""


class DeadlineExceeded(CortexError):
    """The time ran out."""


class RateLimited(CortexError):
    """The caller asks more often than it may."""


class Overloaded(CortexError):
    """The service sheds load; the caller did nothing wrong."""


class Unimplemented(CortexError):
    """The operation is named in the protocol but does not exist in this release."""


class Forbidden(CortexError):
    """The caller may not do this."""


class StateSyncFailed(CortexError):
    """Two views of one state do not fit together: somebody else was first, or a part of it was lost or restored."""


class RunFailed(CortexError):
    """A workflow's run ended badly by a defect; `reason` is the run's code. To run it again is a new request."""


class RunRefused(RunFailed):
    """A run ended badly by its workflow or its input: the same again ends the same way."""


class RunInterrupted(RunFailed):
    """A run was lost with its pods: it may succeed when it is started again."""


class RunUnserved(RunFailed):
    """A run ended badly by what it needs, which did not answer: it may succeed when it is started again."""


class Internal(CortexError):
    """A defect of ours, told by its trace id alone."""


class Family(StrEnum):
    """What a caller does about an error: the coarsest of its codes, for programs that know no reason."""

    INVALID_INPUT = "InvalidInput"
    """Change the request, or what it meets: the same again ends the same way."""
    UNAVAILABLE = "Unavailable"
    """Something did not answer, or not in time: nothing is wrong with the request."""
    RATE_LIMITED = "RateLimited"
    """The caller asked more often than it may: ask less often."""
    STATE_SYNC_FAILED = "StateSyncFailed"
    """The state is another one than the caller took it for: read it again, decide anew."""
    EXHAUSTED = "Exhausted"
    """The service is at its limit, whoever asks: wait, or give it more replicas."""
    INTERNAL = "Internal"
    """A defect: report it with its trace id."""


@dataclass(frozen=True)
class Row:
    """How one type of error is told. `retry_after`: seconds that a caller waits when the error does not say."""

    reason: str
    code: grpc.StatusCode
    http: int
    title: str
    family: Family
    retry_after: float | None = None


_Code = grpc.StatusCode
TABLE: Final[dict[type[CortexError], Row]] = {
    InvalidInput: Row("InvalidInput", _Code.INVALID_ARGUMENT, 422, "The request is not valid", Family.INVALID_INPUT),
    Malformed: Row("Malformed", _Code.INVALID_ARGUMENT, 400, "The request cannot be read", Family.INVALID_INPUT),
    UnsupportedMediaType: Row(
        "UnsupportedMediaType", _Code.INVALID_ARGUMENT, 415, "Unsupported media type", Family.INVALID_INPUT
    ),
    MethodNotAllowed: Row("MethodNotAllowed", _Code.UNIMPLEMENTED, 405, "Method not allowed", Family.INVALID_INPUT),
    TooLarge: Row("TooLarge", _Code.OUT_OF_RANGE, 413, "The request is too large", Family.INVALID_INPUT),
    NotFound: Row("NotFound", _Code.NOT_FOUND, 404, "Not found", Family.INVALID_INPUT),
    AlreadyExists: Row("AlreadyExists", _Code.ALREADY_EXISTS, 409, "It is there already", Family.INVALID_INPUT),
    FailedPrecondition: Row(
        "FailedPrecondition", _Code.FAILED_PRECONDITION, 409, "Not possible in this state", Family.INVALID_INPUT
    ),
    Unavailable: Row("Unavailable", _Code.UNAVAILABLE, 503, "Not available now", Family.UNAVAILABLE, retry_after=1.0),
    DeadlineExceeded: Row("DeadlineExceeded", _Code.DEADLINE_EXCEEDED, 504, "The time ran out", Family.UNAVAILABLE),
    RateLimited: Row(
        "RateLimited", _Code.RESOURCE_EXHAUSTED, 429, "Too many requests", Family.RATE_LIMITED, retry_after=1.0
    ),
    Overloaded: Row(
        "Overloaded", _Code.RESOURCE_EXHAUSTED, 429, "The service is overloaded", Family.EXHAUSTED, retry_after=1.0
    ),
    Unimplemented: Row("Unimplemented", _Code.UNIMPLEMENTED, 501, "Not implemented", Family.INVALID_INPUT),
    Forbidden: Row("Forbidden", _Code.PERMISSION_DENIED, 403, "Not allowed", Family.INVALID_INPUT),
    StateSyncFailed: Row("StateSyncFailed", _Code.ABORTED, 409, "The state is another one", Family.STATE_SYNC_FAILED),
    Internal: Row("Internal", _Code.INTERNAL, 500, "Internal error", Family.INTERNAL),
    RunFailed: Row("RunFailed", _Code.INTERNAL, 500, "The run failed", Family.INTERNAL),
    RunRefused: Row("RunRefused", _Code.FAILED_PRECONDITION, 422, "The run failed", Family.INVALID_INPUT),
    RunInterrupted: Row(
        "RunInterrupted", _Code.ABORTED, 503, "The run was interrupted", Family.UNAVAILABLE, retry_after=1.0
    ),
    RunUnserved: Row("RunUnserved", _Code.ABORTED, 503, "The run failed", Family.UNAVAILABLE, retry_after=1.0),
    CortexError: Row("Internal", _Code.UNKNOWN, 500, "Error", Family.INTERNAL),
}
_BY_NAME: Final = {kind.__name__: kind for kind in TABLE}
_BY_CODE: Final[dict[grpc.StatusCode, type[CortexError]]] = {
    **{row.code: kind for kind, row in reversed(TABLE.items())},
    _Code.RESOURCE_EXHAUSTED: Overloaded,
    _Code.UNIMPLEMENTED: Unimplemented,
    _Code.ABORTED: FailedPrecondition,
    _Code.CANCELLED: Unavailable,
    _Code.UNKNOWN: Internal,
}


def row(kind: type[CortexError]) -> Row:
    """The table's row of a type, or of its nearest base."""
    return next(TABLE[base] for base in kind.__mro__ if base in TABLE)


def internal(trace_id: str) -> Internal:
    """What a caller is told of a defect: where to look, and nothing else."""
    return Internal("an internal error", remedy=f"report it with the trace id {trace_id}: the logs say what happened")


def count(error: CortexError) -> None:
    """Counts an error in /metrics. To be called once, where it is told to a caller."""
    kind = row(type(error))
    telemetry.ERRORS.labels(kind.family, kind.reason).inc()


def to_status(error: CortexError) -> status_pb2.Status:
    """The error as google.rpc.Status: ErrorInfo always, BadRequest with violations, RetryInfo when to try again."""
    kind = row(type(error))
    details: list[Any] = [_error_info(error)]
    if error.violations:
        details.append(_bad_request(error.violations))
    if (seconds := retry_after(error)) is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=_duration(seconds)))
    status = status_pb2.Status(code=kind.code.value[0], message=_cut(error.message, _MESSAGE_BYTES))
    for detail in details:
        status.details.add().Pack(detail)
    return status


def ending(error: CortexError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """The arguments of a gRPC server's `context.abort`: code, message, trailers."""
    status = to_status(error)
    return row(type(error)).code, status.message, ((DETAILS_KEY, status.SerializeToString()),)


async def abort(context: Any, error: CortexError) -> None:
    """Counts the error and ends the call of a gRPC server with it. Raises grpc.aio.AbortError, always."""
    count(error)
    await context.abort(*ending(error))


def from_status(status: status_pb2.Status) -> CortexError:
    """The error that `to_status` was given; for the status of a stranger the nearest type."""
    info = _detail(status, error_details_pb2.ErrorInfo)
    bad = _detail(status, error_details_pb2.BadRequest)
    retry = _detail(status, error_details_pb2.RetryInfo)
    ours = info if info is not None and info.domain == DOMAIN else None
    kind = _BY_NAME.get(ours.metadata["type"]) if ours is not None and "type" in ours.metadata else None
    kind = kind or _BY_CODE.get(_code(status.code), Internal)
    return kind(
        status.message,
        remedy=ours.metadata["remedy"] if ours is not None and "remedy" in ours.metadata else "",
        reason=(ours.reason or None) if ours is not None else None,
        violations=[(v.field, v.description) for v in bad.field_violations] if bad is not None else (),
        retry_after=retry.retry_delay.ToMilliseconds() / 1000 if retry is not None else None,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> CortexError:
    """A failed call as the error that the server raised; what gRPC itself says (no connection, deadline) likewise."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    message = error.details() or error.code().name
    if error.code() is _Code.RESOURCE_EXHAUSTED and "larger than max" in message:
        return TooLarge(message, remedy="send or ask for less at once")
    return _BY_CODE.get(error.code(), Internal)(message)


def to_problem(error: CortexError, trace_id: str) -> dict[str, Any]:
    """The error as the body of an `application/problem+json` reply."""
    kind = row(type(error))
    problem: dict[str, Any] = {
        "type": TYPE_PREFIX + error.reason,
        "title": kind.title,
        "status": kind.http,
        "detail": error.message,
        "reason": error.reason,
        "family": kind.family,
        "retryable": retry_after(error) is not None,
    }
    if error.remedy:
        problem["remedy"] = error.remedy
    if error.violations:
        problem["errors"] = [{"field": field, "message": message} for field, message in error.violations]
    problem["traceId"] = trace_id
    return problem


def retry_after(error: CortexError) -> float | None:
    """Seconds after which to try again; None: trying again does not help."""
    return row(type(error)).retry_after if error.retry_after is None else error.retry_after


def _error_info(error: CortexError) -> error_details_pb2.ErrorInfo:
    metadata = {
        "type": next(base.__name__ for base in type(error).__mro__ if base in TABLE),
        "family": row(type(error)).family,
        "retryable": "true" if retry_after(error) is not None else "false",
    }
    if error.remedy:
        metadata["remedy"] = _cut(error.remedy, _REMEDY_BYTES)
    return error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)


def _bad_request(violations: Iterable[tuple[str, str]]) -> error_details_pb2.BadRequest:
    bad, room = error_details_pb2.BadRequest(), _VIOLATIONS_BYTES
    for field, message in violations:
        room -= len(field.encode()) + len(message.encode()) + 8
        if room < 0:
            break
        bad.field_violations.add(field=field, description=message)
    return bad


def _detail(status: status_pb2.Status, kind: type[Any]) -> Any:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            return _unpacked(packed, kind())
    return None


def _unpacked(packed: AnyMessage, into: Any) -> Any:
    packed.Unpack(into)
    return into


def _code(number: int) -> grpc.StatusCode:
    return next((code for code in grpc.StatusCode if code.value[0] == number), _Code.UNKNOWN)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(round(seconds * 1000))
    return duration


def _cut(text: str, size: int) -> str:
    data = text.encode()
    return text if len(data) <= size else data[: size - 3].decode(errors="ignore") + "..."
