"""Asking a few pods side by side: who is asked when, whose answer counts, and that nobody is left waiting."""

from __future__ import annotations

import asyncio
import time

import pytest
from cortex_operator.asking import ask_some
from cortex_operator.dataplane import Description

HANGS = 60.0


class Pods:
    """Each answers what it is told to after some seconds."""

    def __init__(self, **answers: tuple[float, bool | str]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.ended: list[str] = []
        self.both = asyncio.Event()

    async def ask(self, pod: str, seconds: float) -> Description | str:
        self.asked.append(pod)
        if len(self.asked) == 2:
            self.both.set()
        after, said = self.answers[pod]
        try:
            await asyncio.sleep(min(after, seconds))
        finally:
            self.ended.append(pod)
        if after > seconds:
            return f"{pod} is late"
        return said if isinstance(said, str) else Description(pod, said)


CASES: list[tuple[str, dict[str, tuple[float, bool | str]], str, bool, list[str], list[str]]] = [
    ("the first knows", {"a": (0, True), "b": (0, True)}, "a", True, ["a"], []),
    ("the first fails: the next", {"a": (0, "a refuses"), "b": (0, True)}, "b", True, ["a", "b"], ["a refuses"]),
    ("the first hangs: the next beside it", {"a": (HANGS, True), "b": (0, True)}, "b", True, ["a", "b"], []),
    ("the first is slow and still the first", {"a": (0.15, True), "b": (HANGS, True)}, "a", True, ["a", "b"], []),
    ("who reaches the Lake is preferred", {"a": (0, False), "b": (0, True)}, "b", True, ["a", "b"], []),
    ("nobody reaches it: the first that said so", {"a": (0, False), "b": (0, False)}, "a", False, ["a", "b"], []),
    ("one says so, one hangs", {"a": (HANGS, True), "b": (0, False)}, "b", False, ["a", "b"], ["a is late"]),
    ("nobody answers", {"a": (HANGS, True), "b": (0, "b refuses")}, "", False, ["a", "b"], ["b refuses", "a is late"]),
    ("there is nobody", {}, "", False, [], []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "best", "good", "asked", "failures"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_the_first_good_answer_wins_and_what_goes_on_then_is_ended(
    answers: dict[str, tuple[float, bool | str]], best: str, good: bool, asked: list[str], failures: list[str]
) -> None:
    pods = Pods(**answers)
    # The deadline is short only where it is waited for: else nobody is late.
    deadline = 1.0 if any("late" in failure for failure in failures) else HANGS
    begun = time.monotonic()
    said = await ask_some(list(answers), pods.ask, deadline, 0.1)
    assert time.monotonic() - begun < HANGS / 2
    assert (said.best.pod if said.best else "", said.good) == (best, best if good else None)
    assert pods.asked == asked
    assert said.asked == len(asked)
    assert sorted(pods.ended) == sorted(asked)
    assert sorted(said.failures) == sorted(failures)


async def test_who_is_cancelled_leaves_no_question_behind() -> None:
    pods = Pods(a=(HANGS, True), b=(HANGS, True))
    task = asyncio.create_task(ask_some(["a", "b"], pods.ask, HANGS, 0.0))
    await pods.both.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(pods.ended) == ["a", "b"]
