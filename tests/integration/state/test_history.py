"""Rows against events, when the same is said twice and when rows are mended under writers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.state import feed, history
from state_desk import DESK, B, C, Desk


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
        async with asyncio.timeout(20):
            while not (await desk.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")):  # noqa: ASYNC110 - what others do
                await asyncio.sleep(0.01)
    assert [one.aggregate for one in await mending] == [f"run/{run.id}"]
    assert await same(desk) == []
    ((attempts, steps),) = await desk.rows("SELECT attempts, steps FROM runs")
    assert (attempts, steps) == (2, 0)


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
