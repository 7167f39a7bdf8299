from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.base import API_VERSION
from cortex_kinds.events import Notice
from cortex_kinds.index import CortexIndex
from cortex_kinds.problems import sentence
from cortex_kinds.validate import validate_bytes
from cortex_operator.cluster import (
    EVERYWHERE,
    ApplyResult,
    Forbidden,
    Invalid,
    MemoryCluster,
    NotFound,
    Object,
    ObjectKey,
    Recorder,
    Unavailable,
    log_notices,
)
from cortex_operator.cluster.packed import pack, unpack
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, ingest_job
from cortex_operator.reconcile import Reconciler, Timing, World
from doubles import CountingCluster
from objects import a_secret

KEY = ResourceKey("CortexIndex", "default", "papers")
INDEX = ObjectKey(API_VERSION, "CortexIndex", "default", "papers")
LAKE = ObjectKey("v1", "Secret", "default", "cortex-lake")
RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")


class Refusing(MemoryCluster):
    """A cluster that refuses Deployments, as one with a quota or a policy does."""

    error: Exception | None = Invalid("Deployment default/papers-search is not valid: exceeded quota: cpu")
    silent = False
    """Whether the index is gone by the time that its status is written."""

    async def patch_status(self, key: ObjectKey, status: Object, **options: Any) -> bool:
        if self.silent and key == INDEX:
            raise NotFound(f"{key} is not there")
        return await super().patch_status(key, status, **options)

    async def apply(self, obj: Object, **options: Any) -> ApplyResult:
        if obj["kind"] == "Deployment" and self.error is not None:
            raise self.error
        return await super().apply(obj, **options)


class Older(MemoryCluster):
    """A cluster whose stored object does not fit the models of today."""

    def __init__(self, spec: Object | None = None) -> None:
        super().__init__()
        self.spec = spec or {"chunking": {"splitLength": 0}, "colour": "red"}

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        found = await super().get(key, unwatched=unwatched)
        if key == INDEX:
            found["spec"] = self.spec
        return found


async def reconciler(cluster: Any, record: Recorder = log_notices) -> Reconciler:
    for secret in (a_secret("cortex-lake", dsn="postgresql://h/d"), a_secret("cortex-state", url="redis://h")):
        await cluster.apply(secret)
    await cluster.apply(a_cortex_index_manifest())
    return Reconciler(World(cluster, GrpcDataPlane(cluster), RELEASE, record=record))


async def an_index(cluster: Any) -> CortexIndex:
    return CortexIndex.model_validate(await cluster.get(INDEX))


async def conditions(cluster: Any) -> dict[str, tuple[str, str, str]]:
    status = (await cluster.get(INDEX))["status"]
    assert status["observedGeneration"] == 1
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["conditions"]}


async def test_what_the_cluster_refuses_stalls_the_resource_with_the_clusters_words() -> None:
    cluster = Refusing()
    again = await (await reconciler(cluster))(KEY)
    found = await conditions(cluster)
    assert found["Ready"][:2] == ("False", "ApplyRefused")
    assert found["Stalled"][0] == "True"
    assert "exceeded quota: cpu" in found["Stalled"][2]
    assert again == 15


async def test_a_right_that_is_missing_is_said_in_the_resource_and_soon_looked_for_again() -> None:
    cluster = Refusing()
    cluster.error = Forbidden("deployments.apps is forbidden: may not patch in default")
    reconcile = await reconciler(cluster)
    again = await reconcile(KEY)
    found = await conditions(cluster)
    assert found["Ready"] == ("False", "ApplyRefused", "deployments.apps is forbidden: may not patch in default")
    assert again == 15
    cluster.error = None
    await reconcile(KEY)
    assert (await conditions(cluster))["Ready"][1] == "PodsStarting"


