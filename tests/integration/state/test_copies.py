"""The copy in Valkey: what each kind of read promises, what becomes of a lost copy, who follows the changes."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from itertools import pairwise
from typing import Any, cast

import pytest
import redis.asyncio as aioredis
from cortex_workloads.runtime.errors import StateSyncFailed, Unavailable
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import feed, history, messages, watch
from cortex_workloads.runtime.state.aggregates import Change, Consistency, Source, tag
from state_desk import DESK, B, Desk

ON_BOTH = (
    "test_a_stopped_relay_makes_the_three_reads_differ",
    "test_a_removed_revision_is_removed_in_the_copy",
    "test_an_emptied_state_begins_anew",
    "test_a_watch_sees_every_change_once_from_any_position",
    "test_relays_at_once_bring_each_event_once",
    "test_a_relay_that_is_late_takes_nothing_back",
    "test_messages_tell_of_changes_and_of_what_voids",
)

DURABLE, LATEST, BOUNDED = Consistency


async def take(changes: AsyncIterator[Change], count: int) -> list[Change]:
    found: list[Change] = []
    async with asyncio.timeout(60), aclosing(cast(Any, changes)) as stream:
        async for change in stream:
            found.append(change)
            if len(found) == count:
                break
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what others do
            await asyncio.sleep(0.01)


async def test_a_stopped_relay_makes_the_three_reads_differ(desk: Desk) -> None:
    run, still = await desk.run(), await desk.run("other")
    await desk.relayed()
    await desk.store.succeed(run, {"answer": 1}, 1)
    name = f"run/{run.id}"

    durable = await desk.reader.read(name, DURABLE)
    assert durable.state is not None
    assert (durable.source, durable.age, durable.state.fields["status"]) == (Source.LAKE, 0.0, "Succeeded")

    latest = await desk.reader.read(name, LATEST)
    assert (latest.source, latest.age) == (Source.LAKE, 0.0)
    assert latest.state == durable.state
    unchanged = await desk.reader.read(f"run/{still.id}", LATEST)
    assert (unchanged.source, unchanged.age) == (Source.COPY, 0.0)

    bounded = await desk.reader.read(name, BOUNDED, bound=60.0)
    assert bounded.state is not None
    assert (bounded.source, bounded.state.fields["status"]) == (Source.COPY, "Running")
    assert 0.0 <= bounded.age < 60.0
    assert (await desk.reader.read(name, BOUNDED, bound=0.0)).state == durable.state

    await desk.relayed()
    caught_up = await desk.reader.read(name, BOUNDED, bound=60.0)
    assert (caught_up.state, caught_up.source) == (durable.state, Source.COPY)


async def test_what_is_not_there_is_nothing_in_every_read(desk: Desk) -> None:
    await desk.relayed()
    for name in (
        "run/6f1c1e5e-0d1a-4a53-9a3b-0f6f3f6f8f10",
        "run/none",
        "thread/none",
        "revision/none",
        "x/y",
        "resource/x",
    ):
        for consistency in Consistency:
            assert (await desk.reader.read(name, consistency, 60.0)).state is None


async def test_a_resource_that_was_made_anew_is_found_by_every_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two reads that know the former row is held, until the other knows the new one."""
    former, row, states, found, asked = -1, await desk.row(), feed.states, asyncio.Event(), asyncio.Event()

    async def held(connection: Any, resource: int, aggregates: list[str]) -> Any:
        if resource == former and not asked.is_set():
            asked.set()
            await found.wait()
        return await states(connection, resource, aggregates)

    monkeypatch.setattr(feed, "states", held)
    desk.reader._row = former
    late = asyncio.create_task(desk.reader.read("resource", DURABLE))
    await asked.wait()
    assert (await desk.reader.read("resource", DURABLE)).state is not None
    assert desk.reader._row == row
    found.set()
    assert (await late).state is not None


async def test_a_removed_revision_is_removed_in_the_copy(desk: Desk) -> None:
    await desk.ensure(B)
    await desk.relayed()
    assert (await desk.reader.read(f"revision/{B}", BOUNDED, 60.0)).state is not None
    await desk.ensure("cccccccccc")
    await desk.relayed()
    reply = await desk.reader.read(f"revision/{B}", BOUNDED, 60.0)
    assert (reply.state, reply.source) == (None, Source.COPY)


async def test_without_the_state_the_lake_answers(desk: Desk, lake: Lake) -> None:
    alone = Desk(lake, "")
    run = await desk.run()
    for consistency in Consistency:
        reply = await alone.reader.read(f"run/{run.id}", consistency, 60.0)
        assert reply.state is not None
        assert reply.source is Source.LAKE
    assert not await alone.relay.round()
    (position,) = (await desk.rows("SELECT position FROM feeds"))[0]
    assert position > 0
    await alone.close()


