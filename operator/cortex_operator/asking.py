"""Asking a few pods side by side for what one of them knows. Shields who asks from pods that do not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cortex_operator.dataplane import Description

P = TypeVar("P")
Ask = Callable[[P, float], Coroutine[Any, Any, Description | str]]
"""Asks a pod for so many seconds at most; what it knows, or why it does not say."""


@dataclass
class Answers(Generic[P]):
    """What was said."""

    best: Description | None = None
    """The first that was read from the Lake; where there is none, the first."""
    good: P | None = None
    """Whose that is, when it was read from the Lake."""
    asked: int = 0
    """How many pods were asked."""
    failures: list[str] = field(default_factory=list)


async def ask_some(pods: Sequence[P], ask: Ask[P], deadline: float, head_start: float) -> Answers[P]:
    """Asks one pod after the other, each as soon as those before it have said something or had their `head_start`,
    until one has read the Lake or `deadline` has passed (both in seconds). Who has not answered then is given up."""
    answers, until = Answers[P](), time.monotonic() + deadline
    waiting: dict[asyncio.Task[Description | str], P] = {}
    try:
        while answers.good is None and (waiting or answers.asked < len(pods)):
            if answers.asked < len(pods):
                pod = pods[answers.asked]
                waiting[asyncio.create_task(ask(pod, max(0.0, until - time.monotonic())))] = pod
                answers.asked += 1
            patience = head_start if answers.asked < len(pods) else None
            done, _ = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                _take(answers, waiting.pop(task), task.result())
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return answers


def _take(answers: Answers[P], pod: P, said: Description | str) -> None:
    if isinstance(said, str):
        answers.failures.append(said)
    elif said.lake_read and answers.good is None:
        answers.best, answers.good = said, pod
    else:
        answers.best = answers.best or said
