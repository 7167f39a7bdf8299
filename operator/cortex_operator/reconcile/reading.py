"""Reads that are remembered: of one pass, so that an object is asked for once, and of Services for some seconds, as
many resources name the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from cortex_operator.cluster import Forbidden, NotFound, Object, ObjectKey
from cortex_operator.manifests.reach import Backend

_SECONDS: Final = 10.0
_MOST: Final = 1024


class Reader(Protocol):
    """What reads one object, as `Cluster` does."""

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        """One object. Raises NotFound, Forbidden, Unavailable."""
        ...


class Once:
    """The same, each object once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._read: dict[ObjectKey, Object | NotFound] = {}

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        """One object. Raises NotFound, Forbidden, Unavailable."""
        if key not in self._read:
            try:
                self._read[key] = await self._reader.get(key, unwatched=unwatched)
            except NotFound as error:
                self._read[key] = error
        found = self._read[key]
        if isinstance(found, NotFound):
            raise found
        return found


class Services:
    """Services of all namespaces. One that is not there is looked for each time: it may come at any moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[ObjectKey, tuple[float, Backend]] = {}

    async def backend(self, reader: Reader, ours: str, where: tuple[str, str]) -> Backend:
        """What a pod of the namespace `ours` finds under that namespace and name. Raises Unavailable."""
        key = ObjectKey("v1", "Service", *where)
        since, found = self._known.get(key, (-_SECONDS, Backend("")))
        if self._clock() - since >= _SECONDS:
            found = await self._look(reader, key)
        return Backend(ours, found.service, found.readable)

    async def _look(self, reader: Reader, key: ObjectKey) -> Backend:
        self._known.pop(key, None)
        try:
            found = Backend("", await reader.get(key, unwatched=True))
        except NotFound:
            return Backend("")
        except Forbidden:
            found = Backend("", readable=False)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (self._clock(), found)
        return found
