"""Who set which field of a live object: `metadata.managedFields` as the field sets of `fields.py`.

Shields the in-memory store from how an API server writes them down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cortex_operator.cluster.fields import FieldSet, Item, Path
from cortex_operator.cluster.port import Object
from cortex_operator.cluster.schema import ITSELF, KEY_DEFAULTS, merge_keys


def owners_of(obj: Object) -> dict[str, FieldSet]:
    """Manager -> what it set. Those that did not apply the object itself have their operation in the name, as a name
    may stand for several."""
    entries = obj["metadata"].get("managedFields") or ()
    return {_name(entry): frozenset(_paths(entry.get("fieldsV1") or {}, (), ())) for entry in entries}


def _name(entry: dict[str, Any]) -> str:
    manager, operation, part = (str(entry.get(name, "")) for name in ("manager", "operation", "subresource"))
    return manager if (operation, part) == ("Apply", "") else f"{manager} {operation} {part}"


def _paths(fields: dict[str, Any], names: tuple[str, ...], path: Path) -> Iterator[Path]:
    inner = {name: below for name, below in fields.items() if name != "."}
    if path and (not inner or ("." in fields and isinstance(path[-1], Item))):
        yield path
    for name, below in inner.items():
        sort, _, text = name.partition(":")
        if sort == "f":
            yield from _paths(below, (*names, text), (*path, text))
        elif (item := _item(sort, text, names)) is not None:
            yield from _paths(below, names, (*path, item))
        else:
            yield path


def _item(sort: str, text: str, names: tuple[str, ...]) -> Item | None:
    """The item that `k:{"name":"a"}` or `v:"a"` names; None where the store takes the list as a whole."""
    keys = merge_keys(names)
    if keys is None:
        return None
    told = json.loads(text)
    if sort == "v" or keys == (ITSELF,):
        return Item((told,))
    return Item(tuple(told.get(key, KEY_DEFAULTS.get(key)) for key in keys))
