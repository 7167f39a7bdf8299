"""The value of one condition, and short ways to say it."""

from __future__ import annotations

from dataclasses import dataclass

from cortex_kinds.conditions import ConditionStatus, ConditionType


@dataclass(frozen=True)
class Finding:
    """The value of one condition."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str

    @property
    def holds(self) -> bool:
        """Whether it is True."""
        return self.status is ConditionStatus.TRUE

    @property
    def fails(self) -> bool:
        """Whether it is False."""
        return self.status is ConditionStatus.FALSE


def true(type: ConditionType, reason: str, message: str) -> Finding:
    """A condition that holds."""
    return Finding(type, ConditionStatus.TRUE, reason, message)


def false(type: ConditionType, reason: str, message: str) -> Finding:
    """A condition that does not hold."""
    return Finding(type, ConditionStatus.FALSE, reason, message)


def unknown(type: ConditionType, reason: str, message: str) -> Finding:
    """A condition that nobody can tell."""
    return Finding(type, ConditionStatus.UNKNOWN, reason, message)
