"""What was looked up a moment ago: many who ask at about the same time ask the cluster once.

Shields the API server from resources that wait for the same thing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class _Look(Generic[V]):
    begun: float
    task: asyncio.Task[V]


class Recent(Generic[K, V]):
    """Keeps each answer for `seconds` from when it was asked for; an error only tells those who wait for it. What is
    older is dropped when something is looked up. Belongs to one event loop."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._looks: dict[K, _Look[V]] = {}

    async def get(self, key: K, look: Callable[[], Awaitable[V]]) -> V:
        """The answer for `key`, from `look` when there is none that is fresh enough. Raises what that raises."""
        if not self._is_fresh(self._looks.get(key)):
            self._looks = {each: found for each, found in self._looks.items() if self._is_fresh(found)}
            self._looks[key] = _Look(self._clock(), asyncio.ensure_future(_answer(look)))
        # One of those who wait may be cancelled; the others must not be.
        return await asyncio.shield(self._looks[key].task)

    def _is_fresh(self, look: _Look[V] | None) -> bool:
        if look is None or self._clock() - look.begun >= self._seconds:
            return False
        task = look.task
        return not task.done() or (not task.cancelled() and task.exception() is None)


async def _answer(look: Callable[[], Awaitable[V]]) -> V:
    return await look()
