"""The shared state, for those who can do without. Shields them from Valkey's absence: a question never raises, never
waits long, and leaves a Valkey alone for a second that did not answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from redis import asyncio as redis
from redis.exceptions import RedisError

from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.progress import connect

_TIMEOUT_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 1.0

T = TypeVar("T")

_log = logging.getLogger("cortex.cache")


class Far:
    """The server at a redis:// or rediss:// URL; empty: there is none. Raises InvalidInput when it cannot be read."""

    def __init__(self, url: str) -> None:
        self._client = connect(url, _TIMEOUT_SECONDS) if url else None
        self._retry_at = 0.0
        self._lost = False

    async def ask(self, question: Callable[[redis.Redis], Awaitable[T]]) -> T | None:
        """The answer; None where nothing answers, or did not a moment ago."""
        if self._client is None or time.monotonic() < self._retry_at:
            return None
        try:
            answer = await question(self._client)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        self._works()
        return answer

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
