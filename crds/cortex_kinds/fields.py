"""Mistakes in the fields of a manifest: every one, although pydantic passes over rules where a field is wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from cortex_kinds.base import Model
from cortex_kinds.cel import found_type
from cortex_kinds.fielderrors import explain
from cortex_kinds.paths import Path
from cortex_kinds.suggest import did_you_mean

M = TypeVar("M", bound=Model)
FieldMistake = tuple[Path, str, str, bool]
"""Path, reason, hint, and whether it is about the key itself."""

_ROOT: Final = ("apiVersion", "kind", "metadata", "spec", "status")
_METADATA: Final = (
    "name", "namespace", "labels", "annotations", "generateName", "finalizers", "ownerReferences", "uid",
    "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "selfLink",
)  # fmt: skip


def field_mistakes(data: dict[str, Any], model: type[M]) -> tuple[M | None, list[FieldMistake]]:
    """The model, when it could be made, and every mistake in the object's fields. `status` is not looked at: whoever
    applies a manifest cannot set it."""
    mistakes = [*_unknown(data, (), _ROOT), *_metadata(data.get("metadata"))]
    left = copy.deepcopy({key: value for key, value in data.items() if key != "status"})
    made, found = _validated(left, model)
    return made, [*mistakes, *found]


def _validated(data: dict[str, Any], model: type[M]) -> tuple[M | None, list[FieldMistake]]:
    """Validates, takes away what is wrong and validates again, until nothing new comes up."""
    found: dict[Path, FieldMistake] = {}
    removed: set[Path] = set()
    while True:
        try:
            return model.model_validate(data), list(found.values())
        except ValidationError as error:
            errors = error.errors()
        for one in errors:
            for path, reason, hint in explain(one, model):
                if not any(path[: len(gone)] == gone for gone in removed):
                    found.setdefault(
                        path, (path, reason, hint, one["type"] == "extra_forbidden" or "[key]" in one["loc"])
                    )
        before = len(removed)
        removed |= {path for one in errors for path in [_remove(data, one)] if path}
        if len(removed) == before:
            return None, list(found.values())


def _remove(data: Any, error: Any) -> Path | None:
    """Takes the value of an error out of the data, where it stands in a map; says which path it was."""
    path = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] in ("missing", "value_error") or not path or isinstance(path[-1], int):
        return None
    here = data
    for part in path[:-1]:
        here = here[part]
    return path if here.pop(path[-1], None) is not None else None


def _unknown(data: dict[str, Any], path: Path, known: tuple[str, ...]) -> Iterator[FieldMistake]:
    for name in data:
        if name not in known:
            yield (*path, name), "there is no such field", did_you_mean(name, known), True


def _metadata(metadata: Any) -> Iterator[FieldMistake]:
    if not isinstance(metadata, dict):
        return
    yield from _unknown(metadata, ("metadata",), _METADATA)
    for field in ("labels", "annotations"):
        values = metadata.get(field)
        for key, value in values.items() if isinstance(values, dict) else ():
            if not isinstance(value, str):
                path = ("metadata", field, key)
                yield path, f"wants a string, found {found_type(value)}", "write it in quotes", False
