"""Much to do leaves others their turn."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from cortex_operator.engine import Calls
from cortex_operator.engine.turns import in_turns


async def turns_until(done: Callable[[], bool]) -> int:
    """How often others had their turn until then."""
    turns = 0
    async with asyncio.timeout(60):
        while not done():
            turns += 1
            await asyncio.sleep(0)
    return turns


async def test_others_have_their_turn_between_items() -> None:
    got = list[int]()

    async def work() -> None:
        async for item in in_turns(range(30)):
            got.append(item)
            time.sleep(0.001)  # noqa: ASYNC251 - work that does not wait

    working = asyncio.create_task(work())
    assert await turns_until(working.done) >= 2
    assert got == list(range(30))


async def test_calls_of_another_thread_are_made_in_their_order_and_others_have_their_turn() -> None:
    got = list[int]()
    calls = Calls(asyncio.get_running_loop())

    def make(number: int) -> None:
        got.append(number)
        time.sleep(0.001)

    def put() -> None:
        for number in range(100):
            calls.put(make, number)

    putting = threading.Thread(target=put)
    putting.start()
    putting.join()
    assert await turns_until(lambda: len(got) == 100) >= 3
    assert got == list(range(100))
    calls.put(got.append, 100)
    await turns_until(lambda: len(got) == 101)


async def test_nothing_is_lost_while_it_is_put_and_called() -> None:
    got = list[int]()
    calls = Calls(asyncio.get_running_loop())

    def put() -> None:
        for number in range(20_000):
            calls.put(got.append, number)

    putting = threading.Thread(target=put)
    putting.start()
    await turns_until(lambda: len(got) == 20_000)
    putting.join()
    assert got == list(range(20_000))


async def test_a_call_that_fails_is_reported_and_the_others_are_made() -> None:
    got, failed, loop = list[int](), list[object](), asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failed.append(context.get("exception")))
    calls = Calls(loop)

    def fail() -> None:
        raise LookupError

    calls.put(fail)
    calls.put(got.append, 1)
    await turns_until(lambda: got == [1])
    assert [type(error) for error in failed] == [LookupError]
