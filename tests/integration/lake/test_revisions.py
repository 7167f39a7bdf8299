"""The state machine of revisions: who becomes Current, who is kept, who is superseded; many at once agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Phase, Resource, Revision
from patience import opened

PAPERS = Resource("CortexIndex", "default", "papers")
A, B, C, D = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc", "dddddddddd"


@pytest.fixture
async def lake(lake_dsn: str) -> AsyncIterator[Lake]:
    lake = await opened(lake_dsn, 8)
    await migrate(lake)
    yield lake
    await lake.close()


async def ensure(lake: Lake, revision: str, retain: int = 2) -> Revision:
    async with lake.transaction() as connection:
        return await revisions.ensure(connection, PAPERS, revision, {"of": revision}, retain)


async def promote(lake: Lake, revision: Revision) -> bool:
    async with lake.transaction() as connection:
        return await revisions.promote(connection, revision)


async def phases(lake: Lake) -> dict[str, str]:
    async with lake.connection() as connection:
        return {row.id: row.phase.value for row in await revisions.describe(connection, PAPERS)}


async def test_the_first_revision_is_current_at_once(lake: Lake) -> None:
    first = await ensure(lake, A)
    assert (first.phase, first.definition) == (Phase.CURRENT, {"of": A})
    assert await ensure(lake, A) == first


async def test_the_second_is_built_then_replaces_the_first(lake: Lake) -> None:
    await ensure(lake, A)
    second = await ensure(lake, B)
    assert await phases(lake) == {A: "Current", B: "Building"}
    assert await promote(lake, second)
    assert await phases(lake) == {A: "Retained", B: "Current"}
    assert not await promote(lake, second)


async def test_a_retained_revision_is_built_again(lake: Lake) -> None:
    await ensure(lake, A)
    await promote(lake, await ensure(lake, B))
    assert (await ensure(lake, A)).phase is Phase.BUILDING
    assert await phases(lake) == {A: "Building", B: "Current"}


async def test_a_newer_wish_supersedes_what_is_still_building(lake: Lake) -> None:
    await ensure(lake, A)
    superseded = await ensure(lake, B)
    await ensure(lake, C)
    assert await phases(lake) == {A: "Current", C: "Building"}
    assert not await promote(lake, superseded)
    await ensure(lake, A)
    assert await phases(lake) == {A: "Current"}


@pytest.mark.parametrize(("retain", "kept"), [(0, set()), (1, {C}), (2, {B, C})])
async def test_promotion_keeps_as_many_as_asked(lake: Lake, retain: int, kept: set[str]) -> None:
    for revision in (A, B, C, D):
        made = await ensure(lake, revision, retain)
        if made.phase is Phase.BUILDING:
            await promote(lake, made)
    assert {revision for revision, phase in (await phases(lake)).items() if phase == "Retained"} == kept
    assert (await phases(lake))[D] == "Current"


async def test_a_failed_revision_stays_failed_and_says_why(lake: Lake) -> None:
    await ensure(lake, A)
    building = await ensure(lake, B)
    async with lake.transaction() as connection:
        assert await revisions.fail(connection, building, "no disk")
        assert not await revisions.fail(connection, building, "again")
    again = await ensure(lake, B)
    assert (again.phase, again.message) == (Phase.FAILED, "no disk")
    assert not await promote(lake, building)


async def test_many_at_once_end_with_one_current(lake: Lake) -> None:
    made = await asyncio.gather(*(ensure(lake, revision) for revision in (A, B, C, D) * 3))
    await asyncio.gather(*(promote(lake, revision) for revision in made))
    assert list((await phases(lake)).values()).count("Current") == 1


async def test_another_resource_of_the_same_name_is_another(lake: Lake) -> None:
    await ensure(lake, A)
    async with lake.transaction() as connection:
        other = await revisions.ensure(connection, PAPERS._replace(kind="CortexWorkflow"), B, {}, 0)
    assert other.phase is Phase.CURRENT
    assert await phases(lake) == {A: "Current"}


async def test_a_revision_that_a_run_under_way_needs_is_not_trimmed(lake: Lake) -> None:
    first = await ensure(lake, A, retain=0)
    async with lake.connection() as connection:
        await connection.execute(
            "INSERT INTO threads (resource_id, thread, revision) VALUES (%s, 't', %s)", (first.resource, A)
        )
        await connection.execute(
            "INSERT INTO runs (run_id, resource_id, thread, revision, input, lease_until)"
            " VALUES (gen_random_uuid(), %s, 't', %s, '{}', now())",
            (first.resource, A),
        )
    await promote(lake, await ensure(lake, B, retain=0))
    assert await phases(lake) == {A: "Retained", B: "Current"}
    async with lake.connection() as connection:
        await connection.execute("UPDATE runs SET status = 'Succeeded'")
        await revisions.trim(connection, first.resource)
    assert await phases(lake) == {B: "Current"}


async def test_a_refused_revision_says_why_and_may_be_pardoned(lake: Lake) -> None:
    await ensure(lake, A)
    async with lake.transaction() as connection:
        refused = await revisions.refuse(connection, PAPERS, B, {"of": B}, "it cannot be")
    assert (refused.phase, refused.message) == (Phase.FAILED, "it cannot be")
    assert await phases(lake) == {A: "Current", B: "Failed"}
    assert (await ensure(lake, B)).phase is Phase.FAILED
    async with lake.transaction() as connection:
        await revisions.pardon(connection, PAPERS, B)
    assert (await ensure(lake, B)).phase is Phase.BUILDING
