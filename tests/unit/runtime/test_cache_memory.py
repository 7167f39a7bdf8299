"""L1: its bound in bytes holds at every moment, one load per key, and nobody pays for a caller that went."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import pytest
from cortex_workloads.runtime.cache import memory
from cortex_workloads.runtime.cache.memory import ENTRY_BYTES, JITTER, Memory, jittered
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY
from hypothesis import given, settings
from hypothesis import strategies as st


def a_cache(limit: int = 1_000_000, seconds: float = 60.0, name: str = "test") -> Memory[bytes]:
    return Memory(name, limit, seconds, len)


def told(metric: str, cache: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, {"cache": cache, "level": "memory", **labels})


def gives(value: bytes, asked: list[bytes] | None = None) -> Callable[[], Coroutine[Any, Any, bytes]]:
    async def load() -> bytes:
        if asked is not None:
            asked.append(value)
        return value

    return load


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(0, 20_000),
    asked=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6_000)), max_size=80),
)
def test_the_bound_in_bytes_holds_after_every_load(limit: int, asked: list[tuple[int, int]]) -> None:
    async def ask() -> None:
        cache = a_cache(limit)
        known: dict[int, int] = {}
        for number, size in asked:
            value = await cache.get(b"%d" % number, gives(b"x" * size))
            assert cache.size <= limit
            assert cache.size >= len(cache) * ENTRY_BYTES
            # A kept value is the one that was loaded once.
            assert len(value) in (size, known.get(number))
            known[number] = len(value)

    asyncio.run(ask())


class Sized:
    """A value of so many bytes, whose end can be seen."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_evicted_is_freed(seed: int) -> None:
    chance, limit, alive = random.Random(seed), 100_000, WeakSet[Sized]()
    cache = Memory[Sized]("freed", limit, 60.0, len)

    async def load() -> Sized:
        value = Sized(chance.randrange(1, 1_500))
        alive.add(value)
        return value

    for number in range(3_000):
        await cache.get(b"%06d" % number, load)
        # The library frees what it evicted some entries later.
        assert sum(6 + len(value) + ENTRY_BYTES for value in alive) <= 1.3 * limit
    assert cache.size > 0.8 * limit


async def test_what_fits_is_loaded_once_and_what_does_not_fit_each_time() -> None:
    cache, asked = a_cache(10_000), list[bytes]()
    for _ in range(3):
        assert await cache.get(b"fits", gives(b"small", asked)) == b"small"
        assert len(await cache.get(b"large", gives(b"x" * 20_000, asked))) == 20_000
    assert [len(value) for value in asked] == [5, 20_000, 20_000, 20_000]


async def test_what_is_asked_for_often_outlives_what_is_asked_for_once() -> None:
    cache, often = a_cache(100 * (1_000 + ENTRY_BYTES)), [b"often-%d" % number for number in range(40)]
    asked: list[bytes] = []
    for turn in range(60):
        for key in often:
            await cache.get(key, gives(key.ljust(1_000), asked))
        for number in range(60):
            await cache.get(b"once-%d-%d" % (turn, number), gives(b"x" * 1_000))
    loads_late = len(asked)
    for key in often:
        await cache.get(key, gives(key.ljust(1_000), asked))
    assert len(asked) - loads_late <= 4
    assert loads_late < 3 * len(often)


async def test_one_load_for_all_who_wait() -> None:
    cache, began, go, asked = a_cache(), asyncio.Event(), asyncio.Event(), list[int]()

    async def load() -> bytes:
        asked.append(1)
        began.set()
        await go.wait()
        return b"value"

    waiting = [asyncio.create_task(cache.get(b"key", load)) for _ in range(20)]
    await began.wait()
    go.set()
    assert await asyncio.gather(*waiting) == [b"value"] * 20
    assert len(asked) == 1


