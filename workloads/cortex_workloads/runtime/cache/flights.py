"""Single flight: of callers who want the same at the same time, one load works for all.

Shields callers from each other: one that is cancelled takes nobody along, and a load that fails is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cortex_workloads.runtime.errors import Unavailable

V = TypeVar("V")


@dataclass
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


class Flights(Generic[V]):
    """Loads in progress, by key. Of one event loop."""

    def __init__(self) -> None:
        self._flights: dict[bytes, _Flight[V]] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._flights

    async def once(self, key: bytes, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What `load` returns, or what the load of this key that is in progress does. Raises as that, to each caller;
        Unavailable (`LoadEnded`) when somebody else cancelled it. It is cancelled when nobody waits any more."""
        flight = self._flights.get(key) or self._start(key, load)
        flight.waiters += 1
        try:
            # Not the task itself: a cancelled caller would cancel it, and a cancelled task would look like one.
            await asyncio.wait((flight.task,))
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
        if flight.task.cancelled():
            raise Unavailable("the load was ended", remedy="try again", reason="LoadEnded")
        return flight.task.result()

    def _start(self, key: bytes, load: Callable[[], Coroutine[Any, Any, V]]) -> _Flight[V]:
        flight = _Flight(asyncio.create_task(load()))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda task: self._landed(key, flight))
        return flight

    def _landed(self, key: bytes, flight: _Flight[V]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            # Seen, also where the last caller went in the moment in which it failed.
            flight.task.exception()

    def _forget(self, key: bytes, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
