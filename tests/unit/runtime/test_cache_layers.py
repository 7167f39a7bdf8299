"""L1 over L2: a value is loaded once, lives as long as was said, and is given a little longer while it is renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from cortex_workloads.runtime.cache import layers
from cortex_workloads.runtime.cache.layers import Kept, Layers, Life
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.errors import DeadlineExceeded, Unavailable
from hypothesis import given
from hypothesis import strategies as st


class Clock:
    """The time of day; times to live are not spread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        monkeypatch.setattr(layers.time, "time", lambda: self.now)
        monkeypatch.setattr(layers, "jittered", float)


class Source:
    """Numbers its values; `gate` holds it, `failures` are raised first."""

    def __init__(self) -> None:
        self.loads = 0
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self) -> bytes:
        self.loads += 1
        value = b"%d" % self.loads
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
async def source() -> Source:
    return Source()


def cache(shared: Shared | None = None) -> Layers:
    return Layers("test_layers", 2**20, shared or Shared("test_layers", "", 0, 1.0))


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - each turn of the loop is what is waited for
            await asyncio.sleep(0)


@given(st.binary(max_size=200), st.floats(0, 2**40), st.floats(0, 2**40))
def test_what_is_packed_is_unpacked_and_nothing_else(value: bytes, made: float, until: float) -> None:
    kept = Kept(value, made, until)
    assert Kept.unpack(kept.pack()) == kept
    assert Kept.unpack(b"\x02" + kept.pack()[1:]) is None
    assert Kept.unpack(kept.pack()[: len(value) // 2]) is None


async def test_it_is_loaded_once_and_says_its_age(clock: Clock, source: Source) -> None:
    kept, life = cache(), Life(60)
    assert await kept.get("a", life, source.load) == (b"1", None)
    clock.now += 5
    assert await kept.get("a", life, source.load) == (b"1", 5)
    assert await kept.get("b", life, source.load) == (b"2", None)


async def test_without_grace_it_is_loaded_anew_when_its_time_is_over(clock: Clock, source: Source) -> None:
    kept, life = cache(), Life(60)
    await kept.get("a", life, source.load)
    clock.now += 60
    assert await kept.get("a", life, source.load) == (b"2", None)


async def test_in_its_grace_the_former_value_is_given_while_one_loads_the_new(clock: Clock, source: Source) -> None:
    kept, life = cache(), Life(60, 30)
    await kept.get("a", life, source.load)
    clock.now += 61
    source.gate.clear()
    assert [await kept.get("a", life, source.load) for _ in range(5)] == [(b"1", 61)] * 5
    await settled(lambda: source.loads == 2)
    source.gate.set()
    await settled(lambda: not kept._renewing)
    assert await kept.get("a", life, source.load) == (b"2", 0)
    assert source.loads == 2
    await kept.close()


async def test_a_renewal_that_fails_is_tried_by_the_next_and_told_after_the_grace(clock: Clock, source: Source) -> None:
    kept, life = cache(), Life(60, 30)
    await kept.get("a", life, source.load)
    clock.now += 61
    source.failures = [Unavailable("away"), Unavailable("away"), Unavailable("away")]
    for loads in (2, 3):
        assert (await kept.get("a", life, source.load))[0] == b"1"
        await settled(lambda loads=loads: source.loads == loads and not kept._renewing)  # type: ignore[misc]
    clock.now += 30
    with pytest.raises(Unavailable):
        await kept.get("a", life, source.load)
    assert await kept.get("a", life, source.load) == (b"5", None)
    await kept.close()


async def test_a_renewal_takes_no_longer_than_the_grace(clock: Clock, source: Source) -> None:
    kept, life = cache(), Life(60, 0.05)
    await kept.get("a", life, source.load)
    clock.now += 60.01
    source.gate.clear()
    assert (await kept.get("a", life, source.load))[0] == b"1"
    await settled(lambda: source.loads == 2)
    async with asyncio.timeout(30):
        await asyncio.wait(kept._renewing)
    assert not kept._flights._flights


async def test_who_joins_is_not_out_of_time_with_whoever_began(source: Source) -> None:
    kept, life = cache(), Life(60)
    source.gate.clear()

    def limited(own: list[int]) -> Callable[[], Coroutine[Any, Any, bytes]]:
        async def load() -> bytes:
            own.append(source.loads + 1)
            return await source.load()

        return load

    loads: list[list[int]] = [[], [], []]
    callers = [asyncio.create_task(kept.get("a", life, limited(own))) for own in loads]
    await settled(lambda: source.loads == 1)
    source.failures = [DeadlineExceeded("the first one's time"), DeadlineExceeded("the second one's time")]
    source.gate.set()
    first, second, third = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(first, DeadlineExceeded)
    assert isinstance(second, DeadlineExceeded)
    assert third == (b"3", None)
    assert loads == [[1], [2], [3]]
