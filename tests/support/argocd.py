"""What Argo CD says of objects with docs/argocd/health.lua, run as Argo CD runs it: the object is the global `obj`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cortex_operator.cluster import Object
from lupa.lua51 import LuaRuntime

SCRIPT = Path(__file__).parents[2] / "docs" / "argocd" / "health.lua"


def health(objects: Iterable[Object]) -> list[str]:
    """Progressing, Healthy or Degraded, for each; every one has a message."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    judge = lua.compile(SCRIPT.read_text())
    return [_judged(lua, judge, obj) for obj in objects]


def _judged(lua: Any, judge: Any, obj: Object) -> str:
    lua.globals().obj = _table(lua, obj)
    found = judge()
    assert found.message, obj
    return str(found.status)


def _table(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({name: _table(lua, inner) for name, inner in value.items()})
    if isinstance(value, list):
        return lua.table_from([_table(lua, inner) for inner in value])
    return value
