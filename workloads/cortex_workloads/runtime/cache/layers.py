"""L1 over L2: bytes that live as long as their users say, loaded once for all who wait, in this pod and for the others.

Shields users from the wait for what they had a moment ago (`Life.grace`), and from the shared state.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self

from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.cache.flights import Flights
from cortex_workloads.runtime.cache.memory import Memory, jittered
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.errors import DeadlineExceeded

Load = Callable[[], Coroutine[Any, Any, bytes]]

_HEAD: Final = struct.Struct(">Bdd")
_FORMAT: Final = 1
_LEVEL: Final = 1
_OBJECT_BYTES: Final = 200
_FAR_BYTES: Final = 2**20
"""The largest value that is packed: it takes the event loop's time, 10 ms for so much."""

_log = logging.getLogger("cortex.cache")


@dataclass(frozen=True)
class Life:
    """How long a value is given: `seconds` at most; then for `grace` more while a new one is loaded."""

    seconds: float
    grace: float = 0.0


@dataclass(frozen=True)
class Kept:
    """A value; `made`, and `until` when it is given without more ado: seconds since 1970."""

    value: bytes
    made: float
    until: float

    def pack(self) -> bytes:
        """As it stands in the shared state."""
        return _HEAD.pack(_FORMAT, self.made, self.until) + zlib.compress(self.value, _LEVEL)

    @classmethod
    def unpack(cls, packed: bytes) -> Self | None:
        """The reverse of `pack`; None for what another release packed, or what is none."""
        try:
            release, made, until = _HEAD.unpack_from(packed)
            return cls(zlib.decompress(packed[_HEAD.size :]), made, until) if release == _FORMAT else None
        except (struct.error, zlib.error):
            return None

    @property
    def age(self) -> float:
        """Seconds."""
        return max(time.time() - self.made, 0.0)


class Layers:
    """A cache `name`: `limit` bytes in memory (0: none) over `shared`. Of one event loop."""

    def __init__(self, name: str, limit: int, shared: Shared) -> None:
        self._memory = Memory[Kept](name, limit, 1.0, lambda kept: len(kept.value) + _OBJECT_BYTES)
        self._shared = shared
        self._flights: Flights[tuple[bytes, float | None]] = Flights()
        self._renewing: set[asyncio.Task[None]] = set()

    async def get(self, key: str, life: Life, load: Load) -> tuple[bytes, float | None]:
        """The value and its age in seconds; where none is kept what `load` returns, without an age, once for all who
        wait. Raises as `load` (DeadlineExceeded as its own alone), and Unavailable (`LoadEnded`); neither is kept."""
        requests, flight = self._memory.requests, key.encode()
        near, now = self._memory.find(flight), time.time()
        if near is not None and now < near.until:
            requests.hits.inc()
            return near.value, near.age
        if near is not None and now < near.until + life.grace:
            requests.stale.inc()
            self._renew(key, life, load)
            return near.value, near.age
        joins = flight in self._flights
        (requests.joined if joins else requests.misses).inc()
        while True:
            try:
                return await self._flights.once(flight, partial(self._found_or_loaded, key, life, load))
            except DeadlineExceeded:
                # The time of whoever began it, not of this caller, who would have begun it now.
                if not joins:
                    raise
            joins = flight in self._flights

    async def close(self) -> None:
        """Ends what is renewed, and closes connections."""
        await tasks.end(*self._renewing)
        await self._shared.close()

    async def _found_or_loaded(self, key: str, life: Life, load: Load) -> tuple[bytes, float | None]:
        far = Kept.unpack(await self._shared.find(key) or b"")
        if far is not None and time.time() < far.until:
            self._shared.requests.hits.inc()
            self._keep(key, far, life)
            return far.value, far.age
        self._shared.requests.misses.inc()
        value, now = await load(), time.time()
        made = Kept(value, now, now + jittered(life.seconds))
        self._keep(key, made, life)
        if len(value) <= _FAR_BYTES:
            await self._shared.keep(key, made.pack(), made.until - now)
        return value, None

    def _keep(self, key: str, kept: Kept, life: Life) -> None:
        self._memory.keep(key.encode(), kept, kept.until + life.grace - time.time())

    def _renew(self, key: str, life: Life, load: Load) -> None:
        if key.encode() in self._flights:
            return
        task = asyncio.create_task(self._renewed(key, life, load))
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def _renewed(self, key: str, life: Life, load: Load) -> None:
        try:
            async with asyncio.timeout(life.grace):
                await self._flights.once(key.encode(), partial(self._found_or_loaded, key, life, load))
        except Exception:
            # Told to nobody: what is kept is given until its grace is over, and who comes then hears why.
            _log.debug("a kept value could not be renewed", exc_info=True)
