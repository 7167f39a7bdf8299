"""The Lake's schema is migrated once, in order, by any number of pods; what does not fit is refused by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import patience
import pytest
from cortex_workloads.runtime.errors import FailedPrecondition
from cortex_workloads.runtime.lake.migrate import Migration, migrate, migrations
from cortex_workloads.runtime.lake.pool import Lake


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Lake]:
    lake = await patience.opened(dsn, 3)
    try:
        yield lake
    finally:
        await lake.close()


async def test_applies_every_migration_once(lake_dsn: str) -> None:
    async with opened(lake_dsn) as lake:
        applied = await migrate(lake)
        assert applied == [migration.number for migration in migrations()]
        assert await migrate(lake) == []


async def test_many_pods_at_once_apply_each_migration_once(lake_dsn: str) -> None:
    async with opened(lake_dsn) as one, opened(lake_dsn) as two, opened(lake_dsn) as three:
        applied = await asyncio.gather(*(migrate(lake) for lake in (one, two, three, one, two)))
    assert sorted(number for numbers in applied for number in numbers) == [m.number for m in migrations()]


async def test_an_edited_migration_is_refused_by_name(lake_dsn: str) -> None:
    first, edited = Migration(1, "things", "SELECT 1"), Migration(1, "things", "SELECT 2")
    async with opened(lake_dsn) as lake:
        await migrate(lake, [first])
        with pytest.raises(FailedPrecondition, match="0001_things") as refused:
            await migrate(lake, [edited])
    assert refused.value.reason == "LakeMigrationEdited"


async def test_a_newer_schema_is_refused_only_when_it_says_so(lake_dsn: str) -> None:
    first, second = Migration(1, "a", "SELECT 1"), Migration(2, "b", "SELECT 1")
    third = Migration(3, "c", "-- min_reader: 2\nSELECT 1")
    async with opened(lake_dsn) as lake:
        await migrate(lake, [first, second])
        assert await migrate(lake, [first]) == []
        assert await migrate(lake, [first, second, third]) == [3]
        assert await migrate(lake, [first, second]) == []
        with pytest.raises(FailedPrecondition, match="0003_c") as refused:
            await migrate(lake, [first])
    assert refused.value.reason == "LakeSchemaTooNew"


async def test_a_migration_that_fails_leaves_nothing_and_does_not_hold_the_lock(lake_dsn: str) -> None:
    broken = Migration(1, "broken", "CREATE TABLE half (x int); SELECT no_such_function()")
    async with opened(lake_dsn) as lake:
        with pytest.raises(FailedPrecondition, match="0001_broken"):
            await migrate(lake, [broken])
        assert await migrate(lake, [Migration(1, "whole", "CREATE TABLE half (x int)")]) == [1]


def test_two_files_of_one_number_are_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("SELECT 1")
    (tmp_path / "0001_b.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match="0001"):
        migrations(tmp_path)
