"""Turns: a question that many have at the same time is asked once, and never before the last of them came.

Shields the Lake from being asked the same thing by every call, where an answer of a moment ago is too old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from cortex_workloads.runtime.errors import Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Turns(Generic[K, V]):
    """Questions by key: at most one is under way, at most one waits for its end. Of one event loop."""

    def __init__(self) -> None:
        self._asking: dict[K, asyncio.Task[V]] = {}
        self._waiting: dict[K, asyncio.Task[V]] = {}

    async def next(self, key: K, ask: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What `ask` returns, which begins after this call did. Raises as it, to all who share it; Unavailable
        (`LoadEnded`) when somebody else cancelled it."""
        task = self._waiting.get(key)
        if task is None:
            task = asyncio.create_task(self._turn(key, ask, self._asking.get(key)))
            self._waiting[key] = task
            task.add_done_callback(_seen)
        # Not the task itself: a cancelled caller would take the others along.
        await asyncio.wait((task,))
        if task.cancelled():
            raise Unavailable("the question was ended", remedy="try again", reason="LoadEnded")
        return task.result()

    async def _turn(self, key: K, ask: Callable[[], Coroutine[Any, Any, V]], before: asyncio.Task[V] | None) -> V:
        if before is not None:
            await asyncio.wait((before,))
        task = self._asking[key] = self._waiting.pop(key)
        try:
            return await ask()
        finally:
            if self._asking.get(key) is task:
                del self._asking[key]


def _seen(task: asyncio.Task[V]) -> None:
    if not task.cancelled():
        task.exception()
