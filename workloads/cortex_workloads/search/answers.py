"""Answers of searches, kept: in this pod's memory (L1) and in the shared state (L2, `runtime/answers.py`).

Shields callers from answers that are not true any more: one that was kept is given only where its content version is
the one that the Lake names when asked after the call began.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, Protocol

from datapunk.cortex.common_pb2 import SearchResult
from datapunk.cortex.search_pb2 import SearchRequest

from cortex_workloads.runtime import answers
from cortex_workloads.runtime.answers import Answer
from cortex_workloads.runtime.cache.flights import Flights
from cortex_workloads.runtime.cache.memory import Memory
from cortex_workloads.runtime.cache.metrics import Requests
from cortex_workloads.runtime.cache.shared import Shared

_OBJECT_BYTES: Final = 200
_FAR_BYTES: Final = 2**20
"""The largest answer that is packed: it takes the event loop's time, 10 ms for so much."""


@dataclass(frozen=True)
class Asked:
    """A request, and what it left to the index, decided. `variant`: those with another one never wait for each other's
    search."""

    request: SearchRequest
    mode: int
    top_k: int
    variant: bytes = b""

    @cached_property
    def packed(self) -> bytes:
        """The request, as bytes that decide the answer."""
        return answers.packed(self.request)

    @cached_property
    def digest(self) -> bytes:
        """Of these."""
        return hashlib.sha256(self.packed).digest()


Search = Callable[[], Coroutine[Any, Any, tuple[SearchResult, int | None]]]
"""Searches: the result, to be left as it is, and the content version that it was found in (None: not to be kept)."""


class Versions(Protocol):
    """Knows the content version of an index's revisions (`LakeDocumentStore`)."""

    async def version(self, revision: str) -> int | None:
        """Of the current one, or of the one named; None where no answer may be kept."""
        ...


class Answers:
    """The answers of one index. Of one event loop."""

    def __init__(self, versions: Versions, memory: Memory[Answer], shared: Shared) -> None:
        self._versions = versions
        self._memory = memory
        self._shared = shared
        self._flights: Flights[tuple[SearchResult, int | None]] = Flights()

    async def get(self, asked: Asked, search: Search) -> SearchResult:
        """The kept answer, with its age, where it is still true; else what `search` finds, once for all who ask the
        same. Raises as `search` and `Versions.version`."""
        digest = asked.digest
        if (near := await self._true(asked, self._memory.find(digest), self._memory.requests)) is not None:
            return near.message()
        if (
            far := await self._true(asked, await answers.last(self._shared, asked.request), self._shared.requests)
        ) is not None:
            self._memory.keep(digest, far)
            return far.message()
        return await self._made(asked, digest, search)

    async def last(self, asked: Asked) -> SearchResult | None:
        """What the same was answered last, true or not, marked as a fallback."""
        found = self._memory.find(asked.digest) or await answers.last(self._shared, asked.request)
        if found is None or (found.mode, found.top_k) != (asked.mode, asked.top_k):
            return None
        return found.stale()

    async def close(self) -> None:
        """Closes connections."""
        await self._shared.close()

    async def _true(self, asked: Asked, found: Answer | None, requests: Requests) -> Answer | None:
        if found is None or (found.mode, found.top_k) != (asked.mode, asked.top_k):
            requests.misses.inc()
            return None
        if found.version != await self._versions.version(asked.request.revision):
            requests.outdated.inc()
            return None
        requests.hits.inc()
        return found

    async def _made(self, asked: Asked, digest: bytes, search: Search) -> SearchResult:
        flight, load = digest + asked.variant, partial(self._search, asked, digest, search)
        joined = flight in self._flights
        result, version = await self._flights.once(flight, load)
        if joined:
            self._memory.requests.joined.inc()
            if version is None or version != await self._versions.version(asked.request.revision):
                # It began before this call, and missed what was written in between; the next one did not.
                result, _ = await self._flights.once(flight, load)
        return result

    async def _search(self, asked: Asked, digest: bytes, search: Search) -> tuple[SearchResult, int | None]:
        result, version = await search()
        if version is not None:
            made = Answer(version, time.time(), asked.mode, asked.top_k, result.SerializeToString())
            self._memory.keep(digest, made)
            if len(made.result) <= _FAR_BYTES:
                await self._shared.keep(answers.key(asked.request), made.pack())
        return result, version


def size(answer: Answer) -> int:
    """Bytes that an answer takes."""
    return len(answer.result) + _OBJECT_BYTES
