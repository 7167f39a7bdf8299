"""What a changed Deployment means for pods: how many before and after, how many are replaced, and how. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cortex_operator.cluster import Object
from cortex_operator.preview.changes import FieldChange


class Way(StrEnum):
    """How pods are replaced."""

    ROLLING = "Rolling"
    """Some at a time."""
    RECREATE = "Recreate"
    """All end before the first new one begins."""
    NONE = "None"
    """No pod is replaced."""


@dataclass(frozen=True)
class PodsChange:
    """Pods of a resource that serves. `surge`, `unavailable`: how many more, or fewer, there are meanwhile."""

    before: int
    after: int
    replaced: int = 0
    way: Way = Way.NONE
    surge: int = 0
    unavailable: int = 0


def pods_change(before: Object | None, after: Object | None, fields: Sequence[FieldChange]) -> PodsChange:
    """By the Deployment before and after; `fields`: what differs between the two."""
    old, new = _replicas(before), _replicas(after)
    replaced = min(old, new) if any(change.path.startswith("spec.template.") for change in fields) else 0
    if not replaced or after is None:
        return PodsChange(old, new)
    strategy = after["spec"].get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return PodsChange(old, new, replaced, Way.RECREATE, 0, old)
    counts = strategy.get("rollingUpdate") or {}
    surge = _count(counts.get("maxSurge", "25%"), new, math.ceil)
    unavailable = _count(counts.get("maxUnavailable", "25%"), new, math.floor)
    return PodsChange(old, new, replaced, Way.ROLLING, surge, max(unavailable, 0 if surge else 1))


def _replicas(deployment: Object | None) -> int:
    return int(deployment["spec"].get("replicas", 1)) if deployment is not None else 0


def _count(value: int | str, of: int, rounded: Callable[[float], int]) -> int:
    text = str(value)
    return rounded(int(text[:-1]) * of / 100) if text.endswith("%") else int(text)
