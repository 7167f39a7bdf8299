"""A shared state that does not answer costs its users a tenth of a second, then one of them each second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from cortex_workloads.runtime.cache import far as far_module
from cortex_workloads.runtime.cache.far import Far


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Question:
    """Counts how often it is asked; waits until it may be answered, or fails."""

    def __init__(self) -> None:
        self.asked = 0
        self.answered = asyncio.Event()
        self.failure: Exception | None = None
        self.ended = 0

    async def __call__(self, _: Any) -> str:
        self.asked += 1
        try:
            await self.answered.wait()
        finally:
            self.ended += 1
        if self.failure is not None:
            raise self.failure
        return "yes"


async def ended(question: Question, times: int) -> None:
    async with asyncio.timeout(60):
        while question.ended < times:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)
    # Then it is known who has failed.
    await asyncio.sleep(0.01)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(far_module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
async def far(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Far]:
    monkeypatch.setattr(far_module, "_LATE_SECONDS", 0.2)
    far = Far("redis://127.0.0.1:1")
    yield far
    await far.close()


async def test_nobody_waits_for_an_answer_that_does_not_come(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_module, "_LATE_SECONDS", 3600.0)
    question = Question()
    assert await asyncio.gather(*(far.ask(question) for _ in range(5))) == [None] * 5
    assert question.ended == 0
    question.failure = OSError("away")
    question.answered.set()
    await ended(question, 5)
    assert await asyncio.gather(*(far.ask(question) for _ in range(5))) == [None] * 5
    assert question.asked == 5


async def test_after_the_pause_one_asks_and_the_others_do_without_until_it_was_answered(far: Far, clock: Clock) -> None:
    question = Question()
    assert await far.ask(question) is None
    await ended(question, 1)
    clock.now += far_module._PAUSE_SECONDS
    assert await asyncio.gather(*(far.ask(question) for _ in range(20))) == [None] * 20
    await ended(question, 2)
    assert question.asked == 2
    question.answered.set()
    clock.now += far_module._PAUSE_SECONDS
    answers = await asyncio.gather(*(far.ask(question) for _ in range(20)))
    assert (answers.count("yes"), question.asked) == (1, 3)
    assert await asyncio.gather(*(far.ask(question) for _ in range(20))) == ["yes"] * 20


async def test_what_is_late_is_done_none_the_less_and_no_outage(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_module, "_LATE_SECONDS", 30.0)
    question = Question()
    assert await far.ask(question) is None
    question.answered.set()
    await ended(question, 1)
    assert await far.ask(question) == "yes"


async def test_what_is_under_way_ends_with_the_cache(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_module, "_LATE_SECONDS", 30.0)
    question = Question()
    assert await far.ask(question) is None
    await far.close()
    assert question.ended == 1
