"""Another database at the Lake's address is noticed, by whatever it differs; the same one never is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from patience import opened

EMPTIED = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"


@pytest.fixture
async def lake(lake_dsn: str) -> AsyncIterator[Lake]:
    lake = await opened(lake_dsn, 3)
    await migrate(lake)
    yield lake
    await lake.close()


def change(dsn: str, sql: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as server:
        server.execute(sql.encode())


@pytest.mark.parametrize(
    ("sql", "now"),
    [
        (EMPTIED, "now empty"),
        ("DELETE FROM lake_identity", "now empty"),
        ("UPDATE lake_identity SET id = '00000000-0000-4000-8000-000000000001'", "now 00000000-0000-4000-8000-0000000"),
    ],
)
async def test_another_lake_is_noticed_and_nothing_is_asked_of_it(
    lake: Lake, lake_dsn: str, sql: str, now: str
) -> None:
    change(lake_dsn, sql)
    with pytest.raises(Unavailable, match=now) as told:
        await asyncio.wait_for(lake.identity.changed(), 60)
    assert told.value.reason == "LakeReplaced"
    assert "CORTEX_LAKE_DSN" in str(told.value)
    assert not lake.reachable
    with pytest.raises(Unavailable, match=now):
        async with lake.connection():
            pytest.fail("it is another Lake")
    with pytest.raises(Unavailable, match=now):
        await migrate(lake)


async def test_a_statement_that_meets_an_empty_lake_is_unavailable_at_once(lake: Lake, lake_dsn: str) -> None:
    async def meets() -> None:
        async with lake.transaction() as connection:
            change(lake_dsn, EMPTIED)
            await connection.execute("SELECT FROM revisions")

    with pytest.raises(Unavailable) as told:
        await meets()
    assert told.value.reason == "LakeReplaced"


async def test_a_table_that_is_missing_in_the_same_lake_stays_that_error(lake: Lake) -> None:
    async with lake.connection() as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await connection.execute("SELECT FROM chunks_7")
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with lake.transaction() as connection:
            await connection.execute("SELECT FROM chunks_7")
    assert lake.reachable


async def test_another_lake_is_not_migrated(lake: Lake, lake_dsn: str) -> None:
    change(lake_dsn, EMPTIED)
    with pytest.raises(Unavailable, match="now empty"):
        await migrate(lake)
    with psycopg.connect(lake_dsn) as server:
        assert server.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,)


async def test_every_process_sees_the_same_lake(lake: Lake, lake_dsn: str) -> None:
    other = await opened(lake_dsn, 3)
    assert await migrate(other) == []
    for one in (lake, other):
        async with one.connection() as connection:
            await one.identity.compare(connection)
        assert one.identity.error is None
    await other.close()
