"""How often a status is written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import set_condition
from cortex_kinds.index import CortexIndexStatus
from cortex_operator.cluster import MemoryCluster, Object
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Timing, World
from cortex_operator.reconcile.report import StatusWriter
from doubles import CountingCluster
from objects import Place

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
PAPERS = Place("default").papers
DETAILS = Timing().details


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Written:
    """An index whose status is written."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cluster = CountingCluster(MemoryCluster())
        release = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
        self.writer = StatusWriter(World(self.cluster, GrpcDataPlane(self.cluster), release), self.clock)

    async def write(self, status: CommonStatus, after: float = 0.0) -> float | None:
        self.clock.now += timedelta(seconds=after)
        return await self.writer.write(PAPERS, await self.cluster.get(PAPERS), status)

    async def stored(self) -> Object:
        return dict((await self.cluster.get(PAPERS))["status"])


@pytest.fixture
async def written() -> Written:
    made = Written()
    await made.cluster.apply(Place("default").index())
    made.cluster.writes.clear()
    return made


def embedding(documents: int, status: str = "True", reason: str = "Embedding") -> CortexIndexStatus:
    revision: dict[str, Any] = {"id": "00000000aa", "phase": "Current", "documents": documents, "waiting": 9}
    found = set_condition([], "IndexReady", status, reason, f"{documents} documents are embedded", 1, NOON)
    return CortexIndexStatus(observed_generation=1, conditions=found, documents=100, revisions=[revision])  # type: ignore[list-item]


async def test_counts_alone_are_written_every_ten_seconds_and_none_is_lost(written: Written) -> None:
    waits = [await written.write(embedding(number), after=2) for number in range(31)]
    assert len(written.cluster.writes) == 7  # at 2 s, 12 s, ... 62 s
    assert waits[:7] == [None, 8, 6, 4, 2, None, 8]
    assert await written.write(embedding(31), after=1) == 9
    assert await written.write(embedding(31), after=9) is None
    assert await written.stored() == embedding(31).to_manifest()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda: embedding(100, reason="Complete"), id="reason"),
        pytest.param(lambda: embedding(1, status="False"), id="status"),
        pytest.param(lambda: embedding(1).model_copy(update={"ready_replicas": 1}), id="pods"),
        pytest.param(lambda: embedding(1).model_copy(update={"observed_generation": 2}), id="generation"),
        pytest.param(lambda: embedding(1).model_copy(update={"current_revision": "00000000aa"}), id="revision"),
        pytest.param(lambda: embedding(1).model_copy(update={"conditions": []}), id="condition"),
    ],
)
async def test_a_change_of_meaning_is_written_at_once(written: Written, change: Callable[[], CommonStatus]) -> None:
    await written.write(embedding(1))
    assert await written.write(change(), after=0.1) is None
    assert len(written.cluster.writes) == 2
    assert await written.stored() == change().to_manifest()


async def test_the_same_is_not_written_again(written: Written) -> None:
    await written.write(embedding(1))
    assert await written.write(embedding(1), after=60) is None
    assert len(written.cluster.writes) == 1


async def test_a_resource_that_is_made_anew_has_no_past(written: Written) -> None:
    await written.write(embedding(1))
    written.writer.forget(PAPERS)
    assert await written.write(embedding(2)) is None
