"""What the API server refused, as exceptions by what a caller can do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final


class ConfigError(Exception):
    """There is no usable way to a cluster; one line that names the file, the reason and the remedy."""


class ApiError(Exception):
    """A request that was not answered with success. `message` is the API server's own where it gave one, `reason` its
    CamelCase word, `details` its Status.details (causes and such), `retry_after` seconds when it asked for patience.
    `status` is the HTTP status, 0 when none came."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.details = details or {}
        self.retry_after = retry_after


class NotFound(ApiError):
    """404: no such object, or no such kind (then `reason` is empty: the answer is no Status)."""


class Invalid(ApiError):
    """The object or the request itself is wrong; sending it again changes nothing."""


class Conflict(ApiError):
    """409: somebody else was faster, owns a field, or made the object already (`reason` AlreadyExists)."""


class Forbidden(ApiError):
    """401 or 403: who asks is not known, or may not do that."""


class Gone(ApiError):
    """410: the resource version or the continue token is too old; list anew."""


class Unavailable(ApiError):
    """429, 5xx, or no answer at all (connection, TLS, time): try again later."""


_TYPES: Final[dict[int, type[ApiError]]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Unavailable,
}
# Server-side apply tells of a field that the schema does not have by a 500 without a reason.
_UNTYPED: Final = "failed to create typed patch object"
_TEXT: Final = 300


def from_response(status: int, body: bytes, headers: Mapping[str, str], what: str) -> ApiError:
    """The error of a response that is none of success; `what` (METHOD PATH) is named when the server says nothing."""
    return from_status(_status(body), status, what, _seconds(headers.get("Retry-After")))


def from_status(told: Mapping[str, Any], status: int, what: str, retry_after: float | None = None) -> ApiError:
    """The error of a Status object."""
    message = str(told.get("message") or f"{what} was answered with {status}")
    details = told.get("details") or {}
    return _type(status, message)(
        message,
        status=status,
        reason=str(told.get("reason") or ""),
        details=details,
        retry_after=retry_after if retry_after is not None else _seconds(details.get("retryAfterSeconds")),
    )


def _type(status: int, message: str) -> type[ApiError]:
    if status == 500 and message.startswith(_UNTYPED):
        return Invalid
    return _TYPES.get(status, Unavailable if status >= 500 else ApiError)


def _status(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {"message": body.decode(errors="replace").strip()[:_TEXT]}
    return told if isinstance(told, dict) else {}


def _seconds(given: Any) -> float | None:
    # The header may be a date: those who send one get the caller's own patience.
    try:
        return float(given) if given else None
    except ValueError:
        return None
