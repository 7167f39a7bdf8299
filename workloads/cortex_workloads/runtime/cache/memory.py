"""L1: values in this process's memory, bounded in bytes. Shields its users from the library and from its terms.

Who stays is decided by TinyLFU: what is asked for often is not pushed out by what is asked for once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from moka_py import Moka

from cortex_workloads.runtime.cache.flights import Flights
from cortex_workloads.runtime.cache.metrics import Requests, measure

V = TypeVar("V")

ENTRY_BYTES: Final = 512
"""What an entry takes beside its key and its value, measured (docs/decisions/0014-cache-in-process.md)."""
JITTER: Final = 0.1
"""Share of the time to live by which an entry may live shorter, so that what came together does not go together."""


def jittered(seconds: float) -> float:
    """A time to live of `seconds` at most."""
    return seconds * random.uniform(1 - JITTER, 1)  # noqa: S311 - no secret


class Memory(Generic[V]):
    """A cache `name` of at most `limit` bytes (0: keeps nothing), whose entries live `seconds` at most. `size`: bytes
    of a value. Values are shared: they must not be changed. Of one event loop."""

    def __init__(self, name: str, limit: int, seconds: float, size: Callable[[V], int]) -> None:
        self._seconds = seconds
        self._flights: Flights[V] = Flights()
        self._kept: Moka[bytes, V] = Moka(
            limit, weigher=lambda key, value: len(key) + size(value) + ENTRY_BYTES, policy="tiny_lfu"
        )
        self.requests = Requests(name, "memory")
        measure(name, "memory", limit, lambda: self.size, self.__len__)

    @property
    def size(self) -> int:
        """Bytes that all entries take; never above the limit."""
        self._kept.run_pending_tasks()
        return self._kept.weighted_size()

    def __len__(self) -> int:
        self._kept.run_pending_tasks()
        return self._kept.count()

    def find(self, key: bytes) -> V | None:
        """What is kept, uncounted: of users who know by themselves whether it is of use (`requests`)."""
        return self._kept.get(key)

    def keep(self, key: bytes, value: V, seconds: float | None = None) -> None:
        """Keeps a value in the place of what was kept, as far as there is room for it; for `seconds` where they are
        given, else for the cache's own."""
        self._kept.set(key, value, ttl=jittered(self._seconds) if seconds is None else seconds)
        # Left to itself it evicts with a delay, and holds a multiple of the limit meanwhile.
        self._kept.run_pending_tasks()

    async def get(self, key: bytes, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The value; where it is not kept, what `load` returns, once for all who wait. Raises as `load`, and
        Unavailable (`LoadEnded`); neither is kept."""
        kept = self._kept.get(key)
        if kept is not None:
            self.requests.hits.inc()
            return kept
        (self.requests.joined if key in self._flights else self.requests.misses).inc()
        return await self._flights.once(key, lambda: self._load(key, load))

    async def _load(self, key: bytes, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        value = await load()
        self.keep(key, value)
        return value
