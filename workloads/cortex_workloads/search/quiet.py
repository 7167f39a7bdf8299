"""Says when no query is in progress, for what goes behind queries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Quiet:
    """`event` is set while no query is in progress. Of one event loop."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.event.set()
        self._queries = 0
        self._begun = 0

    @contextmanager
    def query(self) -> Iterator[None]:
        """A query is in progress."""
        self._queries += 1
        self._begun += 1
        self.event.clear()
        try:
            yield
        finally:
            self._queries -= 1
            if not self._queries:
                self.event.set()

    async def lasting(self, seconds: float) -> None:
        """Returns when there was no query for so long: between two of one caller there is a moment without, too."""
        while True:
            await self.event.wait()
            begun = self._begun
            await asyncio.sleep(seconds)
            if self.event.is_set() and begun == self._begun:
                return
