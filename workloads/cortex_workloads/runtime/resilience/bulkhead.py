"""A bulkhead: how many calls of one class run at once; who comes later waits in a short line, or is refused at once.

    async with bulkhead.place(left):       # `left`: seconds until the caller's deadline; None: it has none
        ...                                # raises Refused

The time that a place is held, on average, and the number of places tell what a line costs who joins it (Little's law),
so nobody joins who would not be served in time. Pure: knows neither gRPC nor errors nor metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Protocol

from cortex_workloads.runtime.resilience.policies import LimitPolicy

_WEIGHT: Final = 0.1
"""Of the newest call in the average time that a place is held."""
_PATIENCE: Final = 2.0
"""Times `wait_seconds` that somebody stays in the line when it moves more slowly than it looked."""

Why = Literal["Full", "Slow", "Late"]
"""The line has no place left; it takes longer than `wait_seconds`; it takes longer than the caller's deadline."""


class Refused(Exception):
    """There is no place; `seconds`: how long those take that are in the line now."""

    def __init__(self, why: Why, seconds: float) -> None:
        super().__init__(why)
        self.why, self.seconds = why, seconds


class Entrance(Protocol):
    """Gives places and takes them back."""

    async def enter(self, left: float | None) -> float:
        """When the place that it takes was taken, for `leave`."""
        ...

    def leave(self, began: float) -> None:
        """Gives a place back."""
        ...


class Place:
    """A place, held while the context is open. A class, as it is around every call: a generator costs several times as
    much."""

    __slots__ = ("_began", "_entrance", "_left")

    def __init__(self, entrance: Entrance, left: float | None) -> None:
        self._entrance, self._left = entrance, left

    async def __aenter__(self) -> None:
        """Raises what `enter` does."""
        self._began = await self._entrance.enter(self._left)

    async def __aexit__(self, *_: object) -> None:
        self._entrance.leave(self._began)


class Bulkhead:
    """Of one class of calls. `clock` gives seconds that only grow. Of one event loop."""

    def __init__(self, policy: LimitPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self._clock = clock
        self.running = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self.seconds = 0.0
        """That a place is held, on average."""

    @property
    def waiting(self) -> int:
        """Calls in the line."""
        return len(self._line)

    def wait(self) -> float:
        """Seconds until the line as it is now has passed."""
        # More run than may after the number of places shrank: those end first.
        ahead = max(0, self.running - self.policy.concurrent) + len(self._line) + 1
        return ahead * self.seconds / self.policy.concurrent

    def change(self, policy: LimitPolicy) -> None:
        """From now on by this policy. Who has a place keeps it, who waits goes on waiting: where there are fewer places
        none is given away until as many calls have ended, and nobody is sent out of a line that became shorter."""
        self.policy = policy
        self._hand_out()

    def check(self, left: float | None = None) -> None:
        """Raises Refused when a call that comes now would not get a place in time."""
        if self._free:
            return
        wait = self.wait()
        if len(self._line) >= self.policy.waiting:
            raise Refused("Full", wait)
        if wait > self.policy.wait_seconds:
            raise Refused("Slow", wait)
        if left is not None and wait + self.seconds > left:
            raise Refused("Late", wait)

    def place(self, left: float | None = None) -> Place:
        """Holds a place as a context, for which it may have to wait. Entering raises Refused."""
        return Place(self, left)

    async def enter(self, left: float | None) -> float:
        """When the place that it takes was taken, for `leave`. Raises Refused."""
        self.check(left)
        if self._free:
            self.running += 1
        else:
            await self._wait(left)
        return self._clock()

    def leave(self, began: float) -> None:
        """Gives a place back."""
        held = self._clock() - began
        self.seconds += (held - self.seconds) * (_WEIGHT if self.seconds else 1.0)
        self._give_away()

    @property
    def _free(self) -> bool:
        return self.running < self.policy.concurrent and not self._line

    async def _wait(self, left: float | None) -> None:
        patience = _PATIENCE * self.policy.wait_seconds
        until = patience if left is None else min(patience, left - self.seconds)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(place)
        try:
            async with asyncio.timeout(until):
                await place
        except TimeoutError:
            self._leave(place)
            raise Refused("Slow" if until == patience else "Late", self.wait()) from None
        except BaseException:
            self._leave(place)
            raise

    def _leave(self, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled():
            # It was given a place in the moment in which it went.
            self._give_away()
        elif place in self._line:
            self._line.remove(place)

    def _give_away(self) -> None:
        self.running -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._line and self.running < self.policy.concurrent:
            if not (place := self._line.popleft()).done():
                self.running += 1
                place.set_result(None)
