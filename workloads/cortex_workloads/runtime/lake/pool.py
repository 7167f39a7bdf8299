"""Connections to the Lake. Shields the services from a PostgreSQL that is not there, goes away or comes back.

A service starts without the Lake; `Lake.reachable` says how it stands, and every use of a Lake that does not answer is
`errors.Unavailable` with the reason `LakeUnreachable`; of a Lake that is another one now, `LakeReplaced`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import orjson
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.errors import DeadlineExceeded, InvalidInput, Unavailable
from cortex_workloads.runtime.lake import deadline
from cortex_workloads.runtime.lake.identity import Identity

Connection = psycopg.AsyncConnection[Any]

REASON: Final = "LakeUnreachable"
_WAIT_SECONDS: Final = 10.0
_SLICE_SECONDS: Final = 0.5
_PROBE_SECONDS: Final = 0.25
_WATCH_SECONDS: Final = 1.0
# The server said that it goes away, is not up yet, or takes no more connections.
_GOING: Final = ("08", "53", "57P")

_FULL: Final = "53100"
"""No disk space: what is there can be read all the same."""

_log = logging.getLogger(__name__)


class Lake:
    """A pool of connections (autocommit; one transaction by `transaction()`).

    `dsn` is a postgresql:// address, `size` the most connections, `session` settings of every connection.
    Raises InvalidInput when the address cannot be read.
    """

    def __init__(self, dsn: str, size: int = 10, *, name: str = "cortex", session: Mapping[str, str] | None = None):
        parts = _parts(dsn)
        self._address = f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
        self._session = {"jit": "off", **(session or {})}
        self._answered = asyncio.Event()
        self._reachable = False
        self.identity = Identity()
        self._watcher: asyncio.Task[None] | None = None
        self.message = f"the Lake at {self._address} has not answered yet"
        self.pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=size,
            open=False,
            name=name,
            configure=self._configure,
            check=_check,
            # Gives up at once instead of backing off: the next user, or the watcher, tries again.
            reconnect_timeout=0,
            reconnect_failed=self._lost,
            kwargs={
                **{option: value for option, value in deadline.TCP.items() if option not in parts},
                "autocommit": True,
                "connect_timeout": 3,
                "application_name": name,
            },
        )

    @property
    def reachable(self) -> bool:
        """Whether the Lake answered when it was last asked, and is the one that this process began with."""
        return self._reachable and self.identity.error is None

    async def open(self) -> None:
        """Begins to connect, in the background; never fails because of the Lake."""
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        await self.pool.open(wait=False)
        self._watcher = asyncio.create_task(self._watch(), name="lake-watch")

    async def close(self) -> None:
        """Closes every connection."""
        await tasks.end(self._watcher)
        await self.pool.close(timeout=2)

    async def answered(self) -> None:
        """Returns once the Lake has answered for the first time."""
        await self._answered.wait()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit. Raises Unavailable (`LakeUnreachable`, `LakeReplaced`, `LakeFull`),
        DeadlineExceeded (cancelled query)."""
        connection = await self._take()
        try:
            yield connection
        except psycopg.errors.QueryCanceled as error:
            raise DeadlineExceeded(f"the Lake gave up a statement: {_first_line(error)}") from error
        except psycopg.ProgrammingError:
            # What the statement names is missing: because it was dropped, or because the whole Lake is another one.
            await self.identity.compare(connection)
            raise
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if error.sqlstate == _FULL and not connection.closed:
                raise Unavailable(
                    f"the Lake at {self._address} takes no writes: {_first_line(error)}",
                    remedy="give PostgreSQL's volume more space, or free some; what is there can be read meanwhile",
                    reason="LakeFull",
                ) from error
            if connection.closed or (error.sqlstate or "08").startswith(_GOING):
                self._note_lost(error)
                raise self.unavailable() from error
            raise
        finally:
            await self.pool.putconn(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in one transaction: committed at the end, rolled back by an exception. Raises as above."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    def unavailable(self) -> Unavailable:
        """The error of a Lake that does not answer, or is another one."""
        return self.identity.error or Unavailable(
            self.message, remedy="see that PostgreSQL runs and that the secret's `dsn` is right", reason=REASON
        )

    async def _take(self) -> Connection:
        # In slices: a full pool is worth waiting for, a Lake that went away is not.
        deadline = asyncio.get_running_loop().time() + _WAIT_SECONDS
        while True:
            if self.identity.error is not None:
                raise self.unavailable()
            try:
                return await self.pool.getconn(timeout=_SLICE_SECONDS)
            except PoolTimeout as error:
                if not self._reachable:
                    raise self.unavailable() from error
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(
                        f"all {self.pool.max_size} connections to the Lake are busy",
                        remedy="try again, or add replicas",
                        reason="LakeBusy",
                    ) from error
            except psycopg.OperationalError as error:
                self._note_lost(error)
                raise self.unavailable() from error

    async def _configure(self, connection: Connection) -> None:
        set_json_loads(_loads, connection)
        names, values = list(self._session), list(self._session.values())
        with deadline.within(connection, deadline.ANSWER_SECONDS):
            await connection.execute(
                "SELECT set_config(s.name, s.value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value)"
                " UNION ALL SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'",
                (names, values),
            )
        self._note_found()

    async def _watch(self) -> None:
        while not cancelled():
            with suppress(Unavailable, DeadlineExceeded, psycopg.Error):
                async with self.connection() as connection:
                    with deadline.within(connection, deadline.ANSWER_SECONDS):
                        await connection.execute("SELECT 1")
                    with deadline.within(connection, deadline.ANSWER_SECONDS):
                        await self.identity.compare(connection)
                self._note_found()
            if cancelled():
                return
            await asyncio.sleep(_WATCH_SECONDS if self._reachable else _PROBE_SECONDS)

    async def _lost(self, _: AsyncConnectionPool[Connection]) -> None:
        self._note_lost(None)

    def _note_lost(self, error: Exception | None) -> None:
        because = f": {_first_line(error)}" if error is not None else ""
        if self._reachable:
            _log.warning("the Lake at %s does not answer%s", self._address, because)
        self._reachable = False
        self.message = f"the Lake at {self._address} does not answer{because}"

    def _note_found(self) -> None:
        if not self._reachable:
            _log.info("the Lake at %s answers", self._address)
        self._reachable, self.message = True, ""
        self._answered.set()


def cancelled() -> bool:
    """Whether this task was told to end. A loop that uses the Lake has to ask: before Python 3.12 the wait for a
    connection (asyncio.wait_for) can swallow a cancellation that comes together with the connection."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _check(connection: Connection) -> None:
    with deadline.within(connection, deadline.ANSWER_SECONDS):
        await AsyncConnectionPool.check_connection(connection)


def _loads(data: str | bytes) -> Any:
    # PostgreSQL writes 1e20 as 100000000000000000000. That is read as the float that it was: an integer beyond 64 bits
    # could not be written as JSON again.
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # Of more than 308 digits, or nested deeper than orjson reads.
        return json.loads(data)


def _parts(dsn: str) -> dict[str, Any]:
    try:
        parts = conninfo_to_dict(dsn)
        readable = bool(parts) and all(map(_is_port, str(parts.get("port", "")).split(",")))
    except (psycopg.ProgrammingError, UnicodeError):
        readable = False
    if not readable:
        raise InvalidInput(
            "CORTEX_LAKE_DSN is not the address of a PostgreSQL",
            remedy="set it (in a cluster: the Secret's key `dsn`) to postgresql://USER:PASSWORD@HOST:PORT/DATABASE,"
            " with the characters @:/?#% of a password as %40 and so on",
        )
    return parts


def _is_port(text: str) -> bool:
    # A password with a `/` in it is cut there, and its first half is taken for the port.
    return not text or (text.isdecimal() and 0 < int(text) < 65536)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
