"""Warming: the most-used requests of an index are answered before anybody asks, where no answer is kept of them: in a
pod that begins, and in all pods when another revision answers.

Shields callers from it: one request at a time, only while none of theirs is in progress, of bounded number and time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

from datapunk.cortex.search_pb2 import SearchRequest
from prometheus_client import Counter, Histogram

from cortex_workloads.runtime.cache.popular import Popular
from cortex_workloads.runtime.cache.tally import Tally
from cortex_workloads.runtime.lake.pool import cancelled
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.telemetry import REGISTRY
from cortex_workloads.search.answers import Asked
from cortex_workloads.search.quiet import Quiet

KNOWN: Final = 4
"""Times the number of requests that are warmed: how many are counted."""
REQUEST_BYTES: Final = 4_096
"""Larger requests are not counted."""
TELL_SECONDS: Final = 60.0
"""How often a pod adds its counts to the shared state."""
_FADED: Final = 0.977
"""Of a count after that time: half in half an hour."""
_GAP_SECONDS: Final = 0.05
"""Nobody asks for so long before a request is warmed."""
_PATIENCE_SECONDS: Final = 5.0
"""Waiting for that any longer gives up: the pod is busy, and warms itself."""
_ANSWER_SECONDS: Final = 5.0
_SECONDS: Final = 30.0

_WARMED: Final = Counter(
    "cortex_cache_warmed_total", "Requests that were answered ahead of their callers", ("cause",), registry=REGISTRY
)
_TOOK: Final = Histogram(
    "cortex_cache_warming_seconds",
    "Times that a pod warmed itself; end: done, busy (callers kept it from it), late (it took too long)",
    ("cause", "end"),
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=REGISTRY,
)

Cause = Literal["start", "switch"]
Answer = Callable[[SearchRequest], Awaitable[Any]]

_log = logging.getLogger("cortex.search")


def keys(namespace: str, name: str) -> str:
    """What the keys of an index's most-used requests begin with in the shared state."""
    return f"cortex:{{index:{namespace}/{name}}}:asked:"


class Warming:
    """Of one pod: counts what is asked, and warms at most `most` requests (0: neither) by `answer`."""

    def __init__(self, resource: Resource, state_url: str, most: int, quiet: Quiet, answer: Answer) -> None:
        self._most = most
        self._quiet = quiet
        self._answer = answer
        self._popular = Popular(KNOWN * most, REQUEST_BYTES)
        self._tally = Tally(state_url, keys(resource.namespace, resource.name), KNOWN * most)
        self._revision = ""
        self._cause: Cause | None = None
        self._woken = asyncio.Event()

    def asked(self, asked: Asked) -> None:
        """Somebody asked so. Who names a revision has an answer that no switch makes void."""
        if self._most and not asked.request.revision:
            self._popular.count(asked.packed)

    def answers(self, revision: str) -> None:
        """This revision answers; the first one that is told, and each other one, begins a warming."""
        if revision != self._revision:
            self._cause = "switch" if self._revision else "start"
            self._revision = revision
            self._woken.set()

    async def serve(self) -> None:
        """Tells other pods what is asked here, and warms; ends by cancellation only."""
        while self._most and not cancelled():
            if await self._told_to():
                cause, self._cause = self._cause, None
                self._woken.clear()
                await self._tell()
                if cause is not None:
                    await self._warm(cause)
            else:
                await self._tell()
                self._popular.fade(_FADED)

    async def close(self) -> None:
        """Tells what was not told yet, and closes the connections."""
        await self._tell()
        await self._tally.close()

    async def _told_to(self) -> bool:
        try:
            async with asyncio.timeout(TELL_SECONDS * random.uniform(0.9, 1.0)):  # noqa: S311 - no secret
                return await self._woken.wait()
        except TimeoutError:
            return False

    async def _tell(self) -> None:
        await self._tally.add(self._popular.take())

    async def _warm(self, cause: Cause) -> None:
        requests = await self._tally.top(self._most) or self._popular.top(self._most)
        began, warmed, end = time.monotonic(), 0, "done"
        try:
            async with asyncio.timeout(_SECONDS):
                for request in requests:
                    if not await self._gap():
                        end = "busy"
                        break
                    warmed += await self._one(request, cause)
        except TimeoutError:
            end = "late"
        took = time.monotonic() - began
        _TOOK.labels(cause, end).observe(took)
        if requests:
            told = {"cause": cause, "end": end, "requests": len(requests), "warmed": warmed, "seconds": round(took, 3)}
            _log.info("warmed with what is asked most", extra=told)

    async def _gap(self) -> bool:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._quiet.lasting(_GAP_SECONDS)
        except TimeoutError:
            return False
        return True

    async def _one(self, packed: bytes, cause: Cause) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._answer(SearchRequest.FromString(packed))
        except Exception:
            # Of a release with other requests, of a filter that fits no more, of a Lake that is away: callers hear it.
            _log.debug("a request could not be warmed", exc_info=True)
            return False
        _WARMED.labels(cause).inc()
        return True
