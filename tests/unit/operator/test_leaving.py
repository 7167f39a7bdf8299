"""An index that is being deleted although workflows use it, and own writes that bring another one's change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.base import API_VERSION
from cortex_kinds.conditions import get_condition
from cortex_operator.cluster import Cache, Event, EventType, MemoryCluster, Object, ObjectKey, Selection
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.engine import Engine
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Reconciler, Uses, World, sources
from cortex_operator.reconcile.index import leaving

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = ResourceKey("CortexIndex", "default", "papers")
INDEX = ObjectKey(API_VERSION, "CortexIndex", "default", "papers")
WORKFLOW = ResourceKey("CortexWorkflow", "default", "helpdesk")


def a_world(cluster: MemoryCluster, users: int) -> World:
    world = World(cluster, GrpcDataPlane(cluster), RELEASE)
    for number in range(users):
        workflow = a_cortex_workflow_manifest(metadata__name=f"flow-{number:02}")
        list(world.uses.of_workflow(Event(EventType.ADDED, workflow)))
    return world


@pytest.mark.parametrize(
    ("users", "words"),
    [
        (1, "although it is used by CortexWorkflow default/flow-00:"),
        (10, "default/flow-07 and 2 more:"),
    ],
)
async def test_it_says_who_uses_it_and_keeps_what_it_said_before(users: int, words: str) -> None:
    told = {
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": ""}]
    }
    index = a_cortex_index(status=told | {"documents": 3})
    found = await leaving(a_world(MemoryCluster(), users), index, NOW)
    said = get_condition(found.conditions, "DeletedInUse")
    assert said is not None
    assert words in said.message
    assert (found.documents, len(found.used_by), found.conditions[0].type) == (3, users, "Ready")
    after = await leaving(a_world(MemoryCluster(), 0), index.model_copy(update={"status": found}), NOW)
    assert ([c.type for c in after.conditions], after.used_by) == (["Ready"], [])


async def test_a_pass_writes_that_once_and_nothing_where_nobody_uses_it() -> None:
    waits = ["WaitingForFinalizers"] * 2
    for users, reasons in ((1, ["DeletedInUse", *waits]), (0, waits)):
        cluster = MemoryCluster()
        await cluster.apply(a_cortex_index_manifest(metadata__finalizers=["example.com/hold"]))
        await cluster.delete(INDEX)
        reconcile = Reconciler(a_world(cluster, users))
        versions = []
        for _ in range(2):
            assert await reconcile(KEY) is None
            versions.append((await cluster.get(INDEX))["metadata"]["resourceVersion"])
        assert versions[0] == versions[1]
        status = (await cluster.get(INDEX))["status"]
        assert [c["reason"] for c in status.get("conditions", ())] == reasons


async def test_a_workflow_that_others_hold_says_so_under_both_policies() -> None:
    name = ObjectKey(API_VERSION, "CortexWorkflow", "default", "helpdesk")
    for policy, said in (("Retain", "deletionPolicy is Retain"), ("Delete", "no pod ever told of data of it")):
        cluster = MemoryCluster()
        reconcile = Reconciler(a_world(cluster, 0))
        held = {"metadata__finalizers": ["example.com/hold"], "spec__deletionPolicy": policy}
        await cluster.apply(a_cortex_workflow_manifest(**held))
        await reconcile(WORKFLOW)
        await cluster.delete(name)
        assert await reconcile(WORKFLOW) is None
        found = await cluster.get(name)
        assert found["metadata"]["finalizers"] == ["example.com/hold"]
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        conditions = {c["type"]: c for c in found["status"]["conditions"]}
        assert conditions["Ready"]["reason"] == "WaitingForFinalizers"
        assert said in conditions["Ready"]["message"]


@pytest.mark.parametrize(
    ("finalizers", "lets_go", "expected"),
    [([], False, 1), ([], True, 0), (["example.com/hold"], False, 1)],
)
async def test_one_that_is_gone_is_told_of_once_unless_nobody_names_it_any_more(
    finalizers: list[str], lets_go: bool, expected: int
) -> None:
    cluster, told = MemoryCluster(), []
    world = replace(a_world(cluster, 2), record=lambda obj, notices: told.extend((obj, each) for each in notices))
    await cluster.apply(a_cortex_index_manifest(metadata__finalizers=finalizers))
    reconcile = Reconciler(world)
    await reconcile(KEY)
    before = await cluster.get(INDEX)
    assert len(before["status"]["usedBy"]) == 2
    told.clear()
    await cluster.delete(INDEX)
    if finalizers:
        await reconcile(KEY)
        await cluster.set_finalizers(await cluster.get(INDEX), [])
    if lets_go:
        for number in range(2):
            workflow = a_cortex_workflow_manifest(metadata__name=f"flow-{number:02}")
            list(world.uses.of_workflow(Event(EventType.DELETED, workflow)))
    for _ in range(2):
        await reconcile(KEY)
    found = [(obj, notice) for obj, notice in told if notice.reason == "DeletedInUse"]
    assert len(found) == expected
    for obj, notice in found:
        assert (obj["metadata"]["uid"], notice.type) == (before["metadata"]["uid"], "Warning")
        assert "although it is used by CortexWorkflow default/flow-00, default/flow-01: " in notice.note


def told_by_an_own_write(obj: Object) -> list[ResourceKey]:
    """Who is due when a watch brings exactly what an own write has left in the cache."""
    uses, queue = Uses(), []
    made = sources(uses=uses)
    cache = Cache({(source.api_version, source.kind): Selection() for source in made})
    engine: Engine[ResourceKey] = Engine(MemoryCluster(), made, None, cache=cache)  # type: ignore[arg-type]
    engine.queue.add = queue.append  # type: ignore[method-assign]
    cache.wrote(obj)
    (source,) = [source for source in made if source.kind == obj["kind"]]
    engine.tell(source, Event(EventType.MODIFIED, obj))
    return queue


def stored(manifest: Object, generation: int, observed: int) -> Object:
    meta = {**manifest["metadata"], "uid": "u", "resourceVersion": "7", "generation": generation}
    return {**manifest, "metadata": meta, "status": {"observedGeneration": observed}}


@pytest.mark.parametrize(
    ("manifest", "observed", "due"),
    [
        (a_cortex_workflow_manifest(), 2, [KEY]),
        (a_cortex_workflow_manifest(), 1, [KEY, WORKFLOW]),
        (a_cortex_index_manifest(), 2, []),
        (a_cortex_index_manifest(), 1, [KEY]),
    ],
)
async def test_an_own_write_that_brings_somebody_s_change_is_looked_at(
    manifest: dict[str, Any], observed: int, due: list[ResourceKey]
) -> None:
    assert told_by_an_own_write(stored(manifest, 2, observed)) == due
