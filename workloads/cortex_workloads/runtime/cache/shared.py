"""L2: bytes in the shared state, for all pods. Shields its users from Valkey's absence: it never raises, never waits
long, and leaves a Valkey alone for a second that did not answer.
"""

from __future__ import annotations

import logging
import time
from typing import Final, cast

from redis.exceptions import RedisError

from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.cache.memory import jittered
from cortex_workloads.runtime.cache.metrics import Requests
from cortex_workloads.runtime.progress import connect

_TIMEOUT_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 1.0
_PAGE: Final = 1_000
_FAILURES: Final = (RedisError, OSError, TimeoutError)

_log = logging.getLogger("cortex.cache")


class Shared:
    """A cache `name` at a redis:// or rediss:// URL (empty: keeps nothing), whose entries of at most `limit` bytes (0:
    keeps nothing) live `seconds` at most. How many there are is bounded by the server's own memory. Raises InvalidInput
    when the URL cannot be read."""

    def __init__(self, name: str, url: str, limit: int, seconds: float) -> None:
        self._client = connect(url, _TIMEOUT_SECONDS) if url and limit else None
        self._limit = limit
        self._seconds = seconds
        self._retry_at = 0.0
        self._lost = False
        self.requests = Requests(name, "shared")

    async def find(self, key: str) -> bytes | None:
        """What is kept, uncounted (`requests`); None where nothing is, or nothing answers."""
        if self._client is None or time.monotonic() < self._retry_at:
            return None
        try:
            found = cast("bytes | None", await self._client.get(key))
        except _FAILURES as error:
            self._failed(error)
            return None
        self._works()
        return found

    async def keep(self, key: str, value: bytes) -> None:
        """Keeps a value in the place of what was kept, unless it is too large or nothing answers."""
        if self._client is None or len(value) > self._limit or time.monotonic() < self._retry_at:
            return
        try:
            await self._client.set(key, value, px=round(jittered(self._seconds) * 1000))
        except _FAILURES as error:
            self._failed(error)
        else:
            self._works()

    async def forget(self, beginning: str) -> None:
        """Removes what has a key that begins so, by a scan of all keys; what nothing answers for expires."""
        if self._client is None:
            return
        try:
            async for key in self._client.scan_iter(match=f"{beginning}*", count=_PAGE):
                await self._client.unlink(key)
        except _FAILURES as error:
            self._failed(error)

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()

    def _failed(self, error: BaseException) -> None:
        self._retry_at = time.monotonic() + _PAUSE_SECONDS
        telemetry.STATE_FAILURES.labels("cache").inc()
        if not self._lost:
            _log.warning("the shared state does not answer, nothing is kept there: %s", error or type(error).__name__)
        self._lost = True

    def _works(self) -> None:
        if self._lost:
            _log.info("the shared state answers again")
        self._lost = False
