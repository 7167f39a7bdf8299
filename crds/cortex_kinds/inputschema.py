"""The JSON Schema of a workflow's input: whether it is one, which keys of the state it declares, what breaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from cortex_kinds.paths import Path
from cortex_kinds.suggest import did_you_mean

LIMIT_BYTES: Final = 65_536
_SHOWN: Final = 60
_REASON: Final = 300
_BOUNDS: Final = {
    "maxLength": "is too long; the limit is {:,} characters", "minLength": "is too short; characters needed: {:,}",
    "maxItems": "has too many items; the limit is {:,}", "minItems": "has too few items; needed: {:,}",
    "maxProperties": "has too many properties; the limit is {:,}",
    "minProperties": "has too few properties; needed: {:,}",
}  # fmt: skip
_OPEN: Final = ("patternProperties", "additionalProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref",
                "if", "dependentSchemas", "$dynamicRef")  # fmt: skip


def schema_mistakes(schema: Any) -> list[tuple[Path, str]]:
    """What is wrong with `spec.input.schema` (JSON Schema 2020-12, of type object), each with the path below it.

    None, the schema left out, is right: any object."""
    if schema is None:
        return []
    if not isinstance(schema, Mapping):
        return [((), "a JSON Schema is an object, for example {type: object}")]
    if len(json.dumps(schema, default=str)) > LIMIT_BYTES:
        return [((), f"the schema is over {LIMIT_BYTES} bytes of JSON: describe the input more simply")]
    meta = list(_meta(schema))
    kind = [] if any(path == ("type",) for path, _ in meta) else _kind(schema)
    return [*meta, *kind, *_references(schema, ())]


def schema_keys(schema: Any) -> set[str] | None:
    """The keys that an input has by its schema; None when it may have others that are not named."""
    if not isinstance(schema, Mapping) or not isinstance(schema.get("properties"), Mapping):
        return None
    return None if any(schema.get(word) for word in _OPEN) else set(schema["properties"])


def broken_rule(error: ValidationError | SchemaError) -> str:
    """Which rule of a schema a value breaks: at most 60 characters of the value, then always the reason."""
    rule, limit, schema = str(error.validator), error.validator_value, error.schema
    value, message = repr(error.instance), str(error.message)
    if rule in _BOUNDS:
        return f"{_short(value)} {_BOUNDS[rule].format(limit)}"
    if rule == "additionalProperties" and limit is False and isinstance(schema, Mapping):
        return _unknown(schema, cast("Mapping[str, Any]", error.instance))
    if message.startswith(value):
        message = _short(value) + message[len(value) :]
    return message if len(message) <= _REASON else f"{message[: _REASON - 3]}..."


def _unknown(schema: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    known, patterns = list(schema.get("properties", {})), schema.get("patternProperties", {})
    names = [name for name in value if name not in known and not any(re.search(p, name) for p in patterns)]
    hints = [hint for name in names[:1] if (hint := did_you_mean(name[:_SHOWN], known))]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return "; ".join([f"there is no {', '.join(_short(repr(name)) for name in names[:3])}{more}", *hints])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _meta(schema: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    meta = Draft202012Validator(Draft202012Validator.META_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for error in meta.iter_errors(schema):
        hint = "; the input is an object: write type: object" if list(error.absolute_path) == ["type"] else ""
        yield tuple(error.absolute_path), f"not valid JSON Schema: {broken_rule(error)}{hint}"


def _kind(schema: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    if schema.get("type") != "object":
        yield ("type",) if "type" in schema else (), "the input is an object: write type: object"


def _references(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if key == "$ref" and isinstance(child, str) and not child.startswith("#"):
            yield (*path, key), f"{child!r} is outside the schema: only references that begin with # are followed"
        yield from _references(child, (*path, key))
