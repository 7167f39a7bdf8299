from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.base import API_VERSION
from cortex_kinds.common import Resources
from cortex_operator.cluster import ApplyResult, MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.engine import Pass
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.operator import run_operator
from cortex_operator.reconcile import Timing
from doubles import ControllersDouble, CountingCluster, LakeDouble, PodDouble, cancelled
from objects import a_config_map, a_secret, owned_by, until, until_gone

INDEX = ObjectKey(API_VERSION, "CortexIndex", "default", "papers")
WORKFLOW = ObjectKey(API_VERSION, "CortexWorkflow", "default", "helpdesk")
SMALL = Resources(requests={"cpu": "100m"}, limits={"cpu": "1"})
RELEASE = ReleaseSettings(
    "registry.invalid/search:1",
    "registry.invalid/graph:1",
    search_resources=SMALL,
    graph_resources=SMALL,
    ingest_resources=SMALL,
)
FAST = Timing(moving=0.02, idle=300.0, missing=0.02)
CHILDREN = (
    ("apps/v1", "Deployment"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("policy/v1", "PodDisruptionBudget"),
    ("batch/v1", "Job"),
    ("v1", "Pod"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
)


@dataclass
class Running:
    """A running operator, with the pods and controllers of its cluster."""

    cluster: CountingCluster
    pods: PodDouble
    controllers: ControllersDouble
    passes: asyncio.Queue[Pass]

    def lake(self, name: str = "papers") -> LakeDouble:
        return self.pods.lake(name)

    async def secrets(self) -> None:
        await self.cluster.apply(a_secret("cortex-lake", dsn="postgresql://lake.invalid/cortex"))
        await self.cluster.apply(a_secret("cortex-state", url="redis://state.invalid"))

    async def children(self) -> list[str]:
        found = [obj for kind in CHILDREN for obj in await self.cluster.list(*kind)]
        return sorted(f"{obj['kind']} {obj['metadata']['name']}" for obj in found)


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    for name in ("DEADLINE", "ORDER_DEADLINE"):  # a busy machine is no pod that hangs
        monkeypatch.setattr(f"cortex_operator.dataplane_grpc.{name}", 60.0)
    cluster, pods, stop = CountingCluster(MemoryCluster()), PodDouble(), asyncio.Event()
    await pods.start()
    controllers, dataplane = ControllersDouble(cluster, pods.port), GrpcDataPlane(cluster)
    making = asyncio.create_task(controllers.run())
    passes: asyncio.Queue[Pass] = asyncio.Queue()
    operating = asyncio.create_task(
        run_operator(cluster, dataplane, RELEASE, stop=stop, timing=FAST, hooks=[passes.put_nowait])
    )
    yield Running(cluster, pods, controllers, passes)
    stop.set()
    await asyncio.wait_for(operating, 60)
    await cancelled(making)
    await dataplane.close()
    await pods.stop()


def condition(obj: Object, type: str) -> tuple[str, str]:
    found: dict[str, Any] = next((c for c in obj.get("status", {}).get("conditions", ()) if c["type"] == type), {})
    return found.get("status", ""), found.get("reason", "")


def is_ready(obj: Object) -> bool:
    current = obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"]
    return current and condition(obj, "Ready") == ("True", "Ready")


async def test_an_index_becomes_ready_follows_its_spec_and_leaves_nothing(running: Running) -> None:
    await running.secrets()
    await running.cluster.apply(a_cortex_index_manifest())
    index = await until(running.cluster, INDEX, is_ready)
    first = running.lake().current
    assert index["status"]["currentRevision"] == first
    assert index["status"]["endpoint"] == "dns:///papers-search-headless.default.svc:50052"
    assert condition(index, "IndexReady") == ("True", "Complete")
    assert condition(index, "Reconciling") == ("", "")

    await running.cluster.apply(a_cortex_index_manifest(spec__chunking__splitLength=4))
    index = await until(running.cluster, INDEX, lambda o: condition(o, "Reconciling") == ("True", "RevisionBuilding"))
    assert condition(index, "Ready") == ("True", "RevisionBuilding")
    second = next(id for id in running.lake().revisions if id != first)
    job = ObjectKey("batch/v1", "Job", "default", f"papers-ingest-{second}")
    await until(running.cluster, job, lambda _: True)

    running.lake().promote(second)
    index = await until(running.cluster, INDEX, is_ready)
    assert index["status"]["currentRevision"] == second
    assert [r["phase"] for r in index["status"]["revisions"]] == ["Current", "Retained"]

    await running.cluster.delete(INDEX)
    await until_gone(running.cluster, job)
    assert await running.children() == []


async def test_many_waiting_documents_get_a_job_and_a_finished_one_is_made_again(running: Running) -> None:
    await running.secrets()
    await running.cluster.apply(a_cortex_index_manifest())
    await until(running.cluster, INDEX, is_ready)
    lake = running.lake()
    lake.documents, lake.revisions[lake.current].waiting = 5000, 1001
    await running.cluster.apply(a_cortex_index_manifest(spec__retrieval__topK=7))  # makes the operator look
    job = ObjectKey("batch/v1", "Job", "default", f"papers-ingest-{lake.current}")
    first = await until(running.cluster, job, lambda _: True)
    index = await until(running.cluster, INDEX, lambda o: condition(o, "IndexReady")[1] == "TextOnly")
    assert index["status"]["documents"] == 5000

    complete = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    await running.cluster.patch_status(job, {"conditions": [complete]})
    await until(running.cluster, job, lambda o: o["metadata"]["uid"] != first["metadata"]["uid"])
    lake.revisions[lake.current].waiting = 0
    await until(running.cluster, INDEX, lambda o: condition(o, "IndexReady")[1] == "Complete")


async def test_what_is_taken_away_or_changed_by_others_is_repaired(running: Running) -> None:
    await running.secrets()
    await running.cluster.apply(a_cortex_index_manifest())
    await until(running.cluster, INDEX, is_ready)
    for kind, name in (("Service", "papers-search-headless"), ("ConfigMap", "papers-search")):
        key = ObjectKey("v1", kind, "default", name)
        before = (await running.cluster.get(key))["metadata"]["uid"]
        await running.cluster.delete(key)
        again = await until(running.cluster, key, lambda _: True)
        assert again["metadata"]["uid"] != before

    deployment = ObjectKey("apps/v1", "Deployment", "default", "papers-search")
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "papers-search", "namespace": "default", "annotations": {"team.example/note": "theirs"}},
        "spec": {"replicas": 5},
    }
    await running.cluster.apply(theirs, field_manager="somebody")
    repaired = await until(running.cluster, deployment, lambda o: o["spec"]["replicas"] == 1)
    assert repaired["metadata"]["annotations"]["team.example/note"] == "theirs"
    await until(running.cluster, INDEX, is_ready)