async def test_all_names_that_are_taken_are_told_at_once_and_nothing_of_others_is_touched() -> None:
    cluster = MemoryCluster()
    await reconciler(cluster)
    reconcile = Reconciler(World(cluster, GrpcDataPlane(cluster), RELEASE, Timing(details=0.0)))
    theirs = [("v1", "ConfigMap"), ("v1", "Service")]
    for api_version, kind in theirs:
        meta = {"name": "papers-search", "namespace": "default"}
        await cluster.apply({"apiVersion": api_version, "kind": kind, "metadata": meta})
    before = [await cluster.get(ObjectKey(*kind, "default", "papers-search")) for kind in theirs]
    await reconcile(KEY)
    status, reason, message = (await conditions(cluster))["Ready"]
    assert (status, reason) == ("False", "ApplyRefused")
    assert message == (
        "ConfigMap default/papers-search is there already and was not made by Cortex: it is left alone; delete or "
        "rename it, or give the CortexIndex another name; the same holds for Service default/papers-search"
    )
    assert [await cluster.get(ObjectKey(*kind, "default", "papers-search")) for kind in theirs] == before

    await cluster.delete(ObjectKey("v1", "ConfigMap", "default", "papers-search"))
    await reconcile(KEY)
    message = (await conditions(cluster))["Ready"][2]
    assert message.startswith("Service default/papers-search is there already")
    assert "the same holds" not in message


async def test_a_job_of_somebody_else_is_let_alone_whatever_its_labels_say() -> None:
    cluster = MemoryCluster()
    reconcile = await reconciler(cluster)
    await cluster.apply(a_cortex_index_manifest(spec__suspend=True))
    jobs = {name: ingest_job(await an_index(cluster), "00000000aa", RELEASE) for name in ("ours", "theirs", "nobodys")}
    for name, job in jobs.items():
        job["metadata"]["name"] = name
    jobs["theirs"]["metadata"]["ownerReferences"][0]["uid"] = (await cluster.get(LAKE))["metadata"]["uid"]
    del jobs["nobodys"]["metadata"]["ownerReferences"]
    for job in jobs.values():
        await cluster.apply(job)
    await reconcile(KEY)
    left = await cluster.list("batch/v1", "Job", namespace="default")
    assert [job["metadata"]["name"] for job in left] == ["nobodys", "theirs"]


async def test_a_cluster_that_does_not_answer_is_the_engines_business() -> None:
    cluster = Refusing()
    cluster.error = Unavailable("the API server is away", retry_after=3)
    with pytest.raises(Unavailable):
        await (await reconciler(cluster))(KEY)


async def test_a_resource_that_cannot_be_read_stalls_with_every_mistake() -> None:
    cluster = Older()
    assert await (await reconciler(cluster))(KEY) is None
    found = await conditions(cluster)
    assert found["Ready"][:2] == ("False", "InvalidSpec")
    assert "splitLength" in found["Stalled"][2]
    assert "colour" in found["Stalled"][2]


class Deep(MemoryCluster):
    """A cluster whose stored object is nested as deeply as the cache keeps it."""

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        found = await super().get(key, unwatched=unwatched)
        if key == INDEX:
            found["spec"] = {"chunking": nested(5000)}
            return unpack(pack(found))
        return found


def nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = {"a": [found]}
    return found


async def test_a_resource_that_is_nested_too_deeply_stalls() -> None:
    cluster = Deep()
    assert await (await reconciler(cluster))(KEY) is None
    assert (await conditions(cluster))["Stalled"][1:] == (
        "InvalidSpec",
        "spec: values are nested too deeply: at most 100 levels",
    )


async def test_a_defect_of_the_operator_is_told_once_it_is_no_accident_and_is_over_with_the_next_pass() -> None:
    cluster = Refusing()
    cluster.error = RuntimeError("the password is hunter2")
    reconcile = await reconciler(cluster)
    for attempt in range(1, 4):
        with pytest.raises(RuntimeError):
            await reconcile(KEY)
        status = (await cluster.get(INDEX))["status"]
        assert any(one["type"] == "Stalled" for one in status.get("conditions", ())) is (attempt == 3)
    reason, message = (await conditions(cluster))["Stalled"][1:]
    assert reason == "InternalError"
    assert "RuntimeError" in message
    assert "hunter2" not in message
    cluster.error = None
    await reconcile(KEY)
    assert "Stalled" not in await conditions(cluster)


