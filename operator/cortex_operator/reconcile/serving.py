"""Whether an index can answer those who depend on it, from its stored status. Pure."""

from __future__ import annotations

from typing import Any

from cortex_operator.cluster import Object


def is_leaving(index: Object) -> bool:
    """Whether the CortexIndex was deleted and is going."""
    return "deletionTimestamp" in index["metadata"]


def why_not_serving(index: Object, name: str = "") -> str:
    """Why the CortexIndex cannot answer, or soon cannot; empty when it can. `name`: how it is called, if not by its
    own name alone.

    During a rolling update an index is not Ready, as that is about the new pods, but the old ones answer.
    """
    name, status = name or index["metadata"]["name"], index.get("status") or {}
    if is_leaving(index):
        return f"CortexIndex {name} is being deleted; once it is gone create it anew, or take it out of spec.indexes"
    if index.get("spec", {}).get("suspend"):
        return f"CortexIndex {name} is suspended; set its spec.suspend to false"
    found = {c.get("type"): c for c in status.get("conditions") or ()}
    answers: dict[str, Any] = found.get("IndexReady", {})
    if answers.get("status") == "True" and status.get("readyReplicas", 0) > 0:
        return ""
    if status.get("replicas", 0) == 0 and index.get("spec", {}).get("replicas") == 0:
        return f"CortexIndex {name} is scaled to zero; raise its spec.replicas"
    ready: dict[str, Any] = found.get("Ready", {})
    said = f": {ready['reason']}: {ready.get('message', '')}" if ready else " yet"
    return f"CortexIndex {name} is not ready{said}"
