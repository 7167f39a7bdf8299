from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from cortex_operator.cluster import Conflict, Invalid, Unavailable
from cortex_operator.engine import Backoff, Backoffs, QueueClosed, WorkQueue
from cortex_operator.engine.backoff import DEFAULT
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.sampled_from("abcde")


@given(
    rounds=st.lists(st.lists(KEYS, max_size=8), min_size=1, max_size=12),
    workers=st.integers(1, 4),
    yields=st.lists(st.integers(0, 3), min_size=1, max_size=8),
)
def test_no_key_is_worked_on_twice_at_once_and_no_addition_is_lost(
    rounds: list[list[str]], workers: int, yields: list[int]
) -> None:
    """An addition is seen by a pass that begins after it."""

    async def play() -> None:
        queue: WorkQueue[str] = WorkQueue()
        running: Counter[str] = Counter()
        added: dict[str, int] = {}
        seen: dict[str, int] = {}
        passes = 0

        async def work() -> None:
            nonlocal passes
            while True:
                try:
                    key, _ = await queue.get()
                except QueueClosed:
                    return
                running[key] += 1
                assert running[key] == 1
                seen[key] = added[key]
                passes += 1
                for _ in range(yields[passes % len(yields)]):
                    await asyncio.sleep(0)
                running[key] -= 1
                queue.done(key)

        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        for number, keys in enumerate(rounds):
            for key in keys:
                added[key] = number
                queue.add(key)
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
            if not queue.depth and not any(running.values()):
                break
        queue.close()
        await asyncio.gather(*tasks)
        assert seen == added
        assert passes <= sum(map(len, rounds))

    asyncio.run(play())


async def test_the_same_key_added_many_times_is_worked_on_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(10):
        queue.add("a")
    assert queue.depth == 1
    await queue.get()
    assert queue.depth == 0


async def test_a_key_added_while_it_is_worked_on_is_due_once_more_behind_the_others() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    queue.add("a")
    queue.add("b")
    queue.done("a")
    assert [(await queue.get())[0], (await queue.get())[0]] == ["b", "a"]
    assert queue.depth == 0


async def test_a_key_that_comes_back_at_once_does_not_keep_others_waiting() -> None:
    queue: WorkQueue[Any] = WorkQueue()
    queue.add("poisoned")
    for key in range(100):
        queue.add(key)
    order = []
    while queue.depth:
        key, _ = await queue.get()
        order.append(key)
        if key == "poisoned" and len(order) < 100:
            queue.add(key)
        queue.done(key)
    assert order[:102] == ["poisoned", *range(100), "poisoned"]


async def test_a_key_is_due_after_its_time_and_sooner_when_something_happens() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("later", 60)
    queue.add_after("soon", 0.01)
    assert queue.depth == 0
    assert (await asyncio.wait_for(queue.get(), 30))[0] == "soon"
    queue.add("later")
    assert (await asyncio.wait_for(queue.get(), 30))[0] == "later"


async def test_the_sooner_of_two_times_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.add_after("a", 60)
    await asyncio.wait_for(queue.get(), 30)
    queue.done("a")
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    assert (await asyncio.wait_for(queue.get(), 30))[0] == "a"


async def test_a_worker_that_is_cancelled_while_it_wakes_loses_no_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    first, second = (asyncio.create_task(queue.get()) for _ in range(2))
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert (await asyncio.wait_for(second, 30))[0] == "a"


async def test_closing_ends_every_worker_and_takes_nothing_more() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add_after("a", 60)
    queue.close()
    queue.add("a")
    for task in waiting:
        with pytest.raises(QueueClosed):
            await asyncio.wait_for(task, 30)
    assert queue.depth == 0


async def test_a_key_that_is_held_is_due_at_its_time_and_not_sooner() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    begun = asyncio.get_running_loop().time()
    queue.hold("a", 0.1)
    queue.done("a")
    queue.add("a")
    queue.add_after("a", 0.0)
    queue.add("b")
    assert (await queue.get())[0] == "b"
    assert (await asyncio.wait_for(queue.get(), 30))[0] == "a"
    assert asyncio.get_running_loop().time() - begun >= 0.1
    queue.done("a")
    queue.add("a")
    assert (await asyncio.wait_for(queue.get(), 30))[0] == "a"


async def test_the_age_of_the_oldest_key_is_told() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert queue.oldest == 0.0
    queue.add("a")
    await asyncio.sleep(0.01)
    queue.add("b")
    assert queue.oldest >= 0.01


@given(attempt=st.integers(1, 10_000), seed=st.integers())
def test_a_back_off_grows_to_its_limit_with_jitter_of_a_half(attempt: int, seed: int) -> None:
    delay = Backoff(1.0, 60.0).delay(attempt, random.Random(seed))
    whole = min(60.0, 2.0 ** (attempt - 1)) if attempt < 10 else 60.0
    assert whole / 2 <= delay <= whole


def test_each_class_of_error_has_its_own_back_off_and_retry_after_is_honoured() -> None:
    rng = random.Random(0)
    backoffs = Backoffs(((Conflict, Backoff(1, 1)), (Invalid, Backoff(100, 100))), otherwise=Backoff(10, 10))
    assert 0.5 <= backoffs.delay(Conflict("x"), 1, rng) <= 1
    assert 50 <= backoffs.delay(Invalid("x"), 1, rng) <= 100
    assert 5 <= backoffs.delay(RuntimeError("x"), 1, rng) <= 10
    assert backoffs.delay(Unavailable("x", retry_after=77.0), 1, rng) == 77.0
    assert DEFAULT.delay(Unavailable("x"), 1, rng) < 1
