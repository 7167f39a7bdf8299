"""A queue of keys to work on: each key at most once in it, at most one worker on a key, first come first served.

Shields the engine from time and order. A key that is added while a worker has it is due once more afterwards.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class QueueClosed(Exception):
    """The queue was closed; nothing more is to be done."""


class WorkQueue(Generic[K]):
    """Belongs to one event loop. A worker takes a key with `get`, works on it and says `done`."""

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._running: set[K] = set()
        self._again: dict[K, float] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._held: dict[K, float] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def add(self, key: K) -> None:
        """The key is due now, or as soon as it is not held. Nothing when it is due already, or the queue is closed."""
        if self._closed:
            return
        if self._held.get(key, 0.0) > _now():
            return self.add_after(key, 0.0)
        self._held.pop(key, None)
        self._cancel_timer(key)
        (self._again if key in self._running else self._due).setdefault(key, _now())
        if key in self._due:
            self._wake_one()

    def add_after(self, key: K, seconds: float) -> None:
        """The key is due in `seconds`, unless it is due sooner anyway."""
        if self._closed or key in self._due or key in self._again:
            return
        when = max(_now() + seconds, self._held.get(key, 0.0))
        if key in self._timers and self._timers[key].when() <= when:
            return
        self._cancel_timer(key)
        self._timers[key] = asyncio.get_running_loop().call_at(when, self.add, key)

    def hold(self, key: K, seconds: float) -> None:
        """The key, which is worked on, is not due again within `seconds`, whatever is added meanwhile."""
        self._held[key] = _now() + seconds
        if self._again.pop(key, None) is not None:
            self.add(key)

    async def get(self) -> tuple[K, float]:
        """The key that is due longest, and for how many seconds. Raises QueueClosed."""
        while not self._due:
            if self._closed:
                raise QueueClosed
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # A wake-up that came too late for this worker must reach another.
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()
                raise
        key = next(iter(self._due))
        since = self._due.pop(key)
        # The work to come decides anew when the key is due next.
        self._cancel_timer(key)
        self._running.add(key)
        return key, _now() - since

    def done(self, key: K) -> None:
        """The worker has ended with the key; when it was added meanwhile it is due again, behind the others."""
        self._running.discard(key)
        since = self._again.pop(key, None)
        if since is not None:
            self._due[key] = since
            self._wake_one()

    def close(self) -> None:
        """Drops what is due and ends `get`; keys that are worked on are not touched."""
        self._closed = True
        self._due.clear()
        self._again.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        while self._waiters:
            self._wake_one()

    @property
    def depth(self) -> int:
        """Keys that are due and wait for a worker."""
        return len(self._due) + len(self._again)

    @property
    def oldest(self) -> float:
        """How long the oldest due key has waited; seconds, 0 when none is due."""
        since = min((*self._due.values(), *self._again.values()), default=None)
        return 0.0 if since is None else _now() - since

    def _cancel_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _now() -> float:
    return asyncio.get_running_loop().time()
