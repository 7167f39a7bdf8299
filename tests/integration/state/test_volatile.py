"""State in Valkey alone: versions, lifetimes, the roster, presence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as aioredis
from cortex_workloads.runtime.errors import StateSyncFailed
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import presence
from cortex_workloads.runtime.state.manager import StateManager
from cortex_workloads.runtime.state.presence import Presence, replicas
from cortex_workloads.runtime.state.volatile import Volatile
from cortex_workloads.runtime.telemetry import REGISTRY
from state_desk import DESK, Desk

ON_BOTH = (
    "test_only_the_expected_version_is_written_upon",
    "test_of_many_at_once_one_wins_each_version",
    "test_a_write_for_good_ends_a_lifetime",
    "test_the_roster_lives_as_long_as_the_longest_in_it",
    "test_a_lost_presence_is_noticed_and_written_again",
    "test_a_presence_that_ended_by_itself_was_not_lost",
    "test_who_is_there_is_read_as_any_state",
)

LIVE = "cortex:{workflow:default/desk}:live:"


@pytest.fixture
async def volatile(state_url: str) -> AsyncIterator[Volatile]:
    desk = Desk(Lake("postgresql://nobody@127.0.0.1:1/none"), state_url)
    yield Volatile(desk.functions, DESK)
    await desk.close()


async def lost() -> float:
    return REGISTRY.get_sample_value("cortex_state_lost_total") or 0.0


async def test_only_the_expected_version_is_written_upon(volatile: Volatile) -> None:
    assert await volatile.read("session/a") is None
    assert await volatile.write("session/a", "Set", {"n": 1, "m": None}, expected=0) == 1
    for wrong in (0, 2):
        with pytest.raises(StateSyncFailed, match="has version 1") as caught:
            await volatile.write("session/a", "Set", {"n": 9}, expected=wrong)
        assert caught.value.reason == "VersionConflict"
    assert await volatile.write("session/a", "Set", {"n": 2}, expected=1) == 2
    assert await volatile.write("session/a", "Set", {"k": "ü\n"}) == 3
    state = await volatile.read("session/a")
    assert state is not None
    assert (state.version, state.fields) == (3, {"n": 2, "m": None, "k": "ü\n"})
    await volatile.remove("session/a")
    assert await volatile.read("session/a") is None


async def test_of_many_at_once_one_wins_each_version(volatile: Volatile) -> None:
    async def attempt(n: int) -> bool:
        try:
            return await volatile.write("session/a", "Set", {"by": n}, expected=0) == 1
        except StateSyncFailed:
            return False

    assert sum(await asyncio.gather(*map(attempt, range(20)))) == 1


async def test_a_write_for_good_ends_a_lifetime(volatile: Volatile, state_url: str) -> None:
    client = aioredis.from_url(state_url)
    await volatile.write("session/a", "Set", {"n": 1}, seconds=50.0)
    assert 40_000 < await client.pttl(f"{LIVE}session/a") <= 50_000
    await volatile.write("session/a", "Set", {"n": 1})
    assert await client.pttl(f"{LIVE}session/a") == -1
    await client.aclose()


async def test_the_roster_lives_as_long_as_the_longest_in_it(volatile: Volatile) -> None:
    await volatile.write("session/long", "Set", {}, seconds=60.0)
    await volatile.write("session/short", "Set", {}, seconds=0.05)
    async with asyncio.timeout(60):
        while await volatile.read("session/short") is not None:  # noqa: ASYNC110 - what others do
            await asyncio.sleep(0.01)
    assert "session/long" in await volatile.roster("session")


async def test_a_lost_presence_is_noticed_and_written_again(
    volatile: Volatile, state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing ends by itself here.
    monkeypatch.setattr(presence, "LIVES_SECONDS", 600.0)
    one = Presence(volatile, "one", lambda: {"runs": 3})
    client = aioredis.from_url(state_url)
    before = await lost()
    await one.announce()
    await one.announce()
    assert [(state.version, state.fields["runs"]) for state in await replicas(volatile)] == [(2, 3)]
    assert await lost() == before
    await client.flushdb()
    assert await replicas(volatile) == []
    await one.announce()
    assert await lost() == before + 1
    assert [state.version for state in await replicas(volatile)] == [1]
    # The end of what it wrote is lost, not all of it.
    kept = await client.dump(f"{LIVE}replica/one")
    await one.announce()
    await client.restore(f"{LIVE}replica/one", 0, kept, replace=True)
    await one.announce()
    assert await lost() == before + 2
    await client.aclose()


async def test_a_presence_that_ended_by_itself_was_not_lost(
    volatile: Volatile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process stood still, or could not reach Valkey."""
    monkeypatch.setattr(presence, "LIVES_SECONDS", 0.05)
    one = Presence(volatile, "one", dict)
    before = await lost()
    await one.announce()
    async with asyncio.timeout(60):
        while await replicas(volatile):  # noqa: ASYNC110 - what others do
            await asyncio.sleep(0.01)
    await one.announce()
    assert await lost() == before


async def test_who_is_there_is_read_as_any_state(lake: Lake, state_url: str) -> None:
    manager = StateManager(lake, state_url, DESK)
    manager.start("one", lambda: {"runs": 3})
    async with asyncio.timeout(60):
        while (await manager.read("replica/one")).state is None:  # noqa: ASYNC110 - what others do
            await asyncio.sleep(0.01)
    await manager.close()