async def test_who_scales_the_deployment_back_each_time_is_told_of_and_not_followed_at_once_any_more() -> None:
    cluster, told, clock = MemoryCluster(), list[Notice](), [datetime(2026, 6, 1, tzinfo=UTC)]
    await reconciler(cluster)
    world = World(cluster, GrpcDataPlane(cluster), RELEASE, record=lambda _, notices: told.extend(notices))
    reconcile = Reconciler(world, lambda: clock[0])
    await reconcile(KEY)
    search = ObjectKey("apps/v1", "Deployment", "default", "papers-search")

    async def scaled() -> int:
        """The number of pods after somebody has asked for seven and a pass has looked at it."""
        theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": search.name}}
        await cluster.apply({**theirs, "spec": {"replicas": 7}}, field_manager="somebody")
        await reconcile(KEY)
        return int((await cluster.get(search))["spec"]["replicas"])

    assert [await scaled() for _ in range(6)] == [1] * 5 + [7]
    (notice,) = [notice for notice in told if notice.reason == "Contested"]
    assert "Deployment default/papers-search was put right 5 times within 2 minutes" in notice.note
    clock[0] += timedelta(seconds=29)
    again = await reconcile(KEY)
    assert again is not None
    assert again <= 1
    assert (await cluster.get(search))["spec"]["replicas"] == 7
    clock[0] += timedelta(seconds=1)
    assert await scaled() == 1
    assert await scaled() == 7
    await cluster.apply(a_cortex_index_manifest(spec__replicas=2))
    assert await scaled() == 2


MISTAKES: list[Object] = [
    {"resources": {"requests": {"cpu": "4"}, "limits": {"cpu": "2"}}},
    {"placement": {"nodeSelector": {"bad key": "x", "zone": "no good"}}},
    {"network": {"extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0"}}, {}], "ports": [{"port": "A"}]}]}},
    {"lake": {"secretRef": {"name": "UP"}}, "gpu": {"count": 0}, "colour": "red"},
]


@pytest.mark.parametrize("spec", MISTAKES, ids=["-".join(spec) for spec in MISTAKES])
async def test_mistakes_of_a_spec_are_said_as_validate_says_them(spec: Object) -> None:
    cluster = Older({**a_cortex_index_manifest()["spec"], **spec})
    await (await reconciler(cluster))(KEY)
    said = (await conditions(cluster))["Stalled"][2]

    _, problems = validate_bytes(json.dumps({**a_cortex_index_manifest(), "spec": cluster.spec}).encode(), "f")
    assert set(said.split("; ")) == {sentence(each.path, each.reason, each.hint) for each in problems}
    for raw in ("Value error", "should match", "[key]", "^", "extraEgress.0"):
        assert raw not in said


class Remade(MemoryCluster):
    """A cluster where the index is deleted and made again while a pass over it runs."""

    async def apply(self, obj: Object, **options: Any) -> ApplyResult:
        result = await super().apply(obj, **options)
        if obj["kind"] == "Deployment" and result is ApplyResult.CREATED:
            await self.delete(INDEX)
            await super().apply(a_cortex_index_manifest(spec__replicas=3))
        return result


async def test_a_status_is_not_written_to_the_namesake_that_came_meanwhile() -> None:
    cluster = Remade()
    assert await (await reconciler(cluster))(KEY) == 2
    assert (await cluster.get(INDEX))["status"] == {"observedGeneration": -1}


HELD = ("ServiceAccount", "Service", "Deployment")


@pytest.mark.parametrize("held", [*HELD, "all"])
async def test_what_the_namesake_left_is_named_and_keeps_nothing_else_from_being_applied(held: str) -> None:
    cluster = MemoryCluster()
    reconcile = await reconciler(cluster)
    await reconcile(KEY)
    versions = {"ServiceAccount": "v1", "Service": "v1", "Deployment": "apps/v1"}
    children = {kind: ObjectKey(version, kind, "default", "papers-search") for kind, version in versions.items()}
    kept = HELD if held == "all" else (held,)
    for kind in kept:
        await cluster.set_finalizers(await cluster.get(children[kind]), ["example.com/hold"])
    await cluster.delete(INDEX)
    await cluster.apply(a_cortex_index_manifest())
    uid = (await cluster.get(INDEX))["metadata"]["uid"]

    assert await reconcile(KEY) == 2
    found = await conditions(cluster)
    assert (found["Ready"][:2], found["Reconciling"][0]) == (("False", "Applying"), "True")
    for kind, child in children.items():
        assert (f"see metadata.finalizers of {kind} papers-search" in found["Ready"][2]) == (kind in kept)
        owner = (await cluster.get(child))["metadata"]["ownerReferences"][0]["uid"]
        assert (owner == uid) == (kind not in kept)

    for kind in kept:
        await cluster.set_finalizers(await cluster.get(children[kind]), [])
    await reconcile(KEY)
    assert (await conditions(cluster))["Ready"][1] == "PodsStarting"


