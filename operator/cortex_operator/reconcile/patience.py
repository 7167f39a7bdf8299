"""When to ask pods again that did not say what the Lake holds. Pure.

An event tells when one of them gets ready or is replaced; that a Lake, a network or a process answers again shows by
asking alone. Each question may take a worker seconds, so it is put the more seldom the longer nothing has come of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import ConditionType, get_condition

from cortex_operator.cluster import Object
from cortex_operator.reconcile.model import Observed, Timing
from cortex_operator.reconcile.pods import starts

_SHARE: Final = 0.5
"""Of the time for which it has been so."""


def until_asked_again(timing: Timing, observed: Observed, after: CommonStatus) -> float:
    """Seconds: `moving` at first, at most `idle`. What counts begins anew with each pod and each start of a container,
    as a process that starts is about to answer."""
    told = get_condition(after.conditions, ConditionType.DATA_PLANE_REACHABLE)
    began = max(_times([told.last_transition_time] if told else [], observed.pods), default=observed.now)
    waited = (observed.now - began).total_seconds()
    return min(max(timing.moving, waited * _SHARE), max(timing.idle, timing.moving))


def _times(told: Iterable[str], pods: Iterable[Object]) -> Iterator[datetime]:
    for text in (*told, *(text for pod in pods for text in starts(pod))):
        yield datetime.fromisoformat(text).astimezone(UTC)
