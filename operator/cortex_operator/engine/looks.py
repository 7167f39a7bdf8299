"""Looks at everything of one kind: at the start, from time to time, and when events may have been missed.

Shields the engine from watches that miss something: a list after a gap tells nothing of what was deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Final

from cortex_operator.cluster import Cache, Event, EventType, NotFound, Object, ObjectKey
from cortex_operator.engine.backoff import Backoff
from cortex_operator.engine.hooks import PLAIN
from cortex_operator.engine.turns import in_turns

log = logging.getLogger(__name__)
_AGAIN: Final = Backoff(0.5, 30.0)
_ANSWERS: Final = (*PLAIN, NotFound)
"""What the API server says, or that it says nothing."""


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
        self.error = ""
        """Why the last look failed, in one line; empty when it did not."""
        self._cache, self._kind, self._scan, self._tell = cache, kind, scan, tell
        self._period, self._settle = period, settle
        self._suspected = asyncio.Event()
        self._most = 0
        self._began = self._moved = time.monotonic()
        self._rng = random.Random()  # noqa: S311 - jitter

    def suspect(self) -> None:
        """Something may have been missed."""
        self._suspected.set()

    def outstanding(self) -> str:
        """That the first look has not come to its end, as a sentence; empty when it has."""
        if self.first.is_set():
            return ""
        error = f"; last error: {self.error}" if self.error else ""
        return f"the first look at {self._kind[1]} is outstanding for {time.monotonic() - self._began:.0f} s{error}"

    @property
    def idle(self) -> float:
        """For how many seconds the first look has got no further, and nobody said why not; 0 once it has ended."""
        return 0.0 if self.first.is_set() else time.monotonic() - self._moved

    async def run(self) -> None:
        """Looks until it is cancelled; what fails is tried again."""
        attempt = 0
        while True:
            try:
                await self._look()
                attempt, self.error = 0, ""
                self.first.set()
                await self._wait()
            except Exception as error:
                attempt += 1
                self._failed(error, attempt)
                await asyncio.sleep(_AGAIN.delay(attempt, self._rng))

    async def _look(self) -> None:
        before = self._cache.versions(*self._kind)
        there: set[ObjectKey] = set()
        async with aclosing(self._scan()) as pages:
            async for page in pages:
                async for obj in in_turns(page):
                    there.add(ObjectKey.of(obj))
                    self._tell(Event(EventType.MODIFIED, obj))
                if len(there) > self._most:
                    self._most, self._moved = len(there), time.monotonic()
        for gone in self._cache.listed(*self._kind, before, there):
            self._tell(gone)

    def _failed(self, error: Exception, attempt: int) -> None:
        expected, said = isinstance(error, _ANSWERS), " ".join(str(error).split())
        self.error = said if expected and said else f"{type(error).__name__}: {said}"
        if expected:
            self._moved = time.monotonic()
        trace = error if attempt == 1 and not expected else None
        log.warning("could not list %s: %s", self._kind[1], self.error, exc_info=trace)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._period * self._rng.uniform(0.9, 1.1)):
                await self._suspected.wait()
        while self._suspected.is_set():
            self._suspected.clear()
            await asyncio.sleep(self._settle)