async def test_one_that_moves_to_a_release_and_cannot_be_read_halts_the_upgrade() -> None:
    cluster = Older()
    reconcile = await reconciler(cluster)
    moves = {"type": "UpdatePending", "status": "True", "reason": "Updating", "message": "its pods are being replaced"}
    moves |= {"observedGeneration": 1, "lastTransitionTime": "2026-06-01T12:00:00Z"}
    await cluster.patch_status(INDEX, {"observedGeneration": 1, "conditions": [moves]})
    for _ in range(2):
        await reconcile(KEY)
        assert (await conditions(cluster))["UpdatePending"][:2] == ("True", "UpgradeHalted")


async def test_one_pass_writes_one_status_and_a_second_without_news_nothing() -> None:
    cluster = CountingCluster(MemoryCluster())
    reconcile = await reconciler(cluster)
    cluster.writes.clear()
    await reconcile(KEY)
    assert [w.split()[1] for w in cluster.writes] == [
        "NetworkPolicy",
        "ServiceAccount",
        "ConfigMap",
        "Service",
        "Service",
        "Deployment",
        "CortexIndex",
    ]
    cluster.writes.clear()
    await reconcile(KEY)
    assert cluster.writes == []


async def test_a_resource_that_is_gone_or_going_is_left_alone() -> None:
    cluster = CountingCluster(MemoryCluster())
    reconcile = await reconciler(cluster)
    held = a_cortex_index_manifest(metadata__finalizers=["tests.datapunk.io/hold"])
    await cluster.apply(held)
    await cluster.delete(INDEX)
    cluster.writes.clear()
    assert await reconcile(KEY) is None
    await cluster.apply(a_cortex_index_manifest())
    cluster.writes.clear()
    assert await reconcile(KEY) is None
    assert cluster.writes == []


BUDGET = ObjectKey("policy/v1", "PodDisruptionBudget", "default", "papers-search")


async def test_the_budget_comes_with_the_second_replica_and_goes_with_it() -> None:
    cluster = MemoryCluster()
    reconcile = await reconciler(cluster)
    await cluster.apply(a_cortex_index_manifest(spec__replicas=2))
    await reconcile(KEY)
    assert (await cluster.get(BUDGET))["spec"]["maxUnavailable"] == 1
    await cluster.apply(a_cortex_index_manifest(spec__replicas=1))
    await reconcile(KEY)
    with pytest.raises(NotFound):
        await cluster.get(BUDGET)


