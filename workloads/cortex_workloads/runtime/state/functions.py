"""The functions in Valkey (functions.lua) and the servers that they run on.

Shields the state manager from a server that is away, lost its functions, or is none that they work on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from importlib.resources import files
from typing import Any, Final, TypeVar, cast

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition, Unavailable
from cortex_workloads.runtime.progress import connect
from cortex_workloads.runtime.state import support

_PREFIX: Final = "cortex_state_1_"
_TIMEOUT_SECONDS: Final = 0.5
_FIRST_SECONDS: Final = 1.0
"""For what may need a connection first: nothing was answered yet, or the last call failed."""
_PAUSE_SECONDS: Final = 0.5
_LIBRARY: Final = files("cortex_workloads.runtime.state").joinpath("functions.lua").read_text("utf-8")

T = TypeVar("T")

_log = logging.getLogger("cortex.state")


class Functions:
    """The server at a redis:// or rediss:// URL; an empty URL is one that never answers. A server that did not answer
    is left alone for half a second. Raises InvalidInput when the URL cannot be read."""

    def __init__(self, url: str) -> None:
        self._client = connect(url, None) if url else None
        self._seconds = _FIRST_SECONDS
        self._retry_at, self._why = 0.0, ""
        self._failing: set[bool] = set()

    async def call(self, function: str, keys: tuple[str, ...], *arguments: Any, read_only: bool = False) -> Any:
        """What the function returns. Raises Unavailable (`StateUnreachable`), FailedPrecondition
        (`StateUnsupported`)."""
        if time.monotonic() < self._retry_at:
            raise _unreachable(f"a moment ago: {self._why}")
        words = ("FCALL_RO" if read_only else "FCALL", _PREFIX + function, len(keys), *keys, *arguments)
        try:
            try:
                reply = await self._execute(*words)
            except ResponseError as error:
                if not str(error).startswith("Function not found"):
                    raise
                await self._load()
                reply = await self._execute(*words)
        except (RedisError, OSError, TimeoutError) as error:
            raise self._failed(error, read_only) from error
        if read_only in self._failing:
            # A server that is full answers reads: it works again when that works which failed.
            self._failing.discard(read_only)
            _log.info("the shared state answers again (%s)", "reads" if read_only else "writes")
        return reply

    async def scan(self, pattern: str) -> list[bytes]:
        """Every key that matches. Raises Unavailable."""
        keys, cursor = [], 0
        while True:
            cursor, found = await self.run("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            keys += found
            if not cursor:
                return keys

    async def run(self, *words: Any) -> Any:
        """What a plain command returns. Raises Unavailable."""
        try:
            return await self._execute(*words)
        except (RedisError, OSError, TimeoutError) as error:
            raise self._failed(error) from error

    async def _execute(self, *words: Any) -> Any:
        if self._client is None:
            raise _unreachable("CORTEX_STATE_URL is not set")
        return await self._bounded(cast(Any, self._client).execute_command(*words))

    async def _bounded(self, asked: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._seconds):
                reply = await asked
        except TimeoutError:
            raise TimeoutError(f"nothing came in {self._seconds:g} s") from None
        self._seconds = _TIMEOUT_SECONDS
        return reply

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _load(self) -> None:
        assert self._client is not None
        try:
            support.check(await self._bounded(self._client.info("server")))
        except NoPermissionError:
            _log.info("the user may not ask the shared state for its version (INFO): it is taken to be supported")
        await self._bounded(self._client.function_load(_LIBRARY, replace=True))
        _log.info("functions loaded into the shared state")

    def _failed(self, error: Exception, read_only: bool = True) -> CortexError:
        telemetry.STATE_FAILURES.labels("call").inc()
        if isinstance(error, NoPermissionError):
            return FailedPrecondition(
                f"the user of CORTEX_STATE_URL may not do what the state needs: {error}",
                remedy="give it what docs/state.md lists under ACL",
                reason="StateForbidden",
            )
        if isinstance(error, ResponseError) and "unknown command" in str(error):
            return support.unsupported("it has no functions (FCALL)")
        self._why = str(error) or type(error).__name__
        if read_only not in self._failing:
            _log.warning("the shared state does not do what it is told: %s", self._why)
            self._failing.add(read_only)
        if isinstance(error, ResponseError):
            return Unavailable(
                f"the shared state refuses ({self._why})",
                remedy="see to what it says: memory (maxmemory), disk; what is in the Lake is read there",
                reason="StateUnreachable",
            )
        self._retry_at, self._seconds = time.monotonic() + _PAUSE_SECONDS, _FIRST_SECONDS
        return _unreachable(self._why)


def _unreachable(why: str) -> Unavailable:
    return Unavailable(
        f"the shared state does not answer ({why})",
        remedy="what is in the Lake is read there; see that Valkey runs and that the secret's `url` is right",
        reason="StateUnreachable",
    )
