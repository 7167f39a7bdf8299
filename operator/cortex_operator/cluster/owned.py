"""Whether a server-side apply would change anything, told from the live object alone.

Shields the API server from writes that change nothing. `metadata.managedFields` says which fields the manager owns:
when those are the ones that the configuration sets, with equal values, there is nothing to send. What cannot be told
for certain counts as different: the API server then decides.
"""

from __future__ import annotations

import json
from typing import Any, Final

from cortex_kinds.base import parse_quantity

from cortex_operator.cluster.fields import copy_json
from cortex_operator.cluster.port import FIELD_MANAGER, Object
from cortex_operator.cluster.schema import KEY_DEFAULTS

_IDENTITY: Final = ("apiVersion", "kind")
_NO_FIELDS: Final = ("name", "namespace", "uid", "resourceVersion")
_QUANTITIES: Final = frozenset({"limits", "requests"})
_MISSING: Final = object()


def is_applied(config: Object, live: Object, manager: str) -> bool:
    """Whether `live` is what applying `config` as `manager` makes of it; False also when in doubt."""
    fields = _fields_of(live, manager, config["apiVersion"])
    if fields is None:
        return False
    meta = {name: value for name, value in config["metadata"].items() if name not in _NO_FIELDS}
    wanted = {name: value for name, value in config.items() if name not in _IDENTITY}
    wanted = {**wanted, "metadata": meta} if meta else {k: v for k, v in wanted.items() if k != "metadata"}
    return _same(wanted, live, fields, "")


def may_own(live: Object, *path: str, manager: str = FIELD_MANAGER) -> bool:
    """Whether the manager owns the field of `live` by an apply; True also when the store does not tell owners."""
    if "managedFields" not in live["metadata"]:
        return True
    fields = _fields_of(live, manager, live["apiVersion"])
    for name in path:
        fields = fields.get(f"f:{name}") if fields is not None else None
    return fields is not None


def owned_part(live: Object, *path: str, manager: str = FIELD_MANAGER) -> Any:
    """What the manager owns of the value at the path, as it applied it; all of it when it owns nothing there, or when
    the store does not tell owners. Raises KeyError when there is no such value."""
    value: Any = live
    fields = _fields_of(live, manager, live["apiVersion"])
    for name in path:
        value = value[name]
        fields = fields.get(f"f:{name}") if fields is not None else None
    return copy_json(value if fields is None else _part(value, fields))


def _part(value: Any, fields: Any) -> Any:
    inner = {key: owned for key, owned in fields.items() if key != "."}
    if not inner:
        return value
    if isinstance(value, dict):
        return {name: _part(value[name], inner[f"f:{name}"]) for name in value if f"f:{name}" in inner}
    # In the order of the list, which the fields do not tell.
    return [_part(item, owned) for item in value for key, owned in inner.items() if _item([item], key) is not _MISSING]


def _fields_of(live: Object, manager: str, api_version: str) -> Any:
    for entry in live["metadata"].get("managedFields", ()):
        told = (entry.get("manager"), entry.get("operation"), entry.get("apiVersion"), entry.get("subresource", ""))
        if told == (manager, "Apply", api_version, ""):
            return entry.get("fieldsV1")
    return None


def _same(wanted: Any, live: Any, fields: Any, name: str) -> bool:
    """`fields`: the part of fieldsV1 that is about this value; empty for one that is owned as a whole."""
    inner = {key: value for key, value in fields.items() if key != "."}
    if not inner:
        return _equal(wanted, live, name)
    if isinstance(wanted, dict) and isinstance(live, dict):
        return _same_map(wanted, live, inner, name)
    if isinstance(wanted, list) and isinstance(live, list):
        return _same_list(wanted, live, inner)
    return False


def _same_map(wanted: dict[str, Any], live: dict[str, Any], fields: dict[str, Any], name: str) -> bool:
    if {f"f:{key}" for key in wanted} != fields.keys():
        return False

    # The fields of `limits` and `requests` are named by their parent: what they hold is a quantity.
    def told(key: str) -> str:
        return name if name in _QUANTITIES else key

    return all(_same(value, live.get(key, _MISSING), fields[f"f:{key}"], told(key)) for key, value in wanted.items())


def _same_list(wanted: list[Any], live: list[Any], fields: dict[str, Any]) -> bool:
    return len(wanted) == len(fields) and all(
        _same(_item(wanted, key), _item(live, key), inner, "") for key, inner in fields.items()
    )


def _item(items: list[Any], key: str) -> Any:
    """The item that `k:{"name":"a"}` or `v:"a"` names."""
    kind, _, text = key.partition(":")
    told = json.loads(text)
    if kind == "v":
        return told if told in items else _MISSING
    return next((item for item in items if isinstance(item, dict) and _has(item, told)), _MISSING)


def _has(item: dict[str, Any], keys: dict[str, Any]) -> bool:
    return all(item.get(name, KEY_DEFAULTS.get(name)) == value for name, value in keys.items())


def _equal(wanted: Any, live: Any, name: str) -> bool:
    if wanted is _MISSING:
        return False
    if live is _MISSING:
        # The manager owns it and it is not shown: the built-in kinds leave out false, 0 and what is empty.
        return not wanted
    if name in _QUANTITIES or name == "sizeLimit":
        return bool(_quantity(wanted) == _quantity(live))
    return bool(wanted == live) and type(wanted) is type(live)


def _quantity(value: Any) -> Any:
    try:
        return parse_quantity(value)
    except (TypeError, ValueError):
        return value
