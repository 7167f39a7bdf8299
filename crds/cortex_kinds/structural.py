"""Structural schemas (apiextensions v1) from models; shields the CRDs from what JSON Schema has and they must not."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import BaseModel

from cortex_kinds.base import Model

_INT32: Final = 2**31 - 1
_KEPT: Final = ("pattern", "format", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
                "minProperties", "maxProperties")  # fmt: skip

Schema = dict[str, Any]


def structural_schema(model: type[BaseModel], *, defaults: bool) -> Schema:
    """The schema of a model: references inlined, every field described, rules attached. With `defaults` the scalars
    that have one get it; objects never do, so that what was not asked for does not appear in a manifest."""
    source = model.model_json_schema(by_alias=True)
    return _Structural(source.get("$defs", {}), defaults).convert(source)


def rules_of(model: type[Model], below: str = "self.") -> list[Schema]:
    """The rules of a model as `x-kubernetes-validations`; `below`: where the model is, as CEL (`self.metadata.`)."""
    prefix = below.removeprefix("self").rstrip(".")
    return [
        {"rule": rule.rule.replace("self.", below), "message": rule.message}
        | ({"fieldPath": prefix + rule.field} if rule.field and not prefix else {})
        for rule in model.rules
    ]


class _Structural:
    def __init__(self, definitions: dict[str, Schema], defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def convert(self, source: Schema) -> Schema:
        source = self._resolved(source)
        schema: Schema = {"description": plain(source["description"])} if "description" in source else {}
        if not source.get("x-kubernetes-int-or-string"):
            schema["type"] = source["type"]
        schema |= {key: source[key] for key in _KEPT if key in source}
        if "const" in source:
            schema["enum"] = [source["const"]]
        schema |= {key: value for key, value in source.items() if key.startswith("x-kubernetes-")}
        return schema | self._by_type(source) | self._default(source)

    def _by_type(self, source: Schema) -> Schema:
        match source["type"]:
            case "integer":
                return {"format": "int32" if source.get("maximum", _INT32 + 1) <= _INT32 else "int64"}
            case "array":
                return {"x-kubernetes-list-type": source.get("x-kubernetes-list-type", "atomic")} | {
                    "items": self.convert(source["items"])
                }
            case "object":
                return self._object(source)
        return {}

    def _object(self, source: Schema) -> Schema:
        if "properties" in source:
            schema: Schema = {"properties": {key: self.convert(value) for key, value in source["properties"].items()}}
            schema |= {"required": source["required"]} if source.get("required") else {}
            rules = rules_of(_models()[source["title"]])
            return schema | ({"x-kubernetes-validations": rules} if rules else {})
        if source.get("x-kubernetes-preserve-unknown-fields") or not source.get("properties", True):
            return {}
        values = list(source.get("patternProperties", {}).values()) or [source.get("additionalProperties")]
        return {"additionalProperties": self.convert(values[0])} if isinstance(values[0], dict) else {}

    def _default(self, source: Schema) -> Schema:
        default = source.get("default")
        scalar = isinstance(default, bool | int | str) and default != ""
        return {"default": default} if scalar and self._defaults else {}

    def _resolved(self, source: Schema) -> Schema:
        """Optional[X] is X: the API server takes null for a field that is left out."""
        source = dict(source)
        for member in (m for m in source.pop("anyOf", []) if m.get("type") != "null"):
            source = member | source
        if reference := source.pop("$ref", ""):
            source = self._definitions[reference.removeprefix("#/$defs/")] | source
            return self._resolved(source)
        return source


def plain(text: str) -> str:
    """A docstring as one paragraph."""
    return re.sub(r"\s+", " ", text).strip()


def _models() -> dict[str, type[Model]]:
    found: dict[str, type[Model]] = {}
    todo: list[type[Model]] = [Model]
    while todo:
        model = todo.pop()
        found[model.__name__] = model
        todo += model.__subclasses__()
    return found
