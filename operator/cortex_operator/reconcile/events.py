"""Which Events a written status is worth: what has changed its meaning between the one before and the one after. Pure.

A new Event: a reason in `cortex_kinds.events`, and where a condition tells it a row of `_TURNS` or `_PRESENT`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cortex_kinds.common import CommonStatus, Condition
from cortex_kinds.conditions import ConditionStatus, ConditionType, Reason, get_condition
from cortex_kinds.events import WARNINGS, EventReason, Notice

_TURNS: Final = {
    ConditionType.DEPENDENCIES_READY: (EventReason.DEPENDENCIES_FOUND, EventReason.DEPENDENCY_MISSING),
    ConditionType.SCHEDULABLE: (EventReason.SCHEDULED, EventReason.UNSCHEDULABLE),
    ConditionType.AUTOSCALING_READY: (EventReason.AUTOSCALING_READY, EventReason.AUTOSCALING_FAILING),
}
"""Of a condition that may be False: told when it turns True from False; and when it turns False, or is so for another
reason."""
_PRESENT: Final = {
    ConditionType.SUSPENDED: (EventReason.SUSPENDED, EventReason.RESUMED),
    ConditionType.DELETED_IN_USE: (EventReason.DELETED_IN_USE, None),
    ConditionType.STALLED: (EventReason.STALLED, EventReason.RECOVERED),
}
"""Of a condition that is there only while True: told when it comes, or is so for another reason; and when it goes,
unless that tells nothing."""
_OVER: Final = {EventReason.RESUMED: "it is no longer suspended: its pods are made again, as its spec says"}
"""What is said where the reason that is over tells nothing."""
_STALLED_BY: Final[Mapping[str, EventReason]] = {
    Reason.APPLY_REFUSED: EventReason.APPLY_REFUSED,
    Reason.REVISION_FAILED: EventReason.REVISION_FAILED,
    Reason.INGEST_FAILED: EventReason.REVISION_FAILED,
}
"""Stalled for these reasons has names of its own."""
_GOING: Final[Mapping[str, EventReason]] = {
    Reason.DATA_CLEANUP: EventReason.DATA_CLEANUP,
    Reason.WAITING_FOR_FINALIZERS: EventReason.WAITING_FOR_FINALIZERS,
}
"""Reasons of a Ready of one that is being deleted."""
_NOTHING_SERVES: Final = frozenset({Reason.SUSPENDED, Reason.SCALED_TO_ZERO})
"""Reasons of a Ready that is True without pods."""
_PODS: Final = frozenset({Reason.POD_FAILING, Reason.PODS_REFUSED})


def events(before: CommonStatus, after: CommonStatus) -> tuple[Notice, ...]:
    """What to tell once `after` is written over `before`; nothing when a reader learns nothing new. Of a resource that
    was never seen before nothing has changed: only what is wrong is told."""
    unseen = before.observed_generation < 0
    return tuple(notice for notice in _all(before, after) if notice.reason in WARNINGS or not unseen)


def _all(before: CommonStatus, after: CommonStatus) -> Iterator[Notice]:
    yield from _ready(before, after)
    for type, (holds, fails) in _TURNS.items():
        yield from _turned(*_pair(before, after, type), holds, fails)
    for type, (comes, goes) in _PRESENT.items():
        yield from _came_or_went(*_pair(before, after, type), comes, goes)
    if after.current_revision not in ("", before.current_revision):
        instead = f" in place of {before.current_revision}" if before.current_revision else ""
        note = f"revision {after.current_revision} answers{instead}"
        yield Notice(EventReason.REVISION_PROMOTED, note)


def _ready(before: CommonStatus, after: CommonStatus) -> Iterator[Notice]:
    was, now = _pair(before, after, ConditionType.READY)
    if now is not None and (event := _of_ready(was, now)) is not None:
        yield _notice(event, now)


def _of_ready(was: Condition | None, now: Condition) -> EventReason | None:
    other = was is None or was.reason != now.reason
    if now.reason in _GOING:
        return _GOING[now.reason] if other else None
    if _serves(now):
        if not _serves(was):
            return EventReason.READY
        return EventReason.REVISION_BUILDING if other and now.reason == Reason.REVISION_BUILDING else None
    if _holds(now):
        return EventReason.SCALED_TO_ZERO if other and now.reason == Reason.SCALED_TO_ZERO else None
    if was is not None and _serves(was):
        changed = was.observed_generation != now.observed_generation
        return EventReason.UPDATING if changed else EventReason.NOT_READY
    return EventReason.POD_FAILING if other and now.reason in _PODS else None


def _turned(was: Condition | None, now: Condition | None, holds: EventReason, fails: EventReason) -> Iterator[Notice]:
    if now is None or now.reason == Reason.SUSPENDED:
        return  # nothing is looked at: neither found nor lost
    if now.status == ConditionStatus.FALSE and (was is None or (was.status, was.reason) != (now.status, now.reason)):
        yield _notice(fails, now)
    elif _holds(now) and was is not None and was.status == ConditionStatus.FALSE and was.reason != Reason.SUSPENDED:
        yield _notice(holds, now)


def _came_or_went(
    was: Condition | None, now: Condition | None, comes: EventReason, goes: EventReason | None
) -> Iterator[Notice]:
    if now is not None and (was is None or was.reason != now.reason):
        yield _notice(_STALLED_BY.get(now.reason, comes), now)
    elif now is None and was is not None and goes is not None:
        yield Notice(goes, _OVER.get(goes, f"it is no longer {was.type.lower()}: {was.reason} is over"))


def _notice(event: EventReason, condition: Condition) -> Notice:
    said = condition.message
    return Notice(event, said if condition.reason == event else f"{condition.reason}: {said}")


def _pair(before: CommonStatus, after: CommonStatus, type: ConditionType) -> tuple[Condition | None, Condition | None]:
    return get_condition(before.conditions, type), get_condition(after.conditions, type)


def _holds(condition: Condition | None) -> bool:
    return condition is not None and condition.status == ConditionStatus.TRUE


def _serves(condition: Condition | None) -> bool:
    return condition is not None and _holds(condition) and condition.reason not in _NOTHING_SERVES
