"""A circuit breaker: whether a target may be asked, by how the last calls of it went.

    attempt = breaker.admit()          # None: do not ask
    attempt.succeeded() | attempt.failed() | attempt.dropped()

Pure: it counts what it is told by the clock that it is given, and knows neither gRPC nor errors. Closed: every call is
admitted; Open: none; HalfOpen, when it was open for long enough: one at a time, the probe, whose end decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cortex_workloads.runtime.resilience.policies import BreakerPolicy

_SLICES: Final = 10


class State(IntEnum):
    """Of a circuit; the number is what /metrics shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def word(self) -> str:
        """Closed, HalfOpen or Open."""
        return self.name.title().replace("_", "")


class Attempt:
    """One admitted call. The first thing said of it holds; who says nothing at all has still lost no more than the
    probe's time."""

    def __init__(self, breaker: Breaker, era: int, since: float) -> None:
        self.era, self.since = era, since
        self._breaker: Breaker | None = breaker

    @property
    def settled(self) -> bool:
        """Whether something was said of it."""
        return self._breaker is None

    def succeeded(self) -> None:
        """The target answered, be it with a refusal."""
        self._settle(Breaker._succeeded)

    def failed(self) -> None:
        """The target did not answer, or said that it cannot."""
        self._settle(Breaker._failed)

    def dropped(self) -> None:
        """The call ended without a word about the target: its caller left."""
        self._settle(Breaker._dropped)

    def _settle(self, how: Callable[[Breaker, Attempt], None]) -> None:
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            how(breaker, self)


class Breaker:
    """`clock` gives seconds that only grow."""

    def __init__(self, policy: BreakerPolicy, clock: Callable[[], float]) -> None:
        self._policy, self._clock = policy, clock
        self._window = _Window(policy.window_seconds)
        self._probed_from: float | None = None
        self._probe: Attempt | None = None
        # What was admitted before the circuit opened says nothing about the target as it is after that.
        self._era = 0

    @property
    def state(self) -> State:
        """Now: an open circuit becomes HalfOpen by itself, when its time is over."""
        if self._probed_from is None:
            return State.CLOSED
        return State.HALF_OPEN if self._clock() >= self._probed_from else State.OPEN

    @property
    def counts(self) -> tuple[int, int]:
        """(failures, calls) of the window."""
        return self._window.counts(self._clock())

    def admit(self) -> Attempt | None:
        """None while the target must not be asked; see `wait`."""
        state = self.state
        if state is State.OPEN or (state is State.HALF_OPEN and self._probed_for() > 0):
            return None
        attempt = Attempt(self, self._era, self._clock())
        if state is State.HALF_OPEN:
            self._probe = attempt
        return attempt

    def wait(self) -> float:
        """Seconds until a call may be admitted, at most; 0 when it may be now."""
        if self._probed_from is None:
            return 0.0
        return max(0.0, self._probed_from - self._clock(), self._probed_for())

    def hasten(self) -> None:
        """The target is not what it was (its pods are others): an open circuit tries it with the next call."""
        if self.state is State.OPEN:
            self._probed_from = self._clock()

    def change(self, policy: BreakerPolicy) -> None:
        """From now on by this policy. What was counted stays counted; a circuit that is open is so for as long as if it
        had been opened by the new one."""
        if self.state is State.OPEN and self._probed_from is not None:
            self._probed_from += policy.open_seconds - self._policy.open_seconds
        if policy.window_seconds != self._policy.window_seconds:
            self._window = self._window.of(policy.window_seconds)
        self._policy = policy

    def _probed_for(self) -> float:
        # A probe that is never answered gives its place away, as its caller may be gone without a word.
        return 0.0 if self._probe is None else self._probe.since + self._policy.probe_seconds - self._clock()

    def _succeeded(self, attempt: Attempt) -> None:
        if attempt.era != self._era:
            return
        if self._probed_from is None:
            self._window.add(self._clock(), failed=False)
        else:
            self._close()

    def _failed(self, attempt: Attempt) -> None:
        if attempt.era != self._era:
            return
        now = self._clock()
        if self._probed_from is not None:
            if attempt is self._probe:
                self._open(now)
            return
        self._window.add(now, failed=True)
        failures, calls = self._window.counts(now)
        if calls >= self._policy.minimum_calls and failures >= self._policy.failure_ratio * calls:
            self._open(now)

    def _dropped(self, attempt: Attempt) -> None:
        if attempt is self._probe:
            self._probe = None

    def _open(self, now: float) -> None:
        self._probed_from, self._probe = now + self._policy.open_seconds, None
        self._era += 1

    def _close(self) -> None:
        self._probed_from, self._probe = None, None
        self._era += 1
        self._window = _Window(self._policy.window_seconds)


@dataclass
class _Slice:
    tick: int
    calls: int = 0
    failures: int = 0


class _Window:
    """Calls of the last seconds, in slices: its size does not depend on how many there are."""

    def __init__(self, seconds: float) -> None:
        self._slice_seconds = seconds / _SLICES
        self._slices: deque[_Slice] = deque()

    def add(self, now: float, *, failed: bool) -> None:
        tick = int(now / self._slice_seconds)
        if not self._slices or self._slices[-1].tick != tick:
            self._slices.append(_Slice(tick))
            self._forget(tick)
        self._slices[-1].calls += 1
        self._slices[-1].failures += failed

    def of(self, seconds: float) -> _Window:
        """One of another length with the same calls, as far as they are known and recent enough for it."""
        other = _Window(seconds)
        for old in self._slices:
            tick = int(old.tick * self._slice_seconds / other._slice_seconds)
            if not other._slices or other._slices[-1].tick != tick:
                other._slices.append(_Slice(tick))
            other._slices[-1].calls += old.calls
            other._slices[-1].failures += old.failures
        return other

    def counts(self, now: float) -> tuple[int, int]:
        self._forget(int(now / self._slice_seconds))
        return sum(s.failures for s in self._slices), sum(s.calls for s in self._slices)

    def _forget(self, tick: int) -> None:
        while self._slices and self._slices[0].tick <= tick - _SLICES:
            self._slices.popleft()
