"""Looks at everything of one kind: at the start, from time to time, and when events may have been missed.

Shields the engine from watches that miss something: a list after a gap tells nothing of what was deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Final

from cortex_operator.cluster import Cache, Event, EventType, Object, ObjectKey
from cortex_operator.engine.backoff import Backoff
from cortex_operator.engine.turns import in_turns

log = logging.getLogger(__name__)
_AGAIN: Final = Backoff(0.5, 30.0)


class Looks:
    """Compares what there is with what `cache` knows and tells the difference. `first` is set when that was done
    once. Seconds: `period` between two looks, `settle` without another suspicion before a look for that."""

    def __init__(
        self,
        cache: Cache,
        kind: tuple[str, str],
        scan: Callable[[], AsyncGenerator[list[Object], None]],
        tell: Callable[[Event], None],
        period: float,
        settle: float,
    ) -> None:
        self.first = asyncio.Event()
        self._cache, self._kind, self._scan, self._tell = cache, kind, scan, tell
        self._period, self._settle = period, settle
        self._suspected = asyncio.Event()
        self._rng = random.Random()  # noqa: S311 - jitter

    def suspect(self) -> None:
        """Something may have been missed."""
        self._suspected.set()

    async def run(self) -> None:
        """Looks until it is cancelled; what fails is tried again."""
        attempt = 0
        while True:
            try:
                await self._look()
                attempt = 0
                self.first.set()
                await self._wait()
            except Exception as error:
                log.warning("could not list %s: %s", self._kind[1], error)
                attempt += 1
                await asyncio.sleep(_AGAIN.delay(attempt, self._rng))

    async def _look(self) -> None:
        before = self._cache.versions(*self._kind)
        there: set[ObjectKey] = set()
        async with aclosing(self._scan()) as pages:
            async for page in pages:
                async for obj in in_turns(page):
                    there.add(ObjectKey.of(obj))
                    self._tell(Event(EventType.MODIFIED, obj))
        for gone in self._cache.listed(*self._kind, before, there):
            self._tell(gone)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._period * self._rng.uniform(0.9, 1.1)):
                await self._suspected.wait()
        while self._suspected.is_set():
            self._suspected.clear()
            await asyncio.sleep(self._settle)
