"""The policies of every process, as classes: what of it may change while it runs. docs/resilience.md explains each.

A process has them from its environment (`runtime.settings`) and, while it runs, from a file (`live`). The operator
renders that file from these classes; the chart's values have the same names. Bounds that a resource's spec has too are
those of `cortex_kinds.resilience`.
"""

from __future__ import annotations

from typing import Annotated

from cortex_kinds import resilience as kinds
from cortex_kinds.base import parse_duration
from cortex_kinds.resilience import Calls, Line, Places
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_Wait = Annotated[float, Field(ge=0, le=kinds.LONGEST_WAIT_SECONDS)]
_Seconds = Annotated[float, Field(gt=0, le=kinds.LONGEST_SECONDS)]


def _seconds(duration: str) -> float:
    return parse_duration(duration).total_seconds()


class Policy(BaseModel):
    """A part of the policies: camelCase in JSON, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True)


_BREAKER = kinds.CircuitBreaker()
_SEARCH, _WRITING = kinds.SearchLimit(), kinds.WritingLimit()


class BreakerPolicy(Policy):
    """When calls of a target are refused because the last ones failed (breaker.py)."""

    failure_ratio: Annotated[float, Field(gt=0, le=1)] = float(_BREAKER.failure_ratio)
    """The circuit opens when this part of the window's calls failed."""
    minimum_calls: Calls = _BREAKER.minimum_calls
    """Calls that the window must have for that."""
    window_seconds: Annotated[float, Field(ge=kinds.SHORTEST_WINDOW_SECONDS, le=kinds.LONGEST_SECONDS)] = _seconds(
        _BREAKER.window
    )
    """How long a call is counted."""
    open_seconds: _Seconds = _seconds(_BREAKER.open)
    """How long nobody is asked; then the next call is the probe."""
    probe_seconds: _Seconds = _seconds(_BREAKER.probe)
    """How long a probe keeps others waiting for its answer."""
    slow_seconds: Annotated[float, Field(ge=0, le=kinds.LONGEST_SECONDS)] = _seconds(_BREAKER.slow)
    """A deadline that ran out counts when the target had this long: who asks with less time says nothing of it."""

    @classmethod
    def of(cls, spec: kinds.CircuitBreaker) -> BreakerPolicy:
        """As a resource has it."""
        return cls(
            failure_ratio=float(spec.failure_ratio),
            minimum_calls=spec.minimum_calls,
            window_seconds=_seconds(spec.window),
            open_seconds=_seconds(spec.open),
            probe_seconds=_seconds(spec.probe),
            slow_seconds=_seconds(spec.slow),
        )


class RetryPolicy(Policy):
    """How calls between services are tried again, by gRPC itself (channels.py)."""

    attempts: Annotated[int, Field(ge=1, le=5)] = 4
    """Tries of a call, the first one too; 1: none is tried again. gRPC makes no more than 5."""
    first_pause_seconds: Annotated[float, Field(ge=0.001, le=kinds.LONGEST_WAIT_SECONDS)] = 0.1
    """Before the second try, about; each pause after that is twice as long."""
    longest_pause_seconds: Annotated[float, Field(ge=0.001, le=kinds.LONGEST_WAIT_SECONDS)] = 1.0
    """No pause is longer, about."""
    tokens: Annotated[int, Field(ge=1, le=1000)] = 100
    """A failed try takes one; nothing is tried again while half of them or fewer are left."""
    token_ratio: Annotated[float, Field(ge=0.001, le=1)] = 0.1
    """Of a token: what an answered call gives back."""


class LimitPolicy(Policy):
    """How many calls of one class a process takes (bulkhead.py)."""

    concurrent: Places
    """Calls that run at once."""
    waiting: Line
    """Calls that wait for that, at most."""
    wait_seconds: _Wait = 0.5
    """Nobody begins to wait when it looks as if it took longer; nobody waits twice as long."""


class SearchLimit(LimitPolicy):
    """Of searches in a search pod: they keep its processor and most of its connections to the Lake busy."""

    concurrent: Places = _SEARCH.concurrent
    waiting: Line = _SEARCH.waiting
    wait_seconds: _Wait = _seconds(_SEARCH.wait)


class WritingLimit(LimitPolicy):
    """Of writes in a search pod: each is large, and who writes can wait longer than who searches."""

    concurrent: Places = _WRITING.concurrent
    waiting: Line = _WRITING.waiting
    wait_seconds: _Wait = _seconds(_WRITING.wait)


class SearchLimits(Policy):
    """Of a search pod."""

    search: SearchLimit = SearchLimit()
    """HaystackService.Search."""
    writing: WritingLimit = WritingLimit()
    """HaystackService.UpdateIndex."""

    @classmethod
    def of(cls, spec: kinds.PodLimits) -> SearchLimits:
        """As a resource has them."""
        search, writing = spec.search, spec.writing
        return cls(
            search=SearchLimit(
                concurrent=search.concurrent, waiting=search.waiting, wait_seconds=_seconds(search.wait)
            ),
            writing=WritingLimit(
                concurrent=writing.concurrent, waiting=writing.waiting, wait_seconds=_seconds(writing.wait)
            ),
        )


class GatewaySearchLimit(LimitPolicy):
    """Of searches in a gateway: they wait in the pods, not here."""

    concurrent: Places = 256
    waiting: Line = 0


class GatewayWritingLimit(LimitPolicy):
    """Of writes in a gateway: each may hold 8 MiB."""

    concurrent: Places = 32
    waiting: Line = 0


class GatewayRunsLimit(LimitPolicy):
    """Of runs that a gateway follows, most of which say nothing for long."""

    concurrent: Places = 1024
    waiting: Line = 0


class GatewayStateLimit(LimitPolicy):
    """Of what a gateway tells of states; who follows a resource costs its pods a look at the Lake each second."""

    concurrent: Places = 256
    waiting: Line = 0


class GatewayLimits(Policy):
    """Of a gateway. Half of the places of a class are what one resource may take."""

    search: GatewaySearchLimit = GatewaySearchLimit()
    """Searches."""
    writing: GatewayWritingLimit = GatewayWritingLimit()
    """Documents that are written and deleted."""
    runs: GatewayRunsLimit = GatewayRunsLimit()
    """Runs that are started, waited for or followed."""
    state: GatewayStateLimit = GatewayStateLimit()
    """States and histories that are read, changes and progress that are followed."""


SearchSeconds = Annotated[float, Field(gt=0, le=kinds.LONGEST_SECONDS)]
"""The time for a search whose caller set none."""


class Policies(Policy):
    """What of a process may change while it runs."""


class SearchPolicies(Policies):
    """Of a search pod."""

    limits: SearchLimits = SearchLimits()


class GraphPolicies(Policies):
    """Of a pod of a workflow."""

    breaker: BreakerPolicy = BreakerPolicy()


class GatewayPolicies(Policies):
    """Of a gateway."""

    breaker: BreakerPolicy = BreakerPolicy()
    retries: RetryPolicy = RetryPolicy()
    limits: GatewayLimits = GatewayLimits()
    search_seconds: SearchSeconds = 30.0
