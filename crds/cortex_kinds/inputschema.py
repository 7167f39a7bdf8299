"""The JSON Schema of a workflow's input: whether it is one, and which keys of the state it declares."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator

from cortex_kinds.paths import Path

LIMIT_BYTES: Final = 65_536
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


def _meta(schema: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    meta = Draft202012Validator(Draft202012Validator.META_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for error in meta.iter_errors(schema):
        hint = "; the input is an object: write type: object" if list(error.absolute_path) == ["type"] else ""
        yield tuple(error.absolute_path), f"not valid JSON Schema: {error.message[:200]}{hint}"


def _kind(schema: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    if schema.get("type") != "object":
        yield ("type",) if "type" in schema else (), "the input is an object: write type: object"


def _references(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        if key == "$ref" and isinstance(child, str) and not child.startswith("#"):
            yield (*path, key), f"{child!r} is outside the schema: only references that begin with # are followed"
        yield from _references(child, (*path, key))