async def test_a_workflow_waits_for_its_index_and_wakes_when_it_is_ready(running: Running) -> None:
    await running.secrets()
    await running.cluster.apply(a_cortex_workflow_manifest())
    waiting = await until(
        running.cluster, WORKFLOW, lambda o: condition(o, "DependenciesReady") == ("False", "IndexNotFound")
    )
    assert condition(waiting, "Ready")[0] == "False"
    await running.cluster.apply(a_cortex_index_manifest())
    workflow = await until(running.cluster, WORKFLOW, is_ready)
    assert condition(workflow, "GraphValid") == ("True", "GraphCompiles")
    await running.cluster.delete(INDEX)
    await until(running.cluster, WORKFLOW, lambda o: condition(o, "DependenciesReady") == ("False", "IndexNotFound"))


async def test_a_missing_secret_is_named_with_its_command_and_nothing_starts(running: Running) -> None:
    await running.cluster.apply(a_cortex_index_manifest())
    index = await until(
        running.cluster, INDEX, lambda o: condition(o, "DependenciesReady") == ("False", "SecretNotFound")
    )
    message = next(c["message"] for c in index["status"]["conditions"] if c["type"] == "Ready")
    assert "kubectl -n default create secret generic cortex-lake --from-literal=dsn=" in message
    assert "create secret generic cortex-state --from-literal=url=" in message
    assert "with cortex up: a manifest of kind Secret in the folder of -f" in message
    assert await running.children() == []
    await running.secrets()
    await until(running.cluster, INDEX, is_ready)


