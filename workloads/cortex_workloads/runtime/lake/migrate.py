"""The Lake's schema: numbered SQL files, applied in order, once, forward only, by whichever pod comes first.

A file is `NNNN_name.sql`. A line `-- min_reader: N` in it says that builds whose newest migration is below N cannot
work on the schema any more; without it, older builds go on (expand, then contract).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from typing import Final

import psycopg

from cortex_workloads.runtime.errors import FailedPrecondition
from cortex_workloads.runtime.lake.pool import Connection, Lake

_LOCK: Final = 4_916_353_731_570_721_541
_FILE: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_MIN_READER: Final = re.compile(r"^-- min_reader: (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Migration:
    """One file. `min_reader`: the lowest number of a build's newest migration that can work after this one."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def min_reader(self) -> int:
        """0 unless the file says so."""
        found = _MIN_READER.search(self.sql)
        return int(found[1]) if found else 0


def migrations(folder: Traversable | None = None) -> list[Migration]:
    """The migrations of this build, in order. Raises ValueError for two files of one number."""
    folder = folder or files("cortex_workloads.runtime.lake") / "migrations"
    found = [
        Migration(int(match[1]), match[2], entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if (match := _FILE.match(entry.name))
    ]
    found.sort(key=lambda migration: migration.number)
    for one, next_one in pairwise(found):
        if one.number == next_one.number:
            raise ValueError(f"two migrations have the number {one.number:04}: {one.name} and {next_one.name}")
    return found


async def migrate(lake: Lake, known: Sequence[Migration] | None = None) -> list[int]:
    """Applies what the Lake does not have yet; returns the numbers applied. Any number of pods may call it at once.
    From then on another Lake at the same address is noticed (`Lake.identity`), and left alone.

    Raises FailedPrecondition: `LakeSchemaTooNew`, `LakeMigrationEdited`, `LakeMigrationFailed`; Unavailable.
    """
    known = migrations() if known is None else known
    async with lake.connection() as connection:
        await lake.identity.compare(connection)
        applied = await _bring_up(connection, known)
        await lake.identity.learn(connection)
    return applied


async def _bring_up(connection: Connection, known: Sequence[Migration]) -> list[int]:
    if not _missing(known, await _applied(connection)):
        return []
    await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
    try:
        await _bookkeeping(connection)
        missing = _missing(known, await _applied(connection))
        for migration in missing:
            await _apply(connection, migration)
    finally:
        if not connection.closed:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK,))
    return [migration.number for migration in missing]


@dataclass(frozen=True)
class _Applied:
    number: int
    name: str
    checksum: str
    min_reader: int


async def _applied(connection: Connection) -> list[_Applied]:
    there = await (await connection.execute("SELECT to_regclass('schema_migrations') IS NOT NULL")).fetchone()
    if there is None or not there[0]:
        return []
    rows = await connection.execute("SELECT number, name, checksum, min_reader FROM schema_migrations ORDER BY number")
    return [_Applied(*row) for row in await rows.fetchall()]


async def _bookkeeping(connection: Connection) -> None:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations ("
        " number int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, min_reader int NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )


def _missing(known: Sequence[Migration], applied: Sequence[_Applied]) -> list[Migration]:
    newest = max((migration.number for migration in known), default=0)
    by_number = {migration.number: migration for migration in known}
    for row in applied:
        if row.min_reader > newest:
            raise FailedPrecondition(
                f"the Lake's schema ({row.number:04}_{row.name}) is too new for this build,"
                f" whose newest migration is {newest:04}",
                remedy=f"run a release that has migration {row.min_reader:04} or newer",
                reason="LakeSchemaTooNew",
            )
        ours = by_number.get(row.number)
        if ours is not None and ours.checksum != row.checksum:
            raise FailedPrecondition(
                f"migration {row.number:04}_{row.name} was applied to the Lake with another text than this build has",
                remedy="applied migrations never change: restore the file and add a new one",
                reason="LakeMigrationEdited",
            )
    done = {row.number for row in applied}
    return [migration for migration in known if migration.number not in done]


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql.encode())
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum, min_reader) VALUES (%s, %s, %s, %s)",
                (migration.number, migration.name, migration.checksum, migration.min_reader),
            )
    except (
        psycopg.errors.FeatureNotSupported,
        psycopg.errors.InsufficientPrivilege,
        psycopg.ProgrammingError,
    ) as error:
        raise FailedPrecondition(
            f"migration {migration.number:04}_{migration.name} cannot be applied to the Lake: {error}".strip(),
            remedy="the Lake needs PostgreSQL 18 with pgvector 0.8, and a user that owns the database",
            reason="LakeMigrationFailed",
        ) from error
