"""Live progress in the shared state: bounded streams that expire (docs/architecture.md, "Live progress").

Shields writers from Valkey's absence (`append` never raises and never waits long) and readers from reconnects.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self, cast

from redis import asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from cortex_workloads.runtime import errors, telemetry

_log: Final = logging.getLogger("cortex.progress")
_TIMEOUT_SECONDS: Final = 0.5
_CONNECTIONS: Final = 4096
"""Of a client at most; who follows a stream has one. Beyond the library's 100 a call fails as if nothing answered."""
_PAUSE_SECONDS: Final = 1.0
"""After a failure: how long nothing is tried."""
_BLOCK_MS: Final = 5_000
_NO_STREAM: Final = "cortex:ping"
Fields = dict[str, bytes]


def index_key(namespace: str, name: str) -> str:
    """The stream of an index's ingestion."""
    return f"cortex:{{index:{namespace}/{name}}}:progress"


def run_key(run_id: str) -> str:
    """The stream of a run's events."""
    return f"cortex:{{run:{run_id}}}:events"


def tell_missing(url: str, what: str) -> None:
    """Says at the start, where there is no URL, what a process does without."""
    if not url:
        _log.warning("CORTEX_STATE_URL is not set, so there is no shared state; missing: %s", what)


class ProgressStream:
    """Streams at a redis:// or rediss:// URL; an empty URL is a state that is never there. Raises InvalidInput when the
    URL cannot be read."""

    def __init__(self, url: str) -> None:
        self._client = connect(url, _TIMEOUT_SECONDS) if url else None
        self._readers = connect(url, _BLOCK_MS / 1000 + 2) if url else None
        self._retry_at = 0.0
        self._lost = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        for client in (self._client, self._readers):
            if client is not None:
                await client.aclose()

    async def append(
        self, key: str, fields: Mapping[str, str | bytes | int | float], *, maxlen: int = 1000, ttl: float = 3600
    ) -> str:
        """Adds an entry, keeps about `maxlen` of them and lets the stream expire `ttl` seconds later. Returns the
        entry's id; "" when the state does not take it."""
        if self._client is None or time.monotonic() < self._retry_at:
            telemetry.STATE_FAILURES.labels("append").inc()
            return ""
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.xadd(key, cast(Any, dict(fields)), maxlen=maxlen, approximate=True)
                pipe.pexpire(key, round(ttl * 1000))
                entry, _ = await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._failed("append", error)
            return ""
        self._works()
        return str(entry.decode())

    async def forget(self, keys: Iterable[str]) -> None:
        """Removes streams; those that the state does not remove expire."""
        if self._client is None or time.monotonic() < self._retry_at:
            return
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                # One command for each: in a cluster they are on several nodes.
                for key in keys:
                    pipe.unlink(key)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._failed("forget", error)

    async def ping(self) -> None:
        """Raises Unavailable when the state does not answer, or takes nothing (full, read-only, without its disk)."""
        try:
            # Without a stream it adds nothing, and is refused as any write would be.
            await self._reader(self._client).xadd(_NO_STREAM, {"ping": ""}, nomkstream=True)
        except ResponseError as error:
            raise _refuses(str(error)) from error
        except (RedisError, OSError, TimeoutError) as error:
            raise _unreachable(str(error) or type(error).__name__) from error

    async def last(self, key: str) -> tuple[str, Fields] | None:
        """The newest entry; None when there is none. Raises Unavailable."""
        try:
            entries = await self._reader(self._client).xrevrange(key, count=1)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed("read", error)
            raise _unreachable(str(error)) from error
        return _entry(entries[0]) if entries else None

    async def read(self, key: str, after_id: str = "") -> AsyncIterator[tuple[str, Fields]]:
        """The entries after an id (from the first when empty), then each new one as it comes; never ends by itself and
        goes on after a lost connection. Raises InvalidInput for an id that is none, Unavailable without a URL or when
        the state refuses to be read."""
        position, client = after_id or "0-0", self._reader(self._readers)
        while True:
            try:
                reply: Any = await client.xread({key: position}, block=_BLOCK_MS, count=500)
            except ResponseError as error:
                if "Invalid stream ID" not in str(error):
                    raise _refuses(str(error), "to be read") from error
                raise errors.InvalidInput(
                    f"{position!r} is not the id of an event", remedy="send an id as it came, or none"
                ) from error
            except (RedisError, OSError, TimeoutError) as error:
                self._failed("read", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self._works()
            for entry in _entries(reply):
                position = entry[0]
                yield entry

    def _reader(self, client: redis.Redis | None) -> redis.Redis:
        if client is None:
            raise _unreachable("CORTEX_STATE_URL is not set")
        return client

    def _failed(self, operation: str, error: BaseException) -> None:
        self._retry_at = time.monotonic() + _PAUSE_SECONDS
        telemetry.STATE_FAILURES.labels(operation).inc()
        if not self._lost:
            _log.warning("the shared state does not answer, live progress stops: %s", error or type(error).__name__)
        self._lost = True

    def _works(self) -> None:
        if self._lost:
            _log.info("the shared state answers again")
        self._lost = False


def connect(url: str, timeout: float | None) -> redis.Redis:
    """A client of the shared state at a redis:// or rediss:// URL, which connects when it is used; answers may take
    `timeout` seconds (None: whoever asks sees to it, without the task that the library's own bound takes for each
    write). Raises InvalidInput, without the URL's words."""
    if not url.startswith(("redis://", "rediss://")):
        raise _malformed("it does not begin with redis:// or rediss://")
    try:
        # No retry by the library: an entry must not be added twice.
        client = redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            max_connections=_CONNECTIONS,
        )
        # Options are read when a connection is made, which does not connect yet.
        cast(Any, client.connection_pool).make_connection()
    except (ValueError, TypeError, RedisError):
        # Without the library's words, and without its error as the cause: they may quote a part of the password.
        raise _malformed("its port or one of its options cannot be read") from None
    return client


def _malformed(why: str) -> errors.InvalidInput:
    return errors.InvalidInput(
        f"CORTEX_STATE_URL is not the URL of a Valkey or Redis: {why}",
        remedy="set it (in a cluster: the Secret's key `url`) to redis://:PASSWORD@HOST:PORT/0 (rediss:// with TLS),"
        " with the characters @:/?#% of a password as %40 and so on",
    )


def _unreachable(why: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"live progress is not available: the shared state does not answer ({why})",
        reason="StateUnreachable",
        remedy="runs and ingestion go on; ask for the result, or try again",
    )


def _refuses(why: str, what: str = "what is written") -> errors.Unavailable:
    return errors.Unavailable(
        f"live progress is not available: the shared state refuses {what} ({why})",
        reason="StateUnreachable",
        remedy="see to what it says: memory (maxmemory), disk, rights; runs and ingestion go on",
    )


def _entries(reply: Any) -> list[tuple[str, Fields]]:
    return [_entry(entry) for _, entries in reply or () for entry in entries]


def _entry(entry: Any) -> tuple[str, Fields]:
    return entry[0].decode(), {key.decode(): value for key, value in entry[1].items()}
