"""Turns: shared by who waits, never older than who asks, failures told to all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from cortex_workloads.runtime.cache.turns import Turns


class Clock:
    """Answers with the number of times that it was asked before; each answer waits to be let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Semaphore(0)

    async def ask(self) -> int:
        self.asked += 1
        now = self.asked
        await self.go.acquire()
        if now == 13:
            raise ValueError(now)
        return now


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_comes_while_a_question_is_under_way_shares_the_next_one() -> None:
    turns, clock = Turns[str, int](), Clock()
    first = [asyncio.create_task(turns.next("a", clock.ask)) for _ in range(3)]
    await settle()
    later = [asyncio.create_task(turns.next("a", clock.ask)) for _ in range(4)]
    await settle()
    assert clock.asked == 1
    clock.go.release()
    assert await asyncio.gather(*first) == [1, 1, 1]
    clock.go.release()
    assert await asyncio.gather(*later) == [2, 2, 2, 2]
    clock.go.release()
    assert await turns.next("a", clock.ask) == 3
    assert not turns._asking
    assert not turns._waiting


async def test_keys_do_not_wait_for_each_other() -> None:
    turns, clock = Turns[str, int](), Clock()
    tasks = [asyncio.create_task(turns.next(key, clock.ask)) for key in "ab"]
    await settle()
    assert clock.asked == 2
    clock.go.release()
    clock.go.release()
    assert await asyncio.gather(*tasks) == [1, 2]


async def test_a_failure_is_told_to_all_who_share_it_and_the_next_turn_comes() -> None:
    turns, clock = Turns[str, int](), Clock()
    clock.asked = 12
    failing = [asyncio.create_task(turns.next("a", clock.ask)) for _ in range(2)]
    await settle()
    after = asyncio.create_task(turns.next("a", clock.ask))
    clock.go.release()
    for task in failing:
        with pytest.raises(ValueError, match="13"):
            await task
    clock.go.release()
    assert await after == 14


async def test_one_who_goes_takes_nobody_along() -> None:
    turns, clock = Turns[str, int](), Clock()
    goes, stays = (asyncio.create_task(turns.next("a", clock.ask)) for _ in range(2))
    await settle()
    goes.cancel()
    with suppress(asyncio.CancelledError):
        await goes
    clock.go.release()
    assert await stays == 1
