"""Which optional kinds are served, and what a change of that does to the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from cortex_operator import discovery
from cortex_operator.cluster import MemoryCluster, Unavailable
from cortex_operator.discovery import Discovery
from cortex_operator.manifests.optional import OPTIONAL, POD_MONITOR
from cortex_operator.reconcile import sources

Answer = frozenset[tuple[str, str]] | Exception
NONE: Answer = frozenset()
SOME: Answer = frozenset({POD_MONITOR})
AWAY: Answer = Unavailable("the API server does not answer")


class Served:
    """A cluster that answers so, one after the other; the last answer stays."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.often = asyncio.Event()

    async def served(self, kinds: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        self.asked += 1
        if self.asked == 10:
            self.often.set()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_AGAIN", 0.001)


async def begun(*answers: Answer) -> tuple[Discovery, Served]:
    cluster: Any = Served(*answers)
    found = Discovery(cluster, 0.001)
    await found.begin()
    return found, cluster


async def test_the_start_waits_for_an_answer() -> None:
    found, cluster = await begun(AWAY, AWAY, SOME)
    assert (found.served, cluster.asked) == (SOME, 3)


@pytest.mark.parametrize("answers", [(NONE, SOME), (SOME, NONE), (SOME, AWAY, NONE)])
async def test_a_change_that_stays_ends_the_operator(answers: tuple[Answer, ...]) -> None:
    found, _ = await begun(*answers)
    stop = asyncio.Event()
    async with asyncio.timeout(30):
        await found.follow(stop)
    assert stop.is_set()


@pytest.mark.parametrize("answers", [(NONE, SOME, NONE), (SOME, NONE, SOME), (SOME, AWAY), (NONE, NONE)])
async def test_what_is_over_in_a_moment_or_not_answered_is_no_change(answers: tuple[Answer, ...]) -> None:
    found, cluster = await begun(*answers)
    stop = asyncio.Event()
    following = asyncio.create_task(found.follow(stop))
    async with asyncio.timeout(30):
        await cluster.often.wait()
    following.cancel()
    assert not stop.is_set()


@pytest.mark.parametrize(
    ("answers", "explained"), [((SOME, SOME, NONE), True), ((SOME,), False), ((SOME, AWAY), False)]
)
async def test_a_lost_watch_is_explained_by_a_kind_that_went(answers: tuple[Answer, ...], explained: bool) -> None:
    found, _ = await begun(*answers)
    assert await found.explains() is explained


async def test_kinds_that_are_not_served_are_not_watched_and_on_this_machine_none_is() -> None:
    def watched(served: frozenset[tuple[str, str]]) -> set[tuple[str, str]]:
        return {(source.api_version, source.kind) for source in sources(served)} & set(OPTIONAL)

    assert watched(await MemoryCluster().served(OPTIONAL)) == set()
    for kind in OPTIONAL:
        assert watched(frozenset({kind})) == {kind}
