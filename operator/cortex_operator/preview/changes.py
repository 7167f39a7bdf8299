"""What differs between two states of an object, field by field. Pure; of a Secret only that it differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cortex_kinds.base import parse_quantity

from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.cluster.fields import MISSING, FieldSet, Item, Path, show
from cortex_operator.cluster.schema import ITSELF, KEY_DEFAULTS, merge_keys
from cortex_operator.manifests.origin import ORIGIN

_SERVERS: Final = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields", "selfLink"
)  # fmt: skip
_NOTES: Final = ORIGIN | {"kubectl.kubernetes.io/last-applied-configuration"}
"""Annotations that follow from the rest."""
_QUANTITIES: Final = frozenset({"limits", "requests"})
_IDENTITY: Final[frozenset[Path]] = frozenset(
    {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
)


class Action(StrEnum):
    """What happens to an object."""

    CREATE = "Create"
    CHANGE = "Change"
    DELETE = "Delete"
    NONE = "None"


@dataclass(frozen=True)
class FieldChange:
    """A field that differs. None: it is not there. The same value twice: who sets it changes, the operator or
    somebody else."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class ObjectChange:
    """What happens to one object. `drift`: the operator would do it anyway, without the apply; `unsure`: the object may
    not be read, so nobody knows what it is now."""

    action: Action
    key: ObjectKey
    fields: tuple[FieldChange, ...] = ()
    drift: bool = False
    unsure: bool = False


def action_of(before: Object | None, after: Object | None) -> Action:
    """By which of the two is there; None when both or neither is."""
    if before is None:
        return Action.NONE if after is None else Action.CREATE
    return Action.DELETE if after is None else Action.NONE


def field_changes(before: Object, after: Object) -> tuple[FieldChange, ...]:
    """The fields that differ, but for the status and what the API server keeps."""
    if after.get("kind") == "Secret":
        return (FieldChange("data", "(hidden)", "(hidden)"),) if before.get("data") != after.get("data") else ()
    return tuple(FieldChange(show(path), *values) for path, values in _differing(_plain(before), _plain(after), (), ()))


def handed_over(before: FieldSet, after: FieldSet, obj: Object) -> tuple[FieldChange, ...]:
    """Fields that the operator begins or ceases to set, though their values stay."""
    lost, won = (_beyond(one, other) for one, other in ((before, after), (after, before)))
    return tuple(FieldChange(show(path), value, value) for path in sorted(lost | won, key=show)
                 for value in (_value(obj, path),))  # fmt: skip


def _beyond(some: FieldSet, others: FieldSet) -> FieldSet:
    """Those of which neither a part nor the whole is among the others: the two may be told in different detail."""
    wholes = {path[:n] for path in others for n in range(1, len(path) + 1)}
    return frozenset(
        path for path in some - _IDENTITY
        if path not in wholes and not any(path[:n] in others for n in range(1, len(path)))
    )  # fmt: skip


def _value(obj: Any, path: Path) -> Any:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) and isinstance(name, str) else None
    return obj


def _plain(obj: Object) -> Object:
    meta = {name: value for name, value in obj["metadata"].items() if name not in _SERVERS}
    annotations = {name: value for name, value in (meta.get("annotations") or {}).items() if name not in _NOTES}
    rest = {name: value for name, value in obj.items() if name not in ("status", "metadata")}
    return {**rest, "metadata": {**meta, "annotations": annotations}}


def _differing(before: Any, after: Any, names: tuple[str, ...], path: Path) -> Iterator[tuple[Path, tuple[Any, Any]]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _differing(before.get(name, MISSING), after.get(name, MISSING), (*names, name), (*path, name))
    elif isinstance(before, list) and isinstance(after, list) and (keys := merge_keys(names)) is not None:
        olds, news = _items(before, keys), _items(after, keys)
        for item in dict.fromkeys((*olds, *news)):
            yield from _differing(olds.get(item, MISSING), news.get(item, MISSING), names, (*path, item))
    elif not _equal(before, after, names):
        yield path, (None if before is MISSING else before, None if after is MISSING else after)


def _items(values: list[Any], keys: tuple[str, ...]) -> dict[Item, Any]:
    if keys == (ITSELF,):
        return {Item((value,)): value for value in values}
    return {Item(tuple(value.get(key, KEY_DEFAULTS.get(key)) for key in keys)): value for value in values}


def _equal(before: Any, after: Any, names: tuple[str, ...]) -> bool:
    if before is MISSING or after is MISSING:
        # The built-in kinds leave out false, 0 and what is empty; an empty text, as a label's value, is kept.
        there = after if before is MISSING else before
        return not there and there != ""
    if names and (names[-1] == "sizeLimit" or (len(names) > 1 and names[-2] in _QUANTITIES)):
        return bool(_quantity(before) == _quantity(after))
    return bool(before == after)


def _quantity(value: Any) -> Any:
    try:
        return parse_quantity(value)
    except (TypeError, ValueError):
        return value