@settings(max_examples=60, deadline=None)
@given(
    callers=st.integers(1, 8),
    cancelled=st.sets(st.integers(0, 7)),
    fails=st.booleans(),
    turns=st.integers(0, 3),
)
def test_a_caller_that_is_cancelled_takes_nobody_along(
    callers: int, cancelled: set[int], fails: bool, turns: int
) -> None:
    async def ask() -> None:
        cache, go, ended = a_cache(), asyncio.Event(), list[str]()

        async def load() -> bytes:
            try:
                await go.wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            if fails:
                raise ValueError("no")
            return b"value"

        waiting = [asyncio.create_task(cache.get(b"key", load)) for _ in range(callers)]
        for _ in range(turns):
            await asyncio.sleep(0)
        gone = {number for number in cancelled if number < callers}
        for number in gone:
            waiting[number].cancel()
        await asyncio.sleep(0)
        go.set()
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        for number, outcome in enumerate(outcomes):
            if number in gone:
                assert isinstance(outcome, asyncio.CancelledError)
            elif fails:
                assert isinstance(outcome, ValueError)
            else:
                assert outcome == b"value"
        if len(gone) < callers:
            assert not ended
        # Neither a failure nor a cancellation is kept.
        async with asyncio.timeout(30):
            assert await cache.get(b"key", gives(b"later")) == (b"later" if fails or len(gone) == callers else b"value")

    asyncio.run(ask())


async def test_a_load_that_ends_itself_does_not_cancel_who_waits() -> None:
    async def load() -> bytes:
        raise asyncio.CancelledError

    cache = a_cache()
    with pytest.raises(Unavailable) as refused:
        await cache.get(b"key", load)
    assert refused.value.reason == "LoadEnded"
    assert await cache.get(b"key", gives(b"value")) == b"value"


async def test_a_new_caller_does_not_join_a_load_that_is_being_cancelled() -> None:
    cache, began = a_cache(), asyncio.Event()

    async def slow_to_end() -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
        raise AssertionError

    only = asyncio.create_task(cache.get(b"key", slow_to_end))
    await began.wait()
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert await cache.get(b"key", gives(b"value")) == b"value"


async def is_kept(cache: Memory[bytes], key: bytes) -> bool:
    async def missing() -> bytes:
        raise LookupError

    with suppress(LookupError):
        return bool(await cache.get(key, missing))
    return False


async def test_entries_end_within_their_time_and_not_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, seconds = a_cache(seconds=1.0), 1.0
    lives: list[float] = []

    def noted(seconds: float) -> float:
        lives.append(jittered(seconds))
        return lives[-1]

    monkeypatch.setattr(memory, "jittered", noted)
    began = time.monotonic()
    keys = [b"%d" % number for number in range(200)]
    for key in keys:
        await cache.get(key, gives(b"first"))
    filled = time.monotonic() - began
    assert len(lives) == len(keys)
    assert min(lives) >= seconds * (1 - JITTER)
    assert max(lives) <= seconds
    assert len(set(lives)) > 100
    seen: set[int] = set()
    while time.monotonic() - began < seconds + filled:
        seen.add(sum([await is_kept(cache, key) for key in keys]))
        if time.monotonic() - began < seconds * (1 - JITTER):
            assert seen == {200}
        await asyncio.sleep(0.005)
    assert not any([await is_kept(cache, key) for key in keys])


async def test_the_metrics_tell_hits_misses_and_size() -> None:
    cache = a_cache(10_000, name="told")
    go = asyncio.Event()

    async def load() -> bytes:
        await go.wait()
        return b"x" * 100

    both = [asyncio.create_task(cache.get(b"key", load)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*both)
    await cache.get(b"key", load)
    counted = {
        result: told("cortex_cache_requests_total", "told", result=result) for result in ("hit", "miss", "joined")
    }
    assert counted == {"hit": 1, "miss": 1, "joined": 1}
    assert told("cortex_cache_bytes", "told") == 100 + 3 + ENTRY_BYTES == cache.size
    assert (told("cortex_cache_entries", "told"), told("cortex_cache_limit_bytes", "told")) == (1, 10_000)
