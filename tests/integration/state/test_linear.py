"""Concurrent clients see one register: compare-and-set in Valkey, and LATEST reads of what is written to the Lake."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from math import inf

import pytest
from cortex_workloads.runtime.errors import FailedPrecondition, StateSyncFailed
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state.aggregates import Consistency
from cortex_workloads.runtime.state.volatile import ANY, Volatile
from linear import Call, Register, is_linearizable
from stage import seeded
from state_desk import DESK, Desk

ON_BOTH = ("test_compare_and_set_is_linearizable",)
NOTHING = Register(0, None)


def wrote(began: float, ended: float, value: str, version: int | None = None, expected: int | None = None) -> Call:
    return Call(began, ended, value, expected, None if version is None else Register(version, value))


def saw(began: float, ended: float, version: int, value: str | None) -> Call:
    return Call(began, ended, saw=Register(version, value))


@pytest.mark.parametrize(
    ("calls", "good"),
    [
        ([wrote(0, 1, "a", 1), saw(2, 3, 1, "a")], True),
        ([wrote(0, 9, "a", 1), saw(1, 2, 0, None), saw(3, 4, 1, "a")], True),
        ([wrote(0, inf, "a"), saw(1, 2, 0, None), saw(3, 4, 1, "a")], True),
        ([wrote(0, inf, "a"), wrote(1, 2, "b", 1, 0)], True),
        ([wrote(0, 1, "a", 1, 0), Call(0, 1, "b", 0, refused=1)], True),
        # A stale read.
        ([wrote(0, 1, "a", 1), saw(2, 3, 0, None)], False),
        # Reads that go back.
        ([wrote(0, 9, "a", 1), saw(1, 2, 1, "a"), saw(3, 4, 0, None)], False),
        # Two that won the same version.
        ([wrote(0, 5, "a", 1, 0), wrote(0, 5, "b", 1, 0)], False),
        # A lost write.
        ([wrote(0, 1, "a", 1), wrote(2, 3, "b", 1)], False),
        # Refused for a version that never was, and for the one that it asked for.
        ([wrote(0, 1, "a", 1), Call(2, 3, "b", 5, refused=2)], False),
        ([wrote(0, 1, "a", 1), Call(2, 3, "b", 1, refused=1)], False),
        # A read before the write began.
        ([saw(0, 1, 1, "a"), wrote(2, 3, "a", 1)], False),
    ],
)
def test_the_checker_tells_good_histories_from_bad_ones(calls: list[Call], good: bool) -> None:
    assert is_linearizable(calls, NOTHING) is good


def test_the_checker_is_not_misled_by_the_order_in_which_calls_are_told() -> None:
    calls = [wrote(float(n), n + 8.5, f"v{n}", n + 1) for n in range(40)]
    assert is_linearizable(calls[::-1], NOTHING)
    assert not is_linearizable([*calls, saw(50, 51, 39, "v38")], NOTHING)


async def test_compare_and_set_is_linearizable(state_url: str) -> None:
    rng, told = seeded(), list[Call]()
    desks = [Desk(Lake("postgresql://nobody@127.0.0.1:1/none"), state_url) for _ in range(4)]

    async def client(desk: Desk, name: int) -> None:
        volatile, known, own = Volatile(desk.functions, DESK), 0, random.Random(rng.random())
        for n in range(30):
            began, value = time.monotonic(), f"{name}/{n}"
            if own.random() < 0.4:
                state = await volatile.read("session/a")
                found = Register(state.version, state.fields["v"]) if state else NOTHING
                told.append(Call(began, time.monotonic(), saw=found))
                known = found.version
                continue
            expected = None if own.random() < 0.2 else known
            try:
                known = await volatile.write(
                    "session/a", "Set", {"v": value}, expected=ANY if expected is None else expected
                )
                told.append(wrote(began, time.monotonic(), value, known, expected))
            except StateSyncFailed as error:
                known = int(str(error).partition("has version ")[2].partition(",")[0])
                told.append(Call(began, time.monotonic(), value, expected, refused=known))
            await asyncio.sleep(own.choice((0, 0, 0.002)))

    await asyncio.gather(*(client(desk, n) for n, desk in enumerate(desks)))
    assert len([call for call in told if call.refused is not None]) > 3
    assert is_linearizable(told, NOTHING)
    for desk in desks:
        await desk.close()


async def test_latest_reads_are_linearizable(desk: Desk, state_url: str) -> None:
    """One thread's state: writers end runs on it, relays come and go, and readers of LATEST are never behind."""
    rng, told, sources, done = seeded(), list[Call](), Counter[str](), asyncio.Event()
    others = [Desk(desk.lake, state_url) for _ in range(2)]

    async def write(name: int) -> None:
        for n in range(12):
            value = f"{name}/{n}"
            try:
                run = await others[name].run("t")
            except FailedPrecondition:
                await asyncio.sleep(0.005)
                continue
            began = time.monotonic()
            await others[name].store.succeed(run, {"v": value}, 1)
            told.append(wrote(began, time.monotonic(), value))

    async def read(one: Desk) -> None:
        while not done.is_set():
            began = time.monotonic()
            reply = await one.reader.read("thread/t", Consistency.LATEST)
            ended = time.monotonic()
            assert reply.state is not None
            sources[reply.source.value] += 1
            told.append(Call(began, ended, saw=Register(reply.state.version, reply.state.fields["state"].get("v"))))
            await asyncio.sleep(0.004)

    async def relay() -> None:
        own = random.Random(rng.random())
        while not done.is_set():
            await desk.relay.round()
            await asyncio.sleep(own.choice((0, 0.01, 0.05)))

    await desk.run("t")
    (first,) = await desk.rows("SELECT run_id FROM runs")
    found = await desk.store.find(str(first[0]))
    assert found is not None
    await desk.store.succeed(found, {"v": "first"}, 1)
    others_tasks = [asyncio.create_task(task) for task in (*map(read, others), relay())]
    await asyncio.gather(*map(write, range(2)))
    async with asyncio.timeout(60):
        while not sources["Copy"]:  # noqa: ASYNC110 - the relay may not have caught up with the writers once
            await asyncio.sleep(0.01)
    done.set()
    await asyncio.gather(*others_tasks)
    assert len([call for call in told if call.wrote]) > 5
    assert set(sources) == {"Copy", "Lake"}
    assert is_linearizable(told, Register(2, "first"))
    for one in others:
        await one.close()
