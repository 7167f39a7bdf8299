"""What people may do to an object that is not theirs: each of its values changed, each value and each item of a list
taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from cortex_operator.cluster import FIELD_MANAGER, Object
from cortex_operator.cluster.schema import merge_keys

_IDENTITY: Final = frozenset({"apiVersion", "kind", "status"})
_META: Final = ("labels", "annotations")
_FIXED: Final = {"Deployment": (("spec", "selector"),), "Job": (("spec",),)}
"""What an API server lets nobody change."""
_POD: Final = ("spec", "template", "spec")
_REQUIRED: Final = {
    "Deployment": ((*_POD, "containers", 0),),
    "HorizontalPodAutoscaler": (("spec", "maxReplicas"),),
}
"""What an API server lets nobody take away."""


@dataclass(frozen=True)
class Drift:
    """What somebody does to a field: another value, or none any more."""

    path: tuple[str | int, ...]
    value: Any

    @property
    def removes(self) -> bool:
        return self.value is None

    def of(self, obj: Object) -> Object:
        """A copy of the object after it."""
        changed = deepcopy(obj)
        holder = _at(changed, self.path[:-1])
        if self.removes:
            del holder[self.path[-1]]
        else:
            holder[self.path[-1]] = self.value
        return changed

    def __str__(self) -> str:
        return f"{'remove' if self.removes else 'edit'} {'.'.join(map(str, self.path))}"


def drifts(obj: Object) -> Iterator[Drift]:
    """Of all fields that stand in the object. Its identity, and names of list items, are left: a change of these makes
    another object or item, which is nobody's business."""
    for path in _places(obj):
        value = _at(obj, path)
        is_value = not isinstance(value, dict | list)
        if is_value and not _names_an_item(path):
            yield Drift(path, _other(value))
        if (is_value or isinstance(path[-1], int)) and path not in _REQUIRED.get(obj["kind"], ()):
            yield Drift(path, None)


def is_ours(obj: Object, drift: Drift) -> bool:
    """Whether the API server says that the field is the operator's; one that it filled in, or others did, is not."""
    entries = obj["metadata"]["managedFields"]
    fields: Any = next(e["fieldsV1"] for e in entries if (e["manager"], e["operation"]) == (FIELD_MANAGER, "Apply"))
    value: Any = obj
    for key in drift.path:
        if not {name for name in fields if name != "."}:
            return True  # owned as a whole from here on
        value = value[key]
        named = [f"f:{key}"] if isinstance(key, str) else [n for n in fields if n[:2] == "k:" and _has(value, n[2:])]
        if not named or named[0] not in fields:
            return False
        fields = fields[named[0]]
    return True


def _has(item: Any, keys: str) -> bool:
    return all(item.get(name) == value for name, value in json.loads(keys).items())


def _places(obj: Object) -> Iterator[tuple[str | int, ...]]:
    fixed = _FIXED.get(obj["kind"], ())
    for path in _below(obj, ()):
        if path[0] in _IDENTITY or path == ("spec",) or any(path[: len(each)] == each for each in fixed):
            continue
        if path[0] == "metadata" and (len(path) == 1 or path[1] not in _META) and path[1:] != ("ownerReferences",):
            continue
        yield path


def _below(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _below(inner, (*path, key))


def _names_an_item(path: tuple[str | int, ...]) -> bool:
    names = tuple(name for name in path[:-1] if isinstance(name, str))
    inside = len(path) > 1 and isinstance(path[-2], int)
    return isinstance(path[-1], int) or (inside and path[-1] in (merge_keys(names) or ()))


def _at(obj: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        obj = obj[key]
    return obj


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case "Never":
            return "Always"
        case "False" | "True":
            return "True" if value == "False" else "False"
    return f"{value}1" if value else "drifted"
