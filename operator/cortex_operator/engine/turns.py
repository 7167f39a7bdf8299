"""Turns of an event loop: much to do is done a few milliseconds' worth at a time.

A start hears of everything there is at once; meanwhile the Lease must be renewed, and probes and signals be answered.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeVar

_SECONDS: Final = 0.01

T = TypeVar("T")


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items; others have their turn in between."""
    end = time.monotonic() + _SECONDS
    for item in items:
        yield item
        if time.monotonic() > end:
            await asyncio.sleep(0)
            end = time.monotonic() + _SECONDS


class Calls:
    """Calls of another thread, made in this loop in their order. One that fails is the loop's to report."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._due = False

    def put(self, call: Callable[..., object], *arguments: object) -> None:
        """By that one thread alone."""
        self._waiting.append((call, arguments))
        if not self._due:
            self._due = True
            self._loop.call_soon_threadsafe(self._make)

    def _make(self) -> None:
        # Before the deque is looked at: what is put from here on sees it, and asks for another turn.
        self._due = False
        end = time.monotonic() + _SECONDS
        try:
            while self._waiting and time.monotonic() < end:
                call, arguments = self._waiting.popleft()
                call(*arguments)
        finally:
            if self._waiting and not self._due:
                self._due = True
                self._loop.call_soon(self._make)
