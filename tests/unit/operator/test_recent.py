from __future__ import annotations

import asyncio

import pytest
from cortex_operator.reconcile.recent import Recent

SECONDS = 0.1


class Lookup:
    """Counts the looks; each waits until it is let go."""

    def __init__(self) -> None:
        self.looks, self.error = 0, False
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> int:
        self.looks += 1
        found, failing = self.looks, self.error
        await self.go.wait()
        if failing:
            raise ConnectionError("away")
        return found


@pytest.fixture
async def lookup() -> Lookup:
    return Lookup()


@pytest.fixture
async def recent() -> Recent[str, int]:
    return Recent(SECONDS)


async def test_many_at_once_ask_once_and_each_key_by_itself(lookup: Lookup) -> None:
    recent: Recent[str, int] = Recent(60)
    assert await asyncio.gather(*(recent.get("a", lookup) for _ in range(200))) == [1] * 200
    assert (await recent.get("a", lookup), await recent.get("b", lookup)) == (1, 2)


async def test_an_answer_is_kept_for_its_time_and_no_longer(lookup: Lookup, recent: Recent[str, int]) -> None:
    assert await recent.get("a", lookup) == 1
    async with asyncio.timeout(30):
        while recent._looks:  # noqa: ASYNC110 - nothing tells when it goes
            await asyncio.sleep(0.01)
    assert await recent.get("a", lookup) == 2


async def test_a_slow_answer_is_waited_for_and_then_too_old(lookup: Lookup, recent: Recent[str, int]) -> None:
    lookup.go.clear()
    first = asyncio.create_task(recent.get("a", lookup))
    await asyncio.sleep(2 * SECONDS)
    second = asyncio.create_task(recent.get("a", lookup))
    await asyncio.sleep(0)
    lookup.go.set()
    assert (await first, await second) == (1, 1)
    assert await recent.get("a", lookup) == 2


async def test_an_error_tells_those_who_wait_and_the_next_one_asks_again(
    lookup: Lookup, recent: Recent[str, int]
) -> None:
    lookup.error = True
    said = await asyncio.gather(*(recent.get("a", lookup) for _ in range(3)), return_exceptions=True)
    assert ([type(each) for each in said], lookup.looks) == ([ConnectionError] * 3, 1)
    lookup.error = False
    assert await recent.get("a", lookup) == 2


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(
    lookup: Lookup, recent: Recent[str, int]
) -> None:
    lookup.go.clear()
    impatient, patient = (asyncio.create_task(recent.get("a", lookup)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    lookup.go.set()
    assert (await patient, lookup.looks) == (1, 1)


async def test_of_many_who_found_an_answer_outdated_one_looks_again_for_all(lookup: Lookup) -> None:
    recent: Recent[str, int] = Recent(60)
    assert await recent.get("a", lookup) == 1
    assert await asyncio.gather(*(recent.get_after("a", 1, lookup) for _ in range(200))) == [2] * 200
    assert await recent.get("a", lookup) == 2
    assert await recent.get_after("a", 1, lookup) == 2
    assert await recent.get_after("a", 2, lookup) == 3
