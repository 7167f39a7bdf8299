"""What was looked up a moment ago: many who ask at about the same time ask the cluster once.

Shields the API server from resources that wait for the same thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Keeps each answer for `seconds` from when it was asked for, and no longer; an error tells only those who wait for
    it. Belongs to one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._looks: dict[K, asyncio.Future[V]] = {}

    async def get(self, key: K, look: Callable[[], Awaitable[V]]) -> V:
        """The answer for `key`, from `look` when there is none. Raises what that raises."""
        found = self._looks.get(key)
        if found is None:
            found = self._looks[key] = asyncio.ensure_future(look())
            asyncio.get_running_loop().call_later(self._seconds, self._expire, key, found)
            found.add_done_callback(lambda done: self._forget_failed(key, done))
        # One of those who wait may be cancelled; the others must not be.
        return await asyncio.shield(found)

    async def get_after(self, key: K, old: V, look: Callable[[], Awaitable[V]]) -> V:
        """The answer for `key` that comes after `old`, which was found to be out of date: the first who says so has it
        looked up. Raises what that raises."""
        found = self._looks.get(key)
        if found is not None and found.done() and found.result() is old:
            del self._looks[key]
        return await self.get(key, look)

    def _expire(self, key: K, look: asyncio.Future[V]) -> None:
        # While it goes on nobody begins another one.
        look.add_done_callback(lambda _: self._forget(key, look))

    def _forget_failed(self, key: K, look: asyncio.Future[V]) -> None:
        if look.cancelled() or look.exception() is not None:
            self._forget(key, look)

    def _forget(self, key: K, look: asyncio.Future[V]) -> None:
        if self._looks.get(key) is look:
            del self._looks[key]