async def test_a_missing_config_map_is_named_and_its_coming_is_enough(running: Running) -> None:
    await running.secrets()
    source = {"configMapRef": {"name": "settings"}}
    await running.cluster.apply(a_cortex_index_manifest(spec__envFrom=[source]))
    index = await until(
        running.cluster, INDEX, lambda o: condition(o, "DependenciesReady") == ("False", "ConfigMapNotFound")
    )
    assert "create configmap settings" in next(
        c["message"] for c in index["status"]["conditions"] if c["type"] == "DependenciesReady"
    )
    assert await running.children() == []
    await running.cluster.apply(a_config_map("settings", HTTPS_PROXY="http://proxy.invalid"))
    await until(running.cluster, INDEX, is_ready)


async def test_the_own_service_account_goes_when_another_is_named_and_comes_back(running: Running) -> None:
    await running.secrets()
    own = ObjectKey("v1", "ServiceAccount", "default", "papers-search")
    await running.cluster.apply(a_cortex_index_manifest(spec__serviceAccountName="team"))
    await until(running.cluster, INDEX, is_ready)
    assert "ServiceAccount papers-search" not in await running.children()
    await running.cluster.apply(a_cortex_index_manifest())
    await until(running.cluster, own, lambda _: True)
    await running.cluster.apply(a_cortex_index_manifest(spec__serviceAccountName="team"))
    await until_gone(running.cluster, own)