async def test_a_budget_of_somebody_else_stays() -> None:
    cluster = MemoryCluster()
    reconcile = await reconciler(cluster)
    theirs = {"name": BUDGET.name, "namespace": "default"}
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "theirs"}}}
    await cluster.apply({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": theirs, "spec": spec})
    await reconcile(KEY)
    assert (await cluster.get(BUDGET))["spec"] == spec


class WithNodes(MemoryCluster):
    """A cluster whose nodes, and the pods of all namespaces, may be read or not; counts how often the nodes are."""

    allowed = True
    of_others = True
    looks = 0
    nodes: tuple[Object, ...] = ()

    async def list(self, api_version: str, kind: str, **options: Any) -> list[Object]:
        if kind == "Node":
            self.looks += 1
            if not self.allowed:
                raise Forbidden("nodes is forbidden: may not list at the cluster scope")
            return [*self.nodes]
        if kind == "Pod" and options.get("namespace") == EVERYWHERE and not self.of_others:
            raise Forbidden("pods is forbidden: may not list at the cluster scope")
        return await super().list(api_version, kind, **options)


@pytest.mark.parametrize(
    ("allowed", "told"), [(True, ("False", "NoMatchingNode")), (False, ("Unknown", "NodesNotReadable"))]
)
async def test_the_nodes_are_read_for_a_gpu_and_if_they_may_not_be_it_is_said(
    allowed: bool, told: tuple[str, str]
) -> None:
    cluster = WithNodes()
    cluster.allowed = allowed
    reconcile = await reconciler(cluster)
    await reconcile(KEY)
    assert cluster.looks == 0
    await cluster.apply(a_cortex_index_manifest(spec__gpu={}))
    await reconcile(KEY)
    status = (await cluster.get(INDEX))["status"]
    found = next(c for c in status["conditions"] if c["type"] == "Schedulable")
    assert (found["status"], found["reason"]) == told
    assert cluster.looks == 1


@pytest.mark.parametrize("kind", ["CortexIndex", "CortexWorkflow"])
async def test_for_a_pool_that_nobody_named_nothing_is_made_and_the_next_good_spec_goes_on(kind: str) -> None:
    cluster = MemoryCluster()
    reconcile = await reconciler(cluster)
    made = a_cortex_index_manifest if kind == "CortexIndex" else a_cortex_workflow_manifest
    manifest = made(spec__gpu={"pool": "nowhere"}, metadata__name="pooled")
    key = ObjectKey(API_VERSION, kind, "default", "pooled")
    await cluster.apply(manifest)
    await reconcile(ResourceKey(kind, "default", "pooled"))
    found = {c["type"]: (c["status"], c["reason"]) for c in (await cluster.get(key))["status"]["conditions"]}
    for type, status in (("Ready", "False"), ("Schedulable", "False"), ("Stalled", "True")):
        assert found[type] == (status, "UnknownGPUPool")
    assert await cluster.list("apps/v1", "Deployment") == []

    await cluster.apply({**manifest, "spec": {**manifest["spec"], "gpu": {}}})
    await reconcile(ResourceKey(kind, "default", "pooled"))
    assert len(await cluster.list("apps/v1", "Deployment")) == 1
    assert "Stalled" not in {c["type"] for c in (await cluster.get(key))["status"]["conditions"]}


async def test_without_the_pods_of_all_namespaces_it_is_said_what_cannot_be_seen() -> None:
    cluster = WithNodes()
    cluster.nodes, cluster.of_others = (a_node(),), False
    reconcile = await reconciler(cluster)
    await cluster.apply(a_cortex_index_manifest(spec__gpu={}))
    await reconcile(KEY)
    deployment = await cluster.get(ObjectKey("apps/v1", "Deployment", "default", "papers-search"))
    template = deployment["spec"]["template"]
    meta = {**template["metadata"], "name": "papers-search-1", "namespace": "default"}
    await cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    await cluster.patch_status(ObjectKey("v1", "Pod", "default", "papers-search-1"), {"conditions": [refused]})
    await reconcile(KEY)
    status = (await cluster.get(INDEX))["status"]
    said = next(c["message"] for c in status["conditions"] if c["type"] == "Schedulable")
    assert "gpu-node may have room; what decides there is what other pods take (pods is forbidden" in said


def a_node() -> Object:
    offers = {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"}
    node: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-node"}}
    return {**node, "status": {"capacity": offers, "allocatable": offers}}


async def test_ready_pods_that_the_service_does_not_list_are_not_ready_for_anybody() -> None:
    cluster = MemoryCluster()
    reconcile = await reconciler(cluster)
    await reconcile(KEY)
    deployment = await cluster.get(ObjectKey("apps/v1", "Deployment", "default", "papers-search"))
    meta = {**deployment["spec"]["template"]["metadata"], "name": "papers-search-1", "namespace": "default"}
    await cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": []}})
    up = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await cluster.patch_status(ObjectKey("v1", "Pod", "default", "papers-search-1"), up)
    counts = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    await cluster.patch_status(ObjectKey.of(deployment), counts)
    await reconcile(KEY)
    found = await conditions(cluster)
    assert found["Ready"][:2] == ("False", "NotInEndpoints")
    assert "papers-search-headless" in found["Ready"][2]
    assert "papers-search-1" in found["Ready"][2]
    assert found["Schedulable"][:2] == ("True", "PodsScheduled")


async def test_events_are_told_of_what_was_written_and_only_then() -> None:
    told: list[tuple[str, str]] = []
    cluster = Refusing()
    reconcile = await reconciler(cluster, lambda obj, notices: told.extend((obj["kind"], n.reason) for n in notices))
    await reconcile(KEY)
    await reconcile(KEY)
    assert told == [("CortexIndex", "ApplyRefused")]
    cluster.error = None
    cluster.silent = True
    await reconcile(KEY)
    assert len(told) == 1
    cluster.silent = False
    await reconcile(KEY)
    assert told[1:] == [("CortexIndex", "Recovered")]
