"""The input of a run: from protobuf to JSON, held against the workflow's schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from cortex_kinds.inputschema import broken_rule
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry

from cortex_workloads.runtime.errors import InvalidInput, TooLarge

_EXACT: Final = 2**53
_VIOLATIONS: Final = 32


class InputSchema:
    """`spec.input.schema`. Raises InvalidInput when it is no JSON Schema (2020-12)."""

    def __init__(self, schema: Mapping[str, Any], most_bytes: int) -> None:
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise InvalidInput(
                f"spec.input.schema is not a JSON Schema: {broken_rule(error)} (at {_path(error)})",
                remedy="correct it: https://json-schema.org/draft/2020-12",
            ) from error
        # An empty registry: a $ref to an address must not make this pod fetch it.
        self._validator = Draft202012Validator(schema, registry=Registry())
        self._most_bytes = most_bytes

    def check(self, value: dict[str, Any]) -> None:
        """Raises InvalidInput with every violation, or TooLarge."""
        if (large := _too_large(value, "input")) is not None:
            raise InvalidInput(
                f"{large} is beyond 2^53: numbers are doubles on the way, and would be changed",
                remedy="send it as a string",
                violations=[(large, "is beyond 2^53")],
            )
        data = orjson.dumps(value)
        if len(data) > self._most_bytes:
            raise TooLarge(
                f"the input has {len(data):,} bytes as JSON, more than limits.stateBytes ({self._most_bytes:,})",
                remedy="send less, or raise spec.limits.stateBytes",
            )
        if b"\\u0000" in data:
            raise InvalidInput("the input holds the character U+0000", remedy="remove it: the Lake cannot store it")
        errors = [*self._validator.iter_errors(value)][:_VIOLATIONS]
        if errors:
            violations = sorted((_path(error), broken_rule(error)) for error in errors)
            raise InvalidInput(
                "the input is not what spec.input.schema asks for: "
                + "; ".join(f"{field}: {message}" for field, message in violations),
                remedy="correct the input: spec.input.schema of the workflow says what it takes",
                violations=violations,
            )


def from_struct(struct: Struct) -> dict[str, Any]:
    """JSON; numbers without a fraction are integers (a Struct knows doubles only)."""
    value: dict[str, Any] = _integers(MessageToDict(struct))
    return value


def to_struct(value: Mapping[str, Any]) -> Struct:
    """As protobuf."""
    struct = Struct()
    struct.update(value)
    return struct


def _integers(value: Any) -> Any:
    match value:
        case dict():
            return {key: _integers(item) for key, item in value.items()}
        case list():
            return [_integers(item) for item in value]
        case float() if value.is_integer() and abs(value) <= _EXACT:
            return int(value)
    return value


def _too_large(value: Any, path: str) -> str | None:
    match value:
        case dict():
            inner = [(f"{path}.{key}", item) for key, item in value.items()]
        case list():
            inner = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
        case int() | float() if abs(value) > _EXACT:
            return path
        case _:
            return None
    return next((found for name, item in inner if (found := _too_large(item, name)) is not None), None)


def _path(error: ValidationError | SchemaError) -> str:
    path = error.json_path.removeprefix("$").removeprefix(".")
    return f"input.{path}" if path else "input"
