"""Rows against events, when the same is said twice and when rows are mended under writers."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace

import psycopg
import pytest
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.state import feed, history
from state_desk import DESK, A, B, C, Desk

WAITING = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def same(desk: Desk) -> list[history.Difference]:
    async with desk.lake.connection() as connection:
        return await history.rows_against_events(connection, await desk.row())


async def test_a_revision_that_is_refused_again_is_what_its_events_say(desk: Desk) -> None:
    for revision in (B, C, B, B):
        async with desk.lake.transaction() as connection:
            await revisions.refuse(connection, DESK, revision, {"of": revision}, "no")
    assert await same(desk) == []


async def test_rows_are_mended_while_others_write_them(desk: Desk) -> None:
    run = await desk.run()
    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.restoring = 'on'")
        await connection.execute("UPDATE runs SET input = '{}' || jsonb_build_object('n', 9), steps = 99")

    async def mend() -> list[history.Difference]:
        async with desk.lake.transaction() as connection:
            return await history.restore_rows(connection, await desk.row())

    async with desk.lake.transaction() as connection:
        # Its row is held by a writer when the mending begins, and another one when it goes on.
        await connection.execute("UPDATE runs SET attempts = attempts + 1 WHERE run_id = %s", (run.id,))
        mending = asyncio.create_task(mend())
        async with asyncio.timeout(60):
            while not (await desk.rows(WAITING)):  # noqa: ASYNC110 - what others do
                await asyncio.sleep(0.01)
    assert [one.aggregate for one in await mending] == [f"run/{run.id}"]
    assert await same(desk) == []
    ((attempts, steps),) = await desk.rows("SELECT attempts, steps FROM runs")
    assert (attempts, steps) == (2, 0)


@pytest.mark.parametrize("ids", [(A, B), (B, A)])
async def test_there_is_one_at_a_time_while_rows_are_mended(desk: Desk, ids: tuple[str, str]) -> None:
    """The rows have the former ones as current and as running, in whichever order their names are."""
    former, now = ids
    for revision in (B, *ids):
        async with desk.lake.transaction() as connection:
            await revisions.promote(connection, await revisions.ensure(connection, DESK, revision, {"of": revision}, 2))
    first, second = (str(uuid.UUID(revision.ljust(32, "0"))) for revision in ids)
    run, _ = await desk.store.begin(first, "t", A, {})
    await desk.store.succeed(run, {}, 1)
    await desk.store.begin(second, "t", A, {})
    assert await same(desk) == []
    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.restoring = 'on'")
        for revision, phase in ((now, "Retained"), (former, "Current")):
            await connection.execute("UPDATE revisions SET phase = %s WHERE revision = %s", (phase, revision))
        for run_id, status in ((second, "Failed"), (first, "Running")):
            await connection.execute("UPDATE runs SET status = %s WHERE run_id = %s", (status, run_id))
    async with desk.lake.transaction() as connection:
        assert len(await history.restore_rows(connection, await desk.row())) == 5
    assert await same(desk) == []


async def test_a_copy_that_is_behind_is_no_difference_until_the_feed_has_passed_it(desk: Desk) -> None:
    run = await desk.run()
    await desk.ensure(B)
    await desk.relayed()
    await desk.store.succeed(run, {}, 1)
    await desk.ensure(C)
    async with desk.lake.connection() as connection:
        row = await desk.row()
        assert await history.copies_against_rows(connection, row, desk.copies) == []
        old = (await feed.states(connection, row, [f"run/{run.id}"]))[f"run/{run.id}"]
        await desk.relayed()
        await desk.copies.forget([f"run/{run.id}"])
        await desk.copies.restore((await desk.copies.standing()).epoch, replace(old, version=1))
        (found,) = await history.copies_against_rows(connection, row, desk.copies)
    assert (found.aggregate, found.message) == (f"run/{run.id}", "its copy has version 1, its row 2")


async def removed(desk: Desk, condition: str) -> None:
    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.dropping = 'on'")
        await connection.execute(f"DELETE FROM events WHERE {condition}")


@pytest.mark.parametrize("statement", ["DELETE FROM events", "TRUNCATE events", "TRUNCATE resources CASCADE"])
async def test_events_cannot_be_removed(desk: Desk, statement: str) -> None:
    await desk.run("a")
    with pytest.raises(psycopg.errors.RaiseException, match="cannot be removed"):
        await desk.rows(statement)
    assert await same(desk) == []


async def test_a_row_that_is_ahead_of_its_events_is_kept(desk: Desk) -> None:
    run = await desk.run("a")
    await desk.store.succeed(run, {"answer": 1}, 1)
    await desk.relayed()
    await removed(desk, f"aggregate = 'run/{run.id}' AND version = 2")
    wrong = await same(desk)
    assert [(one.aggregate, one.mendable) for one in wrong] == [(f"run/{run.id}", False), ("feed", False)]
    assert "its row has version 2, its events end at 1: some are missing" in wrong[0].message
    assert "1 of its events are missing, the first at position 8" in wrong[1].message
    async with desk.lake.transaction() as connection:
        assert await history.restore_rows(connection, await desk.row()) == []
    assert (await desk.store.get(run.id)).output == {"answer": 1}


async def test_an_event_that_is_missing_in_the_middle_is_told_and_nothing_is_made_of_the_rest(desk: Desk) -> None:
    run = await desk.run("a")
    await desk.store.succeed(run, {"answer": 1}, 1)
    await desk.relayed()
    await removed(desk, f"aggregate = 'run/{run.id}' AND version = 1")
    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.restoring = 'on'; UPDATE runs SET steps = 9")
        assert await history.restore_rows(connection, await desk.row()) == []
    assert [one.aggregate for one in await same(desk)] == [f"run/{run.id}", "feed"]
    assert (await desk.store.get(run.id)).steps == 9
