"""A bulkhead: places, the line before them, and who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cortex_workloads.runtime.resilience.bulkhead import Bulkhead, Refused
from cortex_workloads.runtime.resilience.policies import LimitPolicy
from hypothesis import given
from hypothesis import strategies as st


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def bulkhead(concurrent: int = 2, waiting: int = 3, wait_seconds: float = 30.0) -> tuple[Bulkhead, Clock]:
    clock = Clock()
    return Bulkhead(LimitPolicy(concurrent=concurrent, waiting=waiting, wait_seconds=wait_seconds), clock), clock


@asynccontextmanager
async def held(of: Bulkhead, calls: int) -> AsyncIterator[tuple[asyncio.Event, list[asyncio.Task[None]]]]:
    """So many calls have come; those with a place keep it until the event."""
    go_on = asyncio.Event()

    async def call() -> None:
        async with of.place():
            await go_on.wait()

    tasks = [asyncio.create_task(call()) for _ in range(calls)]
    await asyncio.sleep(0)
    try:
        yield go_on, tasks
    finally:
        go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)


async def refused(of: Bulkhead, left: float | None = None) -> Refused:
    with pytest.raises(Refused) as raised:
        async with of.place(left):
            pass
    return raised.value


async def took(of: Bulkhead, clock: Clock, seconds: float) -> None:
    """A call that held its place so long."""
    async with of.place():
        clock.now += seconds


async def test_as_many_run_as_may_and_the_line_is_bounded() -> None:
    of, _ = bulkhead(concurrent=2, waiting=3)
    async with held(of, 5) as (go_on, tasks):
        assert (of.running, of.waiting) == (2, 3)
        assert (await refused(of)).why == "Full"
        go_on.set()
        await asyncio.gather(*tasks)
    assert (of.running, of.waiting) == (0, 0)


async def test_nobody_joins_a_line_that_takes_too_long() -> None:
    of, clock = bulkhead(concurrent=2, waiting=100, wait_seconds=1.0)
    await took(of, clock, 0.6)
    # Two places for 0.6 s each: a place comes every 0.3 s.
    async with held(of, 5):
        assert (of.running, of.waiting) == (2, 3)
        told = await refused(of)
        assert (told.why, told.seconds) == ("Slow", pytest.approx(1.2))


async def test_who_would_not_be_answered_before_his_deadline_is_refused_at_once() -> None:
    of, clock = bulkhead(concurrent=2, waiting=100)
    await took(of, clock, 0.6)
    async with held(of, 2):
        # 0.3 s until there is a place, and 0.6 s for the call itself.
        told = await refused(of, left=0.8)
        assert (told.why, told.seconds) == ("Late", pytest.approx(0.3))
        of.check(left=1.0)


async def test_a_deadline_is_no_matter_where_there_is_a_place() -> None:
    of, clock = bulkhead()
    await took(of, clock, 10.0)
    async with of.place(left=0.5):
        assert of.running == 1


async def test_who_waits_in_vain_leaves_the_line() -> None:
    of, _ = bulkhead(concurrent=1, waiting=5, wait_seconds=0.02)
    async with held(of, 1):
        assert (await refused(of)).why == "Slow"
        assert (await refused(of, left=0.01)).why == "Late"
        assert of.waiting == 0


async def test_the_line_is_served_in_order() -> None:
    of, _ = bulkhead(concurrent=1, waiting=9)
    came: list[int] = []

    async def call(number: int) -> None:
        async with of.place():
            came.append(number)

    async with held(of, 1):
        tasks = [asyncio.create_task(call(number)) for number in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert came == [0, 1, 2, 3, 4]


async def test_a_cancelled_call_gives_its_place_on_wherever_it_was() -> None:
    of, _ = bulkhead(concurrent=1, waiting=9)
    async with held(of, 4) as (go_on, tasks):
        tasks[1].cancel()
        tasks[0].cancel()
        await asyncio.sleep(0)
        # The third has just been given the place, and does not know yet.
        tasks[2].cancel()
        go_on.set()
        await asyncio.wait_for(tasks[3], 30)
    assert (of.running, of.waiting) == (0, 0)


async def test_a_call_that_fails_gives_its_place_back() -> None:
    of, _ = bulkhead(concurrent=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with of.place():
                _ = 1 / 0
    assert of.running == 0


async def test_fewer_places_are_given_only_when_as_many_calls_have_ended() -> None:
    of, _ = bulkhead(concurrent=3, waiting=5)
    async with held(of, 5) as (_, tasks):
        of.seconds = 1.0
        of.change(LimitPolicy(concurrent=1, waiting=1, wait_seconds=30))
        assert (of.running, of.waiting) == (3, 2)
        assert of.wait() == pytest.approx(5.0)
        assert (await refused(of)).why == "Full"
        for ended in (0, 1):
            tasks[ended].cancel()
            await asyncio.wait([tasks[ended]])
            assert (of.running, of.waiting) == (2 - ended, 2)
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        assert (of.running, of.waiting) == (1, 1)


async def test_more_places_are_given_at_once_to_those_that_wait() -> None:
    of, _ = bulkhead(concurrent=1, waiting=5)
    async with held(of, 4):
        of.change(LimitPolicy(concurrent=3, waiting=0, wait_seconds=30))
        assert (of.running, of.waiting) == (3, 1)
        of.change(LimitPolicy(concurrent=4, waiting=0, wait_seconds=30))
        assert (of.running, of.waiting) == (4, 0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=60))
def test_whatever_happens_no_place_is_lost_or_given_twice(steps: list[tuple[int, int]]) -> None:
    async def play() -> None:
        of, _ = bulkhead(concurrent=3, waiting=4)
        running, most, calls = 0, 0, list[tuple[asyncio.Task[None], asyncio.Event]]()

        async def call(go_on: asyncio.Event) -> None:
            nonlocal running, most
            async with of.place():
                running += 1
                most = max(most, running)
                try:
                    await go_on.wait()
                finally:
                    running -= 1

        for action, which in steps:
            match action:
                case 0 | 1:
                    calls.append((asyncio.create_task(call(event := asyncio.Event())), event))
                case 2 if calls:
                    calls[which % len(calls)][1].set()
                case 3 if calls:
                    calls[which % len(calls)][0].cancel()
                case 4:
                    of.change(LimitPolicy(concurrent=1 + which % 3, waiting=which % 5, wait_seconds=30))
            if which % 3:
                await asyncio.sleep(0)
        for _, event in calls:
            event.set()
        await asyncio.gather(*(task for task, _ in calls), return_exceptions=True)
        assert most <= 3
        assert (of.running, of.waiting) == (0, 0)

    asyncio.run(play())