async def test_an_expired_copy_is_no_answer_and_comes_back_with_the_next_change(desk: Desk) -> None:
    run = await desk.run()
    await desk.relayed()
    await desk.copies.forget([f"run/{run.id}"])
    assert (await desk.reader.read(f"run/{run.id}", BOUNDED, 60.0)).source is Source.LAKE
    await desk.store.succeed(run, {}, 1)
    await desk.relayed()
    reply = await desk.reader.read(f"run/{run.id}", BOUNDED, 60.0)
    assert reply.state is not None
    assert (reply.source, reply.state.fields["status"]) == (Source.COPY, "Succeeded")


async def test_the_lost_end_of_a_state_is_brought_again(desk: Desk, state_url: str) -> None:
    first = await desk.run("a")
    await desk.relayed()
    client = aioredis.from_url(state_url)
    kept = {key: await client.dump(key) async for key in client.scan_iter("cortex:*")}
    await desk.store.succeed(first, {"answer": 1}, 1)
    second = await desk.run("b")
    await desk.relayed()
    before = await desk.copies.standing()
    await client.flushdb()
    for key, value in kept.items():
        await client.restore(key, 0, value)
    behind = await desk.copies.standing()
    assert behind.position < before.position
    await desk.relayed()
    after = await desk.copies.standing()
    assert (after.position, after.last, after.epoch) == (before.position, before.last, before.epoch)
    for run, status in ((first, "Succeeded"), (second, "Running")):
        reply = await desk.reader.read(f"run/{run.id}", BOUNDED, 60.0)
        assert reply.state is not None
        assert (reply.source, reply.state.fields["status"]) == (Source.COPY, status)
    assert [int(entry.split(b"-")[0]) for entry, _ in await client.xrange(desk.copies.stream)] == list(
        range(before.position - len(await client.xrange(desk.copies.stream)) + 1, before.position + 1)
    )
    await client.aclose()


async def test_an_emptied_state_begins_anew(desk: Desk, state_url: str) -> None:
    run = await desk.run()
    await desk.relayed()
    client = aioredis.from_url(state_url)
    await client.flushdb()
    await client.function_flush("SYNC")
    await desk.relayed()
    reply = await desk.reader.read(f"run/{run.id}", BOUNDED, 60.0)
    assert (reply.source, reply.state is not None) == (Source.COPY, True)
    async with desk.lake.connection() as connection:
        assert await history.copies_against_rows(connection, await desk.row(), desk.copies) == []
    await client.aclose()


@pytest.mark.parametrize("restored", ["behind", "elsewhere"])
async def test_a_restored_lake_voids_the_copies(desk: Desk, restored: str) -> None:
    run = await desk.run()
    await desk.relayed()
    epoch = (await desk.copies.standing()).epoch
    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.dropping = 'on'")
        if restored == "behind":
            await connection.execute("DELETE FROM runs")
            await connection.execute("DELETE FROM events WHERE aggregate LIKE 'run/%%' OR aggregate LIKE 'thread/%%'")
            await connection.execute("UPDATE feeds SET position = (SELECT max(position) FROM events)")
        else:
            await connection.execute(
                "DELETE FROM events WHERE position = (SELECT max(position) FROM events);"
                " INSERT INTO events (resource_id, aggregate, version, type, data, position)"
                " SELECT resource_id, 'thread/t', 9, 'ThreadAdvanced', '{}', position FROM feeds"
            )
    desk.relay._seen = ("", -1)
    await desk.relayed()
    assert (await desk.copies.standing()).epoch != epoch
    if restored == "behind":
        assert (await desk.reader.read(f"run/{run.id}", BOUNDED, 60.0)).state is None
        with pytest.raises(StateSyncFailed, match="restored"):
            await take(desk.watching.changes(10_000), 1)


async def test_a_watch_sees_every_change_once_from_any_position(desk: Desk, state_url: str) -> None:
    run = await desk.run()
    await desk.store.succeed(run, {"n": 1}, 1)
    await desk.relayed()
    every = await take(desk.watching.changes(0), 6)
    assert [change.position for change in every] == [1, 2, 3, 4, 5, 6]
    assert await take(desk.watching.changes(3), 3) == every[3:]
    # The stream in Valkey is gone, its end is there: what it lacks comes from the Lake.
    client = aioredis.from_url(state_url)
    await client.xtrim(desk.copies.stream, maxlen=2, approximate=False)
    assert await take(desk.watching.changes(0), 6) == every
    await client.delete(desk.copies.stream)
    assert await take(desk.watching.changes(0), 6) == every
    await client.aclose()


