"""Reads request bodies: bounded before they are in memory, and refused with the place of the mistake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import orjson
from cortex_kinds.fielderrors import explain
from google.protobuf.struct_pb2 import Struct
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from cortex_workloads.runtime.errors import InvalidInput, Malformed, TooLarge, UnsupportedMediaType

M = TypeVar("M", bound=BaseModel)
DEPTH: Final = 32
"""How deeply JSON may be nested."""
_SHOWN: Final = 100
_JSON: Final = "application/json"


def media_type(request: Request) -> str:
    """The content type without its parameters; empty when there is none."""
    return request.headers.get("content-type", "").split(";", 1)[0].strip().lower()


async def read(request: Request, model: type[M], limit: int, remedy: str) -> M:
    """The JSON body as a model. Raises UnsupportedMediaType, TooLarge (with the remedy), Malformed, InvalidInput."""
    require(request, _JSON)
    return validate(model, await _bytes(request, limit, remedy))


def require(request: Request, *wanted: str) -> str:
    """The content type, if it is one of these. Raises UnsupportedMediaType."""
    if (given := media_type(request)) in wanted:
        return given
    # Without a type, any page of the web could send it from the user's browser unasked (a "simple" request).
    raise UnsupportedMediaType(
        f"the body's Content-Type is {given or 'missing'}", remedy=f"send it as {' or '.join(wanted)}"
    )


def validate(model: type[M], data: bytes) -> M:
    """JSON as a model. Raises Malformed, InvalidInput."""
    value = parse(data)
    check(value, data)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error, model) from None


def parse(data: bytes) -> Any:
    """JSON. Raises Malformed with the position of the mistake."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(
            f"the body is not UTF-8: byte 0x{data[error.start]:02x} at position {error.start}",
            reason="NotUTF8",
            remedy="encode it as UTF-8",
        ) from None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise Malformed(f"the body is not JSON: {error.msg} ({where})", reason="NotJSON") from None


def check(value: Any, data: bytes) -> None:
    """Raises InvalidInput for what JSON allows and the Lake or the protocol does not: NUL characters, deep nesting."""
    if data.count(b"[") + data.count(b"{") > DEPTH and _depth(value, DEPTH) < 0:
        raise InvalidInput(f"the body is nested more deeply than {DEPTH} levels", reason="TooDeep")
    if b"\\u0000" in data and (path := _nul(value, "")) is not None:
        message = "contains the character U+0000, which cannot be stored"
        raise InvalidInput(f"{path or '/'} {message}", violations=[(path, message)], remedy="remove it")


def invalid(error: ValidationError, model: type[BaseModel]) -> InvalidInput:
    """What pydantic found wrong for a model: every mistake (the first 100), by JSON pointer."""
    found = [mistake for line in error.errors(include_url=False) for mistake in explain(line, model)]
    violations = [(pointer(path), f"{reason}; {hint}" if hint else reason) for path, reason, hint in found]
    first = f"{violations[0][0] or 'the body'}: {violations[0][1]}"
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return InvalidInput(f"the request is not valid: {first}{more}", violations=violations[:_SHOWN])


def pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def to_struct(value: dict[str, Any]) -> Struct:
    """JSON as a protobuf Struct."""
    struct = Struct()
    struct.update(value)
    return struct


async def _bytes(request: Request, limit: int, remedy: str) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(int(declared), limit, remedy)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise _too_large(len(data), limit, remedy)
    return bytes(data)


def _too_large(size: int, limit: int, remedy: str) -> TooLarge:
    return TooLarge(f"the body has {size:,} bytes or more, {limit:,} are allowed", remedy=remedy)


def _depth(value: Any, left: int) -> int:
    if left < 0:
        return left
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return min((_depth(child, left - 1) for child in children), default=left)


def _nul(value: Any, path: str) -> str | None:
    match value:
        case str():
            return path if "\0" in value else None
        case dict():
            pairs = [(f"{path}{pointer([key])}", item) for key, item in value.items()]
            if any("\0" in key for key in value):
                return path
        case list():
            pairs = [(f"{path}/{number}", item) for number, item in enumerate(value)]
        case _:
            return None
    return next((found for where, item in pairs if (found := _nul(item, where)) is not None), None)
