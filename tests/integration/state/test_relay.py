"""The relay: what it may promise, when it has to begin anew, how much it takes at once."""

from __future__ import annotations

import pytest
import redis.asyncio as aioredis
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import history
from cortex_workloads.runtime.state import relay as state_relay
from cortex_workloads.runtime.state.aggregates import Consistency, Source
from state_desk import Desk

ON_BOTH = ("test_a_clock_that_was_set_back_makes_nothing_fresh",)

FEED = "cortex:{workflow:default/desk}:feed"


async def test_a_copy_that_is_not_complete_says_nothing_of_its_age(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """More was committed than one round numbers: what was acknowledged may be missing."""
    run = await desk.run()
    await desk.relayed()
    before = (await desk.copies.standing()).watermark
    monkeypatch.setattr(state_relay, "_MOST", 2)
    for n in range(3):
        await desk.run(f"other-{n}")
    await desk.store.succeed(run, {}, 1)
    assert await desk.relay.round()
    assert (await desk.copies.standing()).watermark == before
    await desk.relayed()
    assert (await desk.copies.standing()).watermark > before


async def test_lost_events_of_another_lake_do_not_come_back_with_an_old_state(desk: Desk, state_url: str) -> None:
    """The Lake is restored, the copy begins anew, and then Valkey loses its end: it has the old copy again, as far as
    the new one was."""
    await desk.run("a")
    await desk.relayed()
    client = aioredis.from_url(state_url)
    kept = {key: await client.dump(key) async for key in client.scan_iter("cortex:*")}
    old = await desk.copies.standing()
    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.dropping = 'on'; DELETE FROM runs; DELETE FROM threads")
        await connection.execute("DELETE FROM events WHERE aggregate LIKE 'run/%%' OR aggregate LIKE 'thread/%%'")
        await connection.execute("UPDATE feeds SET position = (SELECT max(position) FROM events)")
    await desk.relayed()
    await desk.run("b")
    await desk.relayed()
    new = await desk.copies.standing()
    assert (new.position, new.epoch != old.epoch) == (old.position, True)
    await client.flushdb()
    for key, value in kept.items():
        await client.restore(key, 0, value)
    await desk.relayed()
    assert (await desk.copies.standing()).epoch not in (old.epoch, new.epoch)
    async with desk.lake.connection() as connection:
        assert await history.copies_against_rows(connection, await desk.row(), desk.copies) == []
    await client.aclose()


async def test_a_clock_that_was_set_back_makes_nothing_fresh(desk: Desk, state_url: str) -> None:
    """As after a move of Valkey to another machine: the watermark lies ahead of its clock."""
    run = await desk.run()
    await desk.relayed()
    client = aioredis.from_url(state_url)
    await client.hincrby(FEED, "watermark", 3_600_000)
    await desk.store.succeed(run, {}, 1)
    reply = await desk.reader.read(f"run/{run.id}", Consistency.BOUNDED, 60.0)
    assert reply.state is not None
    assert (reply.source, reply.state.fields["status"]) == (Source.LAKE, "Succeeded")
    await desk.relayed()
    standing = await desk.copies.standing()
    assert standing.watermark <= standing.now
    assert (await desk.reader.read(f"run/{run.id}", Consistency.BOUNDED, 60.0)).source is Source.COPY
    await client.aclose()


async def test_long_outputs_are_brought_in_parts(lake: Lake, state_url: str) -> None:
    """What was written while Valkey was away is more than it takes in the time for one answer."""
    desk = Desk(lake, state_url)
    await desk.ensure()
    await desk.relayed()
    for n in range(60):
        await desk.store.succeed(await desk.run(f"t{n}"), {"text": f"{n}" * 1_000_000}, 1)
    sizes: list[int] = []
    apply = desk.copies.apply

    async def measured(epoch: str, changes: list, states: dict) -> int:  # type: ignore[type-arg]
        sizes.append(len(changes))
        return await apply(epoch, changes, states)

    desk.copies.apply = measured  # type: ignore[method-assign, assignment]
    await desk.relayed()
    print(sizes)
    async with desk.lake.connection() as connection:
        assert await history.copies_against_rows(connection, await desk.row(), desk.copies) == []
    (last,) = (await desk.rows("SELECT position FROM feeds"))[0]
    assert (await desk.copies.standing()).position == last
    await desk.close()