async def test_an_ingest_job_that_cannot_start_is_told_of_and_replaced_when_the_spec_is_corrected(
    running: Running,
) -> None:
    await running.secrets()
    await running.cluster.apply(a_cortex_index_manifest())
    await until(running.cluster, INDEX, is_ready)
    first = running.lake().current

    def changed(**spec: Any) -> Object:
        return a_cortex_index_manifest(spec__chunking__splitLength=4, **spec)

    def image(job: Object) -> str:
        return str(job["spec"]["template"]["spec"]["containers"][0]["image"])

    await running.cluster.apply(changed(spec__image="registry.invalid/serach:1"))
    await until(running.cluster, INDEX, lambda o: condition(o, "Reconciling") == ("True", "RevisionBuilding"))
    second = next(id for id in running.lake().revisions if id != first)
    key = ObjectKey("batch/v1", "Job", "default", f"papers-ingest-{second}")
    job = await until(running.cluster, key, lambda job: image(job) == "registry.invalid/serach:1")
    template = job["spec"]["template"]
    meta = {**template["metadata"], "name": "papers-ingest-pod", "namespace": "default"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    await running.cluster.apply(owned_by(pod, job), field_manager="kubelet")
    waits = {"name": "ingest", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
    await running.cluster.patch_status(ObjectKey.of(pod), {"phase": "Pending", "containerStatuses": [waits]})
    await until(
        running.cluster,
        INDEX,
        lambda o: any("papers-ingest-pod, container ingest" in c["message"] for c in o["status"]["conditions"]),
        seconds=60.0,  # other words alone are written every 10 s
    )

    await running.cluster.apply(changed())
    again = await until(running.cluster, key, lambda job: image(job) == RELEASE.search_image)
    assert again["metadata"]["uid"] != job["metadata"]["uid"]
    assert "Pod papers-ingest-pod" not in await running.children()
    running.lake().promote(second)
    await until(running.cluster, INDEX, is_ready)


async def test_nothing_is_written_once_everything_is_as_it_should_be(running: Running) -> None:
    await running.secrets()
    await running.cluster.apply(a_cortex_index_manifest())
    await running.cluster.apply(a_cortex_workflow_manifest())
    await until(running.cluster, INDEX, is_ready)
    await until(running.cluster, WORKFLOW, is_ready)
    writes = len(running.cluster.writes)
    while not running.passes.empty():
        running.passes.get_nowait()
    await _touch(running, INDEX)
    await _touch(running, WORKFLOW)
    looked: set[str] = set()
    while looked != {"papers", "helpdesk"}:
        looked.add((await asyncio.wait_for(running.passes.get(), 60)).key.name)
    assert running.cluster.writes[writes:] == []


async def _touch(running: Running, key: ObjectKey) -> None:
    """An event without meaning: somebody annotates the resource."""
    noted = {
        "apiVersion": key.api_version,
        "kind": key.kind,
        "metadata": {"name": key.name, "namespace": key.namespace, "annotations": {"team.example/seen": "yes"}},
    }
    assert await running.cluster._cluster.apply(noted, field_manager="somebody") is ApplyResult.CHANGED


async def test_a_lake_that_goes_away_leaves_the_index_ready_and_says_so(running: Running) -> None:
    await running.secrets()
    await running.cluster.apply(a_cortex_index_manifest())
    before = await until(running.cluster, INDEX, is_ready)
    running.lake().reachable = False
    await _touch(running, INDEX)
    index = await until(
        running.cluster, INDEX, lambda o: condition(o, "DependenciesReady") == ("False", "LakeUnreachable")
    )
    assert condition(index, "Ready")[0] == "True"
    assert condition(index, "DataPlaneReachable") == ("False", "LakeUnreachable")
    assert index["status"]["revisions"] == before["status"]["revisions"]
    running.lake().reachable = True
    await until(running.cluster, INDEX, lambda o: condition(o, "DataPlaneReachable")[0] == "True")


async def test_a_revision_that_the_pod_refuses_stalls_the_workflow(running: Running) -> None:
    await running.secrets()
    running.lake("helpdesk").refuse = "node judge: no such thing"
    await running.cluster.apply(a_cortex_index_manifest())
    await running.cluster.apply(a_cortex_workflow_manifest())
    workflow = await until(running.cluster, WORKFLOW, lambda o: condition(o, "Stalled") == ("True", "RevisionFailed"))
    assert "node judge: no such thing" in next(
        c["message"] for c in workflow["status"]["conditions"] if c["type"] == "Stalled"
    )


async def test_a_suspended_index_runs_nothing_keeps_everything_and_comes_back(running: Running) -> None:
    await running.secrets()
    await running.cluster.apply(a_cortex_index_manifest(spec__replicas=2))
    await running.cluster.apply(a_cortex_workflow_manifest())
    before = await until(running.cluster, INDEX, is_ready)
    await until(running.cluster, WORKFLOW, is_ready)
    kept = await running.children()

    await running.cluster.apply(a_cortex_index_manifest(spec__replicas=2, spec__suspend=True))
    index = await until(running.cluster, INDEX, lambda o: condition(o, "Ready") == ("True", "Suspended"))
    assert condition(index, "Suspended") == ("True", "Suspended")
    assert index["status"]["replicas"] == 0
    assert index["status"]["revisions"] == before["status"]["revisions"]
    gone = ["Pod papers-search-0", "Pod papers-search-1", "PodDisruptionBudget papers-search"]
    assert await running.children() == [child for child in kept if child not in gone]
    workflow = await until(
        running.cluster, WORKFLOW, lambda o: condition(o, "DependenciesReady") == ("False", "IndexNotReady")
    )
    assert "CortexIndex papers is suspended" in next(
        c["message"] for c in workflow["status"]["conditions"] if c["type"] == "Ready"
    )

    await running.cluster.apply(a_cortex_index_manifest(spec__replicas=2))
    index = await until(running.cluster, INDEX, is_ready)
    assert condition(index, "Suspended") == ("", "")
    await until(running.cluster, WORKFLOW, is_ready)
    assert await running.children() == kept
