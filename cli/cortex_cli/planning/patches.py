"""What `kubectl apply` without `--server-side` sends: a JSON merge patch by what it sent the last time. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
Object = dict[str, Any]


def last_applied(live: Object) -> Object | None:
    """What it sent the last time; None: it never did."""
    text = (live["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        found = json.loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def merge_patch(last: Object, manifest: Object) -> Object:
    """Sets what the manifest has, and takes away what it had the last time."""
    gone = {name: None for name in last if name not in manifest}
    return {**gone, **{name: _value(last.get(name), value) for name, value in manifest.items()}}


def patched(live: Object, patch: Object) -> Object:
    """The object after a JSON merge patch (RFC 7386)."""
    result = {name: value for name, value in live.items() if name not in patch}
    for name, value in patch.items():
        if isinstance(value, dict):
            below = live.get(name)
            result[name] = patched(below if isinstance(below, dict) else {}, value)
        elif value is not None:
            result[name] = value
    return result


def _value(last: Any, value: Any) -> Any:
    return merge_patch(last if isinstance(last, dict) else {}, value) if isinstance(value, dict) else value
