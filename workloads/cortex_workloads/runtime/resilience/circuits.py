"""The circuits of a process, one for each target: which errors count, what a refused caller hears, metrics, logs.

    with circuit.call() as answered:           # raises Unavailable (CircuitOpen) without asking anybody
        ...                                    # what it raises is counted, or not
        answered()                             # a stream, at its first answer: what comes after it does not count

Shields the channels from the breaker's states, and the breaker from errors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge

from cortex_workloads.runtime.errors import CortexError, DeadlineExceeded, Unavailable
from cortex_workloads.runtime.resilience.breaker import Attempt, Breaker, State
from cortex_workloads.runtime.resilience.policies import BreakerPolicy
from cortex_workloads.runtime.telemetry import REGISTRY

_log: Final = logging.getLogger("cortex.resilience")
_STATE: Final = Gauge(
    "cortex_circuit_state", "0 Closed, 1 HalfOpen, 2 Open: nobody is asked", ("target",), registry=REGISTRY
)
_OPENED: Final = Counter("cortex_circuit_opened_total", "Circuits that opened", ("target",), registry=REGISTRY)
_FAILURES: Final = Counter(
    "cortex_circuit_failures_total", "Failed calls that counted", ("target", "reason"), registry=REGISTRY
)
_REFUSED: Final = Counter(
    "cortex_circuit_refused_total", "Calls answered CircuitOpen without asking", ("target",), registry=REGISTRY
)
_PASSING: Final = frozenset({"NoRevision", "Starting", "ModelLoading", "RevisionChanging", "Draining", "LakeFull"})
"""Reasons of a target that begins, changes or ends in good order: over in seconds, and told at once. Of a full Lake,
too: others of the target's calls only read."""
_SOON_SECONDS: Final = 1.0
"""What a caller waits at most while a probe is under way: it may be answered any moment."""


class Circuit:
    """Of one target; `target` names it in metrics, `name` for people."""

    def __init__(
        self, target: str, name: str, policy: BreakerPolicy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._policy, self._clock = name, policy, clock
        self._breaker = Breaker(policy, clock)
        self._last, self._forgotten = "", False
        self._target = target.removeprefix("dns:///")
        _STATE.labels(self._target).set_function(lambda: float(self._breaker.state))
        self._opened, self._refused = _OPENED.labels(self._target), _REFUSED.labels(self._target)

    @property
    def state(self) -> State:
        """Now."""
        return self._breaker.state

    @contextmanager
    def call(self, *, stream: bool = False) -> Iterator[Callable[[], None]]:
        """Around one call with all its retries. Counts Unavailable, and DeadlineExceeded when the target had
        `slow_seconds`; not of a `stream`, as a run may have nothing to say for long. Raises Unavailable
        (CircuitOpen)."""
        attempt = self._breaker.admit()
        if attempt is None:
            self._refused.inc()
            raise self.refusal()
        try:
            yield lambda: self._settle(attempt.succeeded)
        except CortexError as error:
            if not attempt.settled:
                self._account(attempt, error, stream)
            raise
        except BaseException:
            attempt.dropped()
            raise
        self._settle(attempt.succeeded)

    def change(self, policy: BreakerPolicy) -> None:
        """From now on by this policy; see `Breaker.change`."""
        self._policy = policy
        self._breaker.change(policy)

    def forget(self) -> None:
        """Takes the target out of /metrics. To be called once, when there is nothing behind it any more."""
        self._forgotten = True
        for metric in (_STATE, _OPENED, _REFUSED, _FAILURES):
            metric.remove_by_labels({"target": self._target})

    def moved(self) -> None:
        """Other pods are behind the target: an open circuit tries them with the next call."""
        self._breaker.hasten()

    def refusal(self) -> Unavailable:
        """What a caller hears while the circuit is not closed."""
        wait = self._breaker.wait()
        return Unavailable(
            f"{self._name} is not asked for now, as too many of its last calls failed, the last with: {self._last}",
            reason="CircuitOpen",
            remedy="try again later: one call at a time finds out whether it answers again",
            retry_after=wait if self.state is State.OPEN else min(wait, _SOON_SECONDS),
        )

    def _account(self, attempt: Attempt, error: CortexError, stream: bool) -> None:
        match error:
            case Unavailable():
                counts = error.reason not in _PASSING
            case DeadlineExceeded():
                counts = not stream and self._clock() - attempt.since >= self._policy.slow_seconds
            case _:
                return self._settle(attempt.succeeded)
        if counts:
            self._failed(attempt, error)
        else:
            attempt.dropped()

    def _failed(self, attempt: Attempt, error: CortexError) -> None:
        self._last = error.message
        if not self._forgotten:
            _FAILURES.labels(self._target, type(error).__name__).inc()
        self._settle(attempt.failed)

    def _settle(self, how: Callable[[], None]) -> None:
        before = self._breaker.state
        how()
        after = self._breaker.state
        if after is State.OPEN and before is not State.OPEN:
            self._opened.inc()
            _log.warning("circuit opened: %s", self._last, extra={"target": self._target})
        elif after is State.CLOSED and before is not State.CLOSED:
            _log.info("circuit closed", extra={"target": self._target})
