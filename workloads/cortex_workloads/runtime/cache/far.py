"""The shared state, for those who can do without. Shields them from Valkey's absence: a question never raises, never
waits long, and leaves a Valkey alone for a second that did not answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from redis import asyncio as redis
from redis.exceptions import RedisError

from cortex_workloads.runtime import tasks, telemetry
from cortex_workloads.runtime.progress import connect

_TIMEOUT_SECONDS: Final = 0.1
_LATE_SECONDS: Final = 0.5
"""After so long a question has failed, with the connection that it needs; nobody waits for it any more."""
_PAUSE_SECONDS: Final = 1.0

T = TypeVar("T")

_log = logging.getLogger("cortex.cache")


class Far:
    """The server at a redis:// or rediss:// URL; empty: there is none. Raises InvalidInput when it cannot be read."""

    def __init__(self, url: str) -> None:
        self._client = connect(url, None) if url else None
        self._failed_at = self._retry_at = 0.0
        self._lost = self._well = False
        """It did not answer, and was said so; it answered, and has not failed since."""
        self._asking: set[asyncio.Task[Any]] = set()

    async def ask(self, question: Callable[[redis.Redis], Awaitable[T]]) -> T | None:
        """The answer; None where nothing answers in 0.1 s, or did not a moment ago."""
        if self._client is None or not self._may_ask():
            return None
        if self._well:
            return await self._answer(question(self._client), _TIMEOUT_SECONDS)
        # In a task of its own: what comes later is kept none the less, and a connection is there for the next one.
        asking = asyncio.create_task(self._answer(question(self._client), _LATE_SECONDS), name="ask-shared-state")
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        done, _ = await asyncio.wait((asking,), timeout=_TIMEOUT_SECONDS)
        return asking.result() if done else None

    async def close(self) -> None:
        """Closes the connections."""
        await tasks.end(*self._asking)
        if self._client is not None:
            await self._client.aclose()

    def _may_ask(self) -> bool:
        now = time.monotonic()
        if self._lost:
            if now < self._retry_at:
                return False
            # One asks; the others do without until it was answered.
            self._retry_at = now + _PAUSE_SECONDS
        return True

    async def _answer(self, question: Awaitable[T], seconds: float) -> T | None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                answer = await question
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        if began > self._failed_at:
            self._works()
        return answer

    def _failed(self, error: BaseException) -> None:
        self._failed_at = time.monotonic()
        self._retry_at = self._failed_at + _PAUSE_SECONDS
        telemetry.STATE_FAILURES.labels("cache").inc()
        if not self._lost:
            _log.warning("the shared state does not answer, nothing is kept there: %s", error or type(error).__name__)
        self._lost, self._well = True, False

    def _works(self) -> None:
        if self._lost:
            _log.info("the shared state answers again")
        self._lost, self._well = False, True
