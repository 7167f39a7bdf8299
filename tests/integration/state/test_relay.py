"""The relay: what it may promise, when it has to begin anew, how much it takes at once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, cast

import orjson
import pytest
import redis.asyncio as aioredis
from cortex_workloads.runtime.errors import StateSyncFailed
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import feed, history
from cortex_workloads.runtime.state import relay as state_relay
from cortex_workloads.runtime.state.aggregates import Consistency, Source
from cortex_workloads.runtime.telemetry import REGISTRY
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


async def test_another_lake_that_is_as_far_is_noticed(desk: Desk) -> None:
    await desk.relayed()
    run = await desk.run()
    await desk.relayed()
    before = await desk.copies.standing()
    await desk.elsewhere()
    await desk.relayed()
    after = await desk.copies.standing()
    assert (after.position, after.epoch != before.epoch, after.last != before.last) == (before.position, True, True)
    copy, _ = await desk.copies.find(f"run/{run.id}")
    assert copy is not None, "it is under way: the copy is made anew"


async def test_who_follows_misses_nothing_when_the_stream_begins_anew(desk: Desk) -> None:
    """The Lake was restored, and has another event where the follower is; what follows that is in the stream."""
    await desk.relayed()
    await desk.run("a")
    await desk.relayed()
    end = (await desk.copies.standing()).position
    async with asyncio.timeout(60), aclosing(cast(Any, desk.watching.changes(end - 1))) as stream:
        assert (await anext(stream)).position == end
        await desk.run("b")
        await desk.relayed()
        end = (await desk.copies.standing()).position
        while (await anext(stream)).position < end:
            pass
        await desk.elsewhere()
        await desk.relayed()
        await desk.run("c")
        await desk.relayed()
        with pytest.raises(StateSyncFailed, match="is another one"):
            await anext(stream)


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
    for n in range(15):
        await desk.store.succeed(await desk.run(f"t{n}"), {"text": f"{n}" * 1_000_000}, 1)
    sizes: list[int] = []
    longest = len(orjson.dumps({"text": "14" * 1_000_000}))
    apply = desk.copies.apply

    async def measured(epoch: str, changes: list, states: dict) -> int:  # type: ignore[type-arg]
        sizes.append(sum(len(orjson.dumps(change.data)) for change in changes))
        return await apply(epoch, changes, states)

    desk.copies.apply = measured  # type: ignore[method-assign, assignment]
    await desk.relayed()
    assert max(sizes) < feed._BYTES + 2 * longest < sum(sizes) / 3
    async with desk.lake.connection() as connection:
        assert await history.copies_against_rows(connection, await desk.row(), desk.copies) == []
    (last,) = (await desk.rows("SELECT position FROM feeds"))[0]
    assert (await desk.copies.standing()).position == last
    await desk.close()


async def test_what_cannot_be_written_as_json_is_read_in_the_lake(desk: Desk) -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    await desk.relayed()
    run = await desk.run("deep")
    await desk.store.succeed(run, {"deep": deep}, 1)
    other = await desk.run("other")
    await desk.relayed()
    (last,) = (await desk.rows("SELECT position FROM feeds"))[0]
    assert (await desk.copies.standing()).position == last
    reply = await desk.reader.read("thread/deep", Consistency.BOUNDED, 60.0)
    assert reply.state is not None
    assert (reply.source, reply.state.fields["state"]) == (Source.LAKE, {"deep": deep})
    assert (await desk.reader.read(f"run/{other.id}", Consistency.BOUNDED, 60.0)).source is Source.COPY
    async with asyncio.timeout(60), aclosing(cast(Any, desk.watching.changes(0))) as stream:
        assert [(await anext(stream)).position for _ in range(last)] == [*range(1, last + 1)]


@pytest.mark.parametrize("missing", [0, 1])
async def test_a_copy_that_a_hole_keeps_behind_lags(desk: Desk, missing: int) -> None:
    """Events that were removed by force: the last one, or the one before."""
    await desk.relayed()
    reached = (await desk.copies.standing()).position
    await desk.run("a")
    async with desk.lake.transaction() as connection:
        last = (await state_relay.feed.number(connection, await desk.row(), 1000)).position
        await connection.execute("SET LOCAL cortex.dropping = 'on'")
        await connection.execute("DELETE FROM events WHERE position = %s", (last - missing,))
    assert last == reached + 2

    def lag() -> float:
        return REGISTRY.get_sample_value("cortex_state_relay_lag_seconds") or 0.0

    began = lag()
    for _ in range(3):
        await asyncio.sleep(0.1)
        assert not await desk.relay.round()
    assert lag() >= began + 0.3
    assert (await desk.copies.standing()).position == last - missing - 1


async def test_a_defect_does_not_end_the_relay(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once in a row, with its traceback."""
    failed, apply = 0, desk.copies.apply

    async def failing(*given: Any) -> int:
        nonlocal failed
        failed += 1
        if failed in (1, 2, 4):
            raise ValueError("a defect")
        return await apply(*given)

    monkeypatch.setattr(desk.copies, "apply", failing)
    monkeypatch.setattr(state_relay, "LOOK_SECONDS", 0.05)
    await desk.relayed()
    relaying = asyncio.create_task(desk.relay.run())
    for count in (3, 5):
        await desk.run(f"t{count}")
        async with asyncio.timeout(60):
            (last,) = (await desk.rows("SELECT max(position) FROM events"))[0]
            while failed < count or (await desk.copies.standing()).position < (last or 0):  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.02)
    relaying.cancel()
    told = [record for record in caplog.records if record.name == "cortex.state" and record.exc_info]
    assert [record.exc_info[0] for record in told if record.exc_info] == [ValueError, ValueError]
