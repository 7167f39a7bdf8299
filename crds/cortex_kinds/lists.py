"""Lists whose items are told apart by some of their fields, as a pod's `env` is by `name`."""

from __future__ import annotations

from typing import Any

from pydantic import AfterValidator, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from cortex_kinds.base import Model


def keyed(*keys: str, most: int, least: int = 0) -> Any:
    """The bounds of such a list for a field's annotation; the API server refuses two items with the same keys.
    `keys` are names in the manifest, of fields that are required strings. Stands before `unique`."""
    extra: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [*keys]}
    return Field(min_length=least or None, max_length=most, json_schema_extra=extra)


def unique(*keys: str) -> AfterValidator:
    """The same check offline."""

    def check(items: list[Model]) -> list[Model]:
        seen: set[tuple[Any, ...]] = set()
        for manifest in (item.to_manifest() for item in items):
            key = tuple(manifest[name] for name in keys)
            if key in seen:
                shown = ", ".join(map(str, key))
                reason = "two items have the same {keys} {shown}; remove one"
                raise PydanticCustomError("duplicate", reason, {"keys": "/".join(keys), "shown": repr(shown)})
            seen.add(key)
        return items

    return AfterValidator(check)
