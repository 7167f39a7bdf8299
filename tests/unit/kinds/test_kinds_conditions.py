"""How conditions change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from cortex_kinds.common import Condition
from cortex_kinds.conditions import get_condition, set_condition, truncate

NOON = datetime(2026, 1, 2, 12, 0, 0, 999, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)


def ready(status: str = "False", message: str = "", now: datetime = NOON) -> list[Condition]:
    return set_condition([], "Ready", status, "PodsStarting", message, 1, now)


def test_time_moves_only_with_the_status() -> None:
    again = set_condition(ready(), "Ready", "False", "PodFailing", "why", 2, LATER)[0]
    turned = set_condition(ready(), "Ready", "True", "Ready", "", 2, LATER)[0]

    assert (again.last_transition_time, again.reason, again.observed_generation) == (
        "2026-01-02T12:00:00Z",
        "PodFailing",
        2,
    )
    assert turned.last_transition_time == "2026-01-02T12:05:00Z"


def test_the_order_stays_and_the_list_given_is_left_alone() -> None:
    before = set_condition(ready(), "GraphValid", "True", "GraphCompiles", "", 1, NOON)
    after = set_condition(before, "Ready", "True", "Ready", "", 1, LATER)

    assert [c.type for c in after] == ["Ready", "GraphValid"]
    assert before[0].status == "False"


@pytest.mark.parametrize("type", ["Reconciling", "Stalled"])
@pytest.mark.parametrize("status", ["False", "Unknown"])
def test_reconciling_and_stalled_are_there_only_while_true(type: str, status: str) -> None:
    while_true = set_condition(ready(), type, "True", "Applying", "", 1, NOON)

    assert get_condition(while_true, type) is not None
    assert get_condition(set_condition(while_true, type, status, "Applying", "", 1, LATER), type) is None


def test_ready_stays_when_it_is_not_true() -> None:
    assert get_condition(set_condition(ready("True"), "Ready", "Unknown", "Pending", "", 1, LATER), "Ready") is not None


@pytest.mark.parametrize(("given", "kept"), [(1023, 1023), (1024, 1024), (1025, 1024), (5000, 1024)])
def test_messages_are_cut(given: int, kept: int) -> None:
    message = ready(message="x" * given)[0].message

    assert len(message) == kept
    assert message.endswith("…") == (given > kept)
    assert truncate("short") == "short"


def test_times_are_utc_and_need_a_zone() -> None:
    zone = timezone(timedelta(hours=2))

    assert ready(now=NOON.astimezone(zone))[0].last_transition_time == "2026-01-02T12:00:00Z"
    with pytest.raises(ValueError, match="has no time zone"):
        ready(now=datetime(2026, 1, 2))
