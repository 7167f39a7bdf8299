from __future__ import annotations

import asyncio

import pytest
from cortex_operator.reconcile.recent import Recent


class Lookup:
    """Counts the looks; each waits until it is let go."""

    def __init__(self) -> None:
        self.looks, self.now, self.error = 0, 0.0, False
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


def recent(lookup: Lookup) -> Recent[str, int]:
    return Recent(5.0, clock=lambda: lookup.now)


async def test_many_at_once_ask_once_and_each_key_by_itself(lookup: Lookup) -> None:
    found = recent(lookup)
    assert await asyncio.gather(*(found.get("a", lookup) for _ in range(200))) == [1] * 200
    assert await found.get("b", lookup) == 2


async def test_what_is_too_old_is_looked_up_again_counted_from_the_question(lookup: Lookup) -> None:
    found = recent(lookup)
    lookup.go.clear()
    first = asyncio.create_task(found.get("a", lookup))
    await asyncio.sleep(0)
    lookup.now = 4.9
    lookup.go.set()
    assert await first == await found.get("a", lookup) == 1
    lookup.now = 5.0
    assert await found.get("a", lookup) == 2


async def test_an_error_tells_those_who_wait_and_the_next_one_asks_again(lookup: Lookup) -> None:
    found, lookup.error = recent(lookup), True
    said = await asyncio.gather(*(found.get("a", lookup) for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in said] == [ConnectionError] * 3
    lookup.error = False
    assert await found.get("a", lookup) == 2


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(lookup: Lookup) -> None:
    found = recent(lookup)
    lookup.go.clear()
    impatient, patient = (asyncio.create_task(found.get("a", lookup)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    lookup.go.set()
    assert (await patient, lookup.looks) == (1, 1)


async def test_what_is_too_old_is_not_kept(lookup: Lookup) -> None:
    found = recent(lookup)
    for number in range(100):
        lookup.now = float(number)
        await found.get(f"namespace-{number}", lookup)
    assert len(found._looks) <= 6
