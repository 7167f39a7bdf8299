"""`spec.resilience`: what pods do when they are asked too much, or ask somebody who fails.

The bounds and defaults are those of the processes too: `cortex_workloads.runtime.resilience.policies` takes them from
here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from cortex_kinds.base import Duration, Model, Whole
from cortex_kinds.cel import Rule

MOST_CALLS: Final = 10_000
LONGEST_WAIT_SECONDS: Final = 60
LONGEST_SECONDS: Final = 3600
SHORTEST_WINDOW_SECONDS: Final = 0.1

Places = Annotated[int, Field(ge=1, le=MOST_CALLS), Whole]
"""Calls that run at once."""
Line = Annotated[int, Field(ge=0, le=MOST_CALLS), Whole]
"""Calls that wait for a place."""
Calls = Annotated[int, Field(ge=1, le=MOST_CALLS), Whole]
"""Calls that are counted."""
Ratio = Annotated[str, Field(min_length=1, max_length=8, pattern=r"^(0?\.[0-9]*[1-9][0-9]*|1(\.0+)?)$")]
"""A part of a whole, above 0 and at most 1: `"0.5"`."""


def _at_most(field: str, seconds: int) -> Rule:
    found = f"!has(self.{field}) || duration(self.{field}) <= duration('{seconds}s')"
    return Rule(found, f"{field} is at most {seconds}s", f".{field}")


class Limit(Model):
    """How many calls of one class a pod takes."""

    rules: ClassVar[tuple[Rule, ...]] = (_at_most("wait", LONGEST_WAIT_SECONDS),)

    concurrent: Places
    """Calls that run at once."""
    waiting: Line
    """Calls that wait for that, at most."""
    wait: Duration
    """Nobody begins to wait when it looks as if it took longer; nobody waits twice as long. At most 60s."""


class SearchLimit(Limit):
    """Of searches: they keep the pod's processor and most of its connections to the Lake busy."""

    concurrent: Places = 8
    """Searches that run at once."""
    waiting: Line = 256
    """Searches that wait for that, at most."""
    wait: Duration = "200ms"
    """Nobody begins to wait when it looks as if it took longer; nobody waits twice as long. At most 60s."""


class WritingLimit(Limit):
    """Of writes: each is large, and who writes can wait longer than who searches."""

    concurrent: Places = 4
    """Writes that run at once."""
    waiting: Line = 16
    """Writes that wait for that, at most."""
    wait: Duration = "5s"
    """Nobody begins to wait when it looks as if it took longer; nobody waits twice as long. At most 60s."""


class PodLimits(Model):
    """How many calls of each class a pod takes; more are refused as `Overloaded`."""

    search: SearchLimit = SearchLimit()
    """Searches."""
    writing: WritingLimit = WritingLimit()
    """Documents that are written and deleted."""


class CircuitBreaker(Model):
    """When the pods of an index are not asked because the last calls failed."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *(_at_most(field, LONGEST_SECONDS) for field in ("window", "open", "probe", "slow")),
        Rule(
            f"!has(self.window) || duration(self.window) >= duration('{int(SHORTEST_WINDOW_SECONDS * 1000)}ms')",
            "window is at least 100ms",
            ".window",
        ),
    )

    failure_ratio: Ratio = "0.5"
    """The circuit opens when this part of the window's calls failed: above 0, at most 1, as a string."""
    minimum_calls: Calls = 10
    """Calls that the window must have for that."""
    window: Duration = "10s"
    """How long a call is counted. From 100ms to an hour."""
    open: Duration = "5s"
    """How long nobody is asked; then the next call is the probe. At most an hour."""
    probe: Duration = "10s"
    """How long a probe keeps others waiting for its answer. At most an hour."""
    slow: Duration = "1s"
    """A deadline that ran out counts when the index had this long: who asks with less time says nothing of it. At most
    an hour."""


class IndexResilience(Model):
    """What the pods of an index do when they are asked too much. A change reaches pods that run, without a restart."""

    limits: PodLimits = PodLimits()
    """How many calls of each class a pod takes; more are refused as `Overloaded`."""


class WorkflowResilience(Model):
    """What the pods of a workflow do when an index fails. A change reaches pods that run, without a restart."""

    circuit_breaker: CircuitBreaker = CircuitBreaker()
    """When the pods of an index are not asked because the last calls failed."""
