"""Objects in as few bytes as they can be read back from: what nobody reads left out, the rest as compressed JSON.

Shields the cache from the size of objects: as dicts a Deployment takes about 40 kB, packed less than one.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import orjson
from cortex_kube.deep import LEVELS

from cortex_operator.cluster.port import FIELD_MANAGER, Object

_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_POD: Final = ("nodeName", "containers")
_CONTAINER: Final = ("name", "startupProbe", "readinessProbe")
_LEVEL: Final = 1


def pack(obj: Object) -> bytes:
    """The object without the fields that others manage and without what is read of no Pod that has a node."""
    trimmed = _trimmed(obj)
    try:
        data = orjson.dumps(trimmed)
    except orjson.JSONEncodeError:
        # It reads more levels than it writes (254). No kind allows so many (`cortex_kinds.base.MAX_DEPTH`), and who
        # reads what is left says so.
        data = orjson.dumps(_shallow(trimmed, LEVELS))
    return zlib.compress(data, _LEVEL)


def unpack(packed: bytes) -> Object:
    """What was packed; the caller's own."""
    found: Object = orjson.loads(zlib.decompress(packed))
    return found


def _trimmed(obj: Object) -> Object:
    meta = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    if ours := [entry for entry in obj["metadata"].get("managedFields") or () if _is_ours(entry)]:
        meta["managedFields"] = ours
    if _LAST_APPLIED in (meta.get("annotations") or {}):
        meta["annotations"] = {name: text for name, text in meta["annotations"].items() if name != _LAST_APPLIED}
    trimmed = {**obj, "metadata": meta}
    return {**trimmed, "spec": _pod(obj["spec"])} if obj["kind"] == "Pod" and "spec" in obj else trimmed


def _shallow(value: Any, levels: int) -> Any:
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        return None
    if isinstance(value, dict):
        return {name: _shallow(each, levels - 1) for name, each in value.items()}
    return [_shallow(each, levels - 1) for each in value]


def _is_ours(entry: dict[str, Any]) -> bool:
    return entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")


def _pod(spec: dict[str, Any]) -> dict[str, Any]:
    """Of a pod that still waits for a node all of it is read, to say why none fits."""
    if "nodeName" not in spec:
        return spec
    kept: dict[str, Any] = {name: spec[name] for name in _POD if name in spec}
    return {**kept, "containers": [{k: c[k] for k in _CONTAINER if k in c} for c in kept.get("containers") or ()]}