async def test_a_watch_goes_on_without_relay_and_state(lake: Lake, own_valkey: Callable[..., Any]) -> None:
    server = own_valkey()
    desk = Desk(lake, server.url)
    await desk.ensure()
    await desk.relayed()
    begun = (await desk.rows("SELECT position FROM feeds"))[0][0]
    seen: list[Change] = []

    async def follow() -> None:
        async for change in desk.watching.changes(begun):
            seen.append(change)

    following = asyncio.create_task(follow())
    first = await desk.run("a")
    server.kill()
    second = await desk.run("b")
    await until(lambda: len(seen) >= 4)
    server.start()
    await desk.store.succeed(second, {}, 1)
    await desk.store.succeed(first, {}, 1)
    async with asyncio.timeout(60):
        while len(seen) < 8:
            await desk.relay.round()
            await asyncio.sleep(0.02)
    assert [change.position - begun for change in seen] == list(range(1, 9))
    following.cancel()
    await desk.close()


async def test_followers_who_hear_nothing_ask_the_lake_together(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, silences = 0, 0
    monkeypatch.setattr(watch, "_BLOCK_MS", 50)

    class Silent(watch.Watch):
        async def _from_stream(self, after: int) -> list[Change]:
            nonlocal silences
            silences += 1
            return await super()._from_stream(after)

    def counted() -> Any:
        nonlocal asked
        asked += 1
        return connection()

    desk = Desk(lake, "")
    await desk.ensure()
    follower = Silent(lake, "", DESK)
    begun = await follower.begin(None)
    connection = lake.connection
    monkeypatch.setattr(lake, "connection", counted)
    every = [asyncio.create_task(take(follower.changes(begun), 1)) for _ in range(20)]
    await until(lambda: silences > 400)
    assert asked < silences / 4
    await desk.run("a")
    first, *others = await asyncio.gather(*every)
    assert first[0].position == begun + 1
    assert others == [first] * 19
    await desk.close()


async def test_relays_at_once_bring_each_event_once(desk: Desk, state_url: str) -> None:
    others = [Desk(desk.lake, state_url) for _ in range(3)]
    client = aioredis.from_url(state_url)
    done = asyncio.Event()

    async def relay(one: Desk) -> None:
        while not done.is_set():
            await one.relay.round()

    relaying = [asyncio.create_task(relay(one)) for one in others]

    async def work(thread: str) -> None:
        for n in range(6):
            await desk.store.succeed(await desk.run(thread), {"n": n}, 1)

    await asyncio.gather(*(work(f"t{n}") for n in range(4)))
    done.set()
    await asyncio.gather(*relaying)
    await desk.relayed()
    entries = await client.xrange(desk.copies.stream)
    positions = [int(entry.split(b"-")[0]) for entry, _ in entries]
    assert all(after == before + 1 for before, after in pairwise(positions))
    assert positions[-1] == (await desk.rows("SELECT position FROM feeds"))[0][0]
    versions: dict[bytes, int] = {}
    for _, fields in entries:
        name, version = fields[b"aggregate"], int(fields[b"version"])
        assert version == versions.get(name, version - 1) + 1
        versions[name] = version
    async with desk.lake.connection() as connection:
        assert await history.copies_against_rows(connection, await desk.row(), desk.copies) == []
        assert await history.rows_against_events(connection, await desk.row()) == []
    for one in others:
        await one.close()
    await client.aclose()


async def test_a_relay_that_is_late_takes_nothing_back(desk: Desk) -> None:
    run = await desk.run()
    await desk.relayed()
    standing = await desk.copies.standing()
    async with desk.lake.connection() as connection:
        old = await feed.after(connection, await desk.row(), 0, 100)
        states = await feed.states(connection, await desk.row(), [f"run/{run.id}"])
    await desk.store.succeed(run, {}, 1)
    await desk.relayed()
    newest = await desk.copies.standing()
    assert await desk.copies.apply(standing.epoch, old, states) == newest.position
    assert not await desk.copies.restore(standing.epoch, states[f"run/{run.id}"])
    await desk.copies.mark(standing.epoch, newest.position + 5, newest.now + 10_000)
    assert (await desk.copies.standing()).watermark == newest.watermark
    reply = await desk.reader.read(f"run/{run.id}", BOUNDED, 60.0)
    assert reply.state is not None
    assert reply.state.fields["status"] == "Succeeded"


async def test_messages_tell_of_changes_and_of_what_voids(lake: Lake, state_url: str) -> None:
    # Of a name of its own: other workers' tests use the same channels.
    desk = Desk(lake, state_url, DESK._replace(name=f"desk-{secrets.token_hex(4)}"))
    await desk.ensure()
    await desk.relayed()
    heard: dict[str, list[dict[str, Any] | None]] = {"cortex:state": [], "cortex:invalidate": []}

    async def hear(channel: str) -> None:
        async for message in messages.listen(state_url, channel, tag(desk.resource)):
            heard[channel].append(message)

    hearing = [asyncio.create_task(hear(channel)) for channel in heard]
    await until(lambda: all(heard.values()))
    second = await desk.ensure(B)
    async with desk.lake.transaction() as connection:
        await revisions.promote(connection, second)
    await desk.relayed()
    await until(lambda: len(heard["cortex:invalidate"]) >= 2 and len(heard["cortex:state"]) >= 6)
    assert heard["cortex:invalidate"][0] is None
    voiding = heard["cortex:invalidate"][1]
    assert voiding is not None
    assert (voiding["aggregate"], voiding["type"]) == ("resource", "CurrentChanged")
    for task in hearing:
        task.cancel()
    await desk.close()


async def test_rows_are_made_again_from_their_events(desk: Desk) -> None:
    run, other = await desk.run("a", question="why?"), await desk.run("b")
    await desk.store.succeed(run, {"answer": "because"}, 3)
    before = sorted(await desk.rows("SELECT * FROM states_of(%s)", await desk.row()), key=lambda row: row[0])
    async with desk.lake.transaction() as connection:
        await connection.execute("SET LOCAL cortex.restoring = 'on'")
        await connection.execute("UPDATE runs SET output = '{}', steps = 99 WHERE run_id = %s", (run.id,))
        await connection.execute("DELETE FROM runs WHERE run_id = %s", (other.id,))
        await connection.execute("UPDATE resources SET retain = 77")
    async with desk.lake.transaction() as connection:
        wrong = await history.restore_rows(connection, await desk.row())
    assert {one.aggregate: one.message.partition("; a rebuild")[0] for one in wrong} == {
        f"run/{run.id}": "its row differs from its events in: output, steps",
        f"run/{other.id}": "its row is missing",
        "resource": "its row differs from its events in: retain",
    }
    assert sorted(await desk.rows("SELECT * FROM states_of(%s)", await desk.row()), key=lambda row: row[0]) == before
    async with desk.lake.connection() as connection:
        assert await history.rows_against_events(connection, await desk.row()) == []
    assert [one.id for one in await desk.store.take_over(4)] == [other.id]


async def test_a_copy_that_differs_is_found(desk: Desk, state_url: str) -> None:
    run = await desk.run()
    await desk.relayed()
    client = aioredis.from_url(state_url)
    await client.hset(f"cortex:{{workflow:default/desk}}:state:run/{run.id}", "status", '"Odd"')
    async with desk.lake.connection() as connection:
        (found,) = await history.copies_against_rows(connection, await desk.row(), desk.copies)
    assert (found.aggregate, found.message) == (f"run/{run.id}", "its copy differs at version 1")
    await client.aclose()


async def test_a_state_that_is_away_is_unavailable(lake: Lake) -> None:
    desk = Desk(lake, "redis://127.0.0.1:1")
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await desk.copies.standing()
        assert caught.value.reason == "StateUnreachable"
    await desk.close()


async def test_what_is_large_is_read_in_the_lake(desk: Desk, state_url: str) -> None:
    run = await desk.run()
    await desk.relayed()
    begun = (await desk.copies.standing()).position
    large = {"text": "".join(random.Random(1).choices("abcdefghij", k=2_000_000))}
    await desk.store.succeed(run, large, 1)
    other = await desk.run("other")
    await desk.relayed()
    for consistency in Consistency:
        reply = await desk.reader.read(f"run/{run.id}", consistency, 60.0)
        assert reply.state is not None
        assert (reply.source, reply.state.fields["output"]) == (Source.LAKE, large)
    changes = await take(desk.watching.changes(begun), 4)
    assert [change.position for change in changes] == list(range(begun + 1, begun + 5))
    assert changes[0].data["output"] == large
    assert (await desk.reader.read(f"run/{other.id}", BOUNDED, 60.0)).source is Source.COPY
    client = aioredis.from_url(state_url)
    assert sum([await client.memory_usage(key) or 0 async for key in client.scan_iter("cortex:*")]) < 100_000
    await client.aclose()
