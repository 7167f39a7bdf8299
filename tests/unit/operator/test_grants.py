"""Which indexes a workflow is told of, and which workflows use an index."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_index_manifest, a_cortex_workflow, a_cortex_workflow_manifest
from cortex_kinds.index import MOST_USERS
from cortex_operator.cluster import Event, EventType, Forbidden, MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, workflow_objects
from cortex_operator.reconcile import World
from cortex_operator.reconcile.grants import find_indexes, find_users

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
ALL = {"allowedNamespaces": {"from": "All"}}
RESEARCH = {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "research"}}}}
NOT_GUESTS = {
    "allowedNamespaces": {
        "from": "Selector",
        "selector": {"matchExpressions": [{"key": "guest", "operator": "DoesNotExist"}]},
    }
}
BY_NAME = {
    "allowedNamespaces": {
        "from": "Selector",
        "selector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}},
    }
}
WORKFLOW = a_cortex_workflow(metadata__namespace="team-a", spec__indexes=[{"name": "papers", "namespace": "library"}])


class Namespaces(MemoryCluster):
    """A cluster whose objects of some kinds or namespaces may not be read; counts who reads namespaces."""

    def __init__(self) -> None:
        super().__init__()
        self.forbidden: set[str] = set()
        self.read: list[str] = []

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        if key.kind == "Namespace":
            self.read.append(key.name)
        if self.forbidden & {key.kind, key.namespace}:
            raise Forbidden(f"may not get {key}; grant it to the operator (RBAC)")
        return await super().get(key, unwatched=unwatched)


@pytest.fixture
async def cluster() -> Namespaces:
    made = Namespaces()
    for name, labels in (("team-a", {"team": "research"}), ("team-b", {"guest": "yes"}), ("library", {})):
        await made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    return made


def a_world(cluster: MemoryCluster) -> World:
    return World(cluster, GrpcDataPlane(cluster), RELEASE)


def papers(access: dict[str, Any]) -> Object:
    return a_cortex_index_manifest(metadata__namespace="library", spec__access=access)


@pytest.mark.parametrize(
    ("access", "told"), [({}, False), (ALL, True), (RESEARCH, True), (NOT_GUESTS, True), (BY_NAME, True), (None, False)]
)
async def test_an_index_of_another_namespace_is_told_of_only_where_it_lets_this_one_in(
    cluster: Namespaces, access: dict[str, Any] | None, told: bool
) -> None:
    if access is not None:
        await cluster.apply(papers(access))
    found, unread = await find_indexes(a_world(cluster), WORKFLOW)
    assert ((found["papers"] is not None), unread) == (told, "")


async def test_what_is_not_granted_and_what_is_not_there_are_the_same(cluster: Namespaces) -> None:
    absent = await find_indexes(a_world(cluster), WORKFLOW)
    await cluster.apply(papers({}))
    assert await find_indexes(a_world(cluster), WORKFLOW) == absent
    cluster.forbidden.add("Namespace")
    refused = await find_indexes(a_world(cluster), WORKFLOW)
    await cluster.delete(ObjectKey.of(papers({})))
    assert await find_indexes(a_world(cluster), WORKFLOW) == refused


async def test_labels_that_cannot_be_read_let_nobody_in_by_a_selector_and_it_is_said(cluster: Namespaces) -> None:
    cluster.forbidden.add("Namespace")
    for access, told in ((RESEARCH, False), (NOT_GUESTS, False), (ALL, True)):
        await cluster.apply(papers(access))
        found, unread = await find_indexes(a_world(cluster), WORKFLOW)
        assert (found["papers"] is not None) is told
        assert ("labels of namespace team-a cannot be read" in unread) is not told


async def test_a_namespace_that_is_not_served_is_named_and_ones_own_is_not_passed_over(cluster: Namespaces) -> None:
    cluster.forbidden.add("library")
    assert await find_indexes(a_world(cluster), WORKFLOW) == (
        {"papers": None},
        "the operator does not serve namespace library",
    )
    cluster.forbidden.add("team-a")
    with pytest.raises(Forbidden):
        await find_indexes(a_world(cluster), a_cortex_workflow(metadata__namespace="team-a"))


async def test_ones_own_namespace_needs_no_grant_and_nobody_reads_labels_for_it(cluster: Namespaces) -> None:
    await cluster.apply(a_cortex_index_manifest(metadata__namespace="team-a"))
    for use in ({"name": "papers"}, {"name": "papers", "namespace": "team-a"}):
        workflow = a_cortex_workflow(metadata__namespace="team-a", spec__indexes=[use])
        found, unread = await find_indexes(a_world(cluster), workflow)
        assert found["papers"] is not None
        assert unread == ""
    assert cluster.read == []


async def test_the_labels_of_a_namespace_are_read_once_for_many(cluster: Namespaces) -> None:
    world = a_world(cluster)
    await cluster.apply(papers(RESEARCH))
    for _ in range(50):
        await find_indexes(world, WORKFLOW)
    assert cluster.read == ["team-a"]


def using(world: World, *names: tuple[str, str]) -> None:
    for namespace, name in names:
        manifest = a_cortex_workflow_manifest(
            metadata={"namespace": namespace, "name": name},
            spec__indexes=[{"name": "papers", "namespace": "library"}],
        )
        list(world.uses.of_workflow(Event(EventType.ADDED, manifest)))


@pytest.mark.parametrize(
    ("access", "users"),
    [
        ({}, ["library/z"]),
        (ALL, ["library/z", "team-a/b", "team-a/c", "team-b/a"]),
        (RESEARCH, ["library/z", "team-a/b", "team-a/c"]),
    ],
)
async def test_users_are_those_that_name_it_and_may(
    cluster: Namespaces, access: dict[str, Any], users: list[str]
) -> None:
    world = a_world(cluster)
    using(world, ("team-b", "a"), ("team-a", "c"), ("library", "z"), ("team-a", "b"))
    index = a_cortex_index(metadata__namespace="library", spec__access=access)
    assert [f"{user.namespace}/{user.name}" for user in await find_users(world, index)] == users
    assert cluster.read == (["team-a", "team-b"] if access == RESEARCH else [])


async def test_no_more_users_than_the_status_holds(cluster: Namespaces) -> None:
    world = a_world(cluster)
    using(world, *(("library", f"w-{number:03}") for number in range(100)))
    found = await find_users(world, a_cortex_index(metadata__namespace="library"))
    assert [user.name for user in found] == [f"w-{number:03}" for number in range(MOST_USERS)]


@pytest.mark.parametrize(
    ("granted", "rendered"),
    [
        ((), {"CORTEX_INDEXES": '{"notes":"dns:///notes-search-headless.team-a.svc:50052"}'}),
        (
            ("papers",),
            {
                "CORTEX_INDEXES": '{"notes":"dns:///notes-search-headless.team-a.svc:50052",'
                '"papers":"dns:///papers-search-headless.library.svc:50052"}',
                "CORTEX_INDEX_NAMESPACES": '{"papers":"library"}',
            },
        ),
    ],
)
def test_pods_are_told_the_addresses_of_those_they_may_use_alone(
    granted: tuple[str, ...], rendered: dict[str, str]
) -> None:
    uses = [{"name": "notes"}, {"name": "papers", "namespace": "library"}]
    workflow = a_cortex_workflow(metadata__namespace="team-a", spec__indexes=uses)
    (data,) = (
        obj["data"] for obj in workflow_objects(workflow, RELEASE, granted=granted) if obj["kind"] == "ConfigMap"
    )
    assert {name: value for name, value in data.items() if name.startswith("CORTEX_INDEX")} == rendered
