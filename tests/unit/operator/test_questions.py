from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from cortex_kinds.common import RevisionStatus
from cortex_operator import questions
from cortex_operator.dataplane import DataPlaneUnreachable, Description, ResourceKey, StillAsking
from cortex_operator.questions import Questions

KEY = ResourceKey("CortexIndex", "default", "papers")
WELL = Description("pod-a", True, "aaaaaaaaaa")


class Pods:
    """Answers when it is told what."""

    def __init__(self) -> None:
        self.asked = 0
        self.forgotten: list[ResourceKey] = []
        self.given_up = 0
        self._said: asyncio.Future[Description] = asyncio.get_running_loop().create_future()
        self._heard = asyncio.Condition()

    async def hears(self, times: int) -> None:
        """Returns when it was asked so often."""
        async with asyncio.timeout(60), self._heard:
            await self._heard.wait_for(lambda: self.asked >= times)

    async def describe(self, key: ResourceKey) -> Description:
        async with self._heard:
            self.asked += 1
            self._heard.notify_all()
        try:
            return await self._said
        except asyncio.CancelledError:
            self.given_up += 1
            raise

    async def ensure_revision(self, *order: Any) -> RevisionStatus:
        return RevisionStatus(id=order[1], phase="Building")

    async def forget(self, key: ResourceKey) -> None:
        self.forgotten.append(key)

    def say(self, what: Description | Exception) -> None:
        """To all who ask and asked."""
        if isinstance(what, Exception):
            self._said.set_exception(what)
        else:
            self._said.set_result(what)

    def ponder(self) -> None:
        """The next answer takes its time."""
        self._said = asyncio.get_running_loop().create_future()


class Bench:
    """What is asked, with who is woken."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pods, self.woken = Pods(), asyncio.Queue[ResourceKey]()
        self.questions = Questions(self.pods, self.woken.put_nowait)
        self.clock = SimpleNamespace(monotonic=lambda: self.now)
        self.now = 0.0
        self._patch = patch
        patch.setattr(questions, "time", self.clock)

    def patience(self, seconds: float) -> None:
        """For how long who asks waits."""
        self._patch.setattr(questions, "MOMENT", seconds)

    async def asks_in_vain(self) -> None:
        with pytest.raises(StillAsking, match="CortexIndex default/papers have not answered yet"):
            await self.questions.describe(KEY)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(monkeypatch)
    bench.patience(60.0)
    return bench


async def test_an_answer_that_comes_at_once_is_that_of_the_pods(bench: Bench) -> None:
    bench.pods.say(WELL)
    assert [await bench.questions.describe(KEY) for _ in range(3)] == [WELL] * 3
    bench.pods.ponder()
    bench.pods.say(DataPlaneUnreachable("refused"))
    with pytest.raises(DataPlaneUnreachable, match="refused"):
        await bench.questions.describe(KEY)
    assert bench.pods.asked == 4
    assert bench.woken.empty()


@pytest.mark.parametrize("said", [WELL, DataPlaneUnreachable("nothing came in 3 s")])
async def test_who_does_not_want_to_wait_is_woken_and_has_the_answer_of_the_same_question(
    bench: Bench, said: Description | Exception
) -> None:
    bench.patience(0.01)
    for _ in range(3):
        await bench.asks_in_vain()
    bench.pods.say(said)
    async with asyncio.timeout(60):
        assert await bench.woken.get() == KEY
    if isinstance(said, Exception):
        with pytest.raises(DataPlaneUnreachable, match="nothing came in 3 s"):
            await bench.questions.describe(KEY)
    else:
        assert await bench.questions.describe(KEY) == said
    assert bench.pods.asked == 1
    assert bench.woken.empty()


async def test_whose_last_answer_was_late_is_not_waited_for_until_one_is_not(bench: Bench) -> None:
    bench.patience(0.01)
    for took in (3.0, 0.001):
        async with asyncio.timeout(30):
            await bench.asks_in_vain()
        bench.patience(0.01)
        bench.now += took
        bench.pods.say(WELL)
        async with asyncio.timeout(60):
            await bench.woken.get()
        assert await bench.questions.describe(KEY) == WELL
        bench.pods.ponder()
        bench.patience(60.0)
    asking = asyncio.create_task(bench.questions.describe(KEY))
    await bench.pods.hears(3)
    bench.pods.say(WELL)
    assert await asking == WELL
    assert bench.woken.empty()


@pytest.mark.parametrize(("seconds", "asked"), [(29.0, 1), (31.0, 2)])
async def test_what_was_said_long_ago_is_asked_for_anew(bench: Bench, seconds: float, asked: int) -> None:
    bench.patience(0.01)
    await bench.asks_in_vain()
    bench.pods.say(WELL)
    async with asyncio.timeout(60):
        await bench.woken.get()
    bench.now += seconds
    bench.patience(60.0)
    assert await bench.questions.describe(KEY) == WELL
    assert bench.pods.asked == asked


async def test_of_who_is_forgotten_nothing_is_asked_any_more_and_nobody_woken(bench: Bench) -> None:
    bench.patience(0.01)
    await bench.asks_in_vain()
    await bench.questions.forget(KEY)
    assert (bench.pods.given_up, bench.pods.forgotten) == (1, [KEY])
    assert bench.woken.empty()
    bench.pods.ponder()
    bench.pods.say(WELL)
    bench.patience(60.0)
    assert await bench.questions.describe(KEY) == WELL


async def test_a_question_that_was_given_up_from_outside_is_no_answer(bench: Bench) -> None:
    bench.patience(0.01)
    await bench.asks_in_vain()
    for task in asyncio.all_tasks():
        if task.get_name() == "ask-pods":
            task.cancel()
    async with asyncio.timeout(60):
        await bench.woken.get()
    with pytest.raises(DataPlaneUnreachable, match="given up"):
        await bench.questions.describe(KEY)
    assert (await bench.questions.ensure_revision(KEY, "aaaaaaaaaa", {}, 1)).id == "aaaaaaaaaa"
