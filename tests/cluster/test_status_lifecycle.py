"""Both kinds through a whole life on a real API server with the real operator: what others make of each moment.

Every state that was stored is judged: by kstatus, by Argo CD's script, and by rules of this file, which know nothing of
the operator's code.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from argocd import health
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.cluster.series import BURST, CONTROLLER
from doubles import LakeDouble, Phase, PodDouble
from fault_proxy import FaultProxy
from film import Film, version
from kstatus import kstatus
from objects import Place, until
from operators import OperatorProcess

HEALTH = {"InProgress": "Progressing", "Terminating": "Progressing", "Current": "Healthy", "Failed": "Degraded"}
WRITES_PER_STEP = 3
PARTS = {"CortexIndex": "search", "CortexWorkflow": "graph"}


@dataclass(frozen=True)
class Step:
    """From the version `after` on the resource is to come to `outcome`; `before` that it had the one of the step
    before."""

    after: int
    outcome: str
    before: str


@dataclass
class Life:
    """A resource, what is done to it, and the film of it."""

    cluster: KubernetesCluster
    place: Place
    key: ObjectKey
    lake: LakeDouble
    film: Film
    proxy: FaultProxy
    steps: list[Step] = field(default_factory=list)
    _notes: int = 0

    async def apply(self, **spec: Any) -> None:
        """The resource with this spec."""
        make = a_cortex_index_manifest if self.key.kind == "CortexIndex" else a_cortex_workflow_manifest
        manifest = make(metadata__namespace=self.place.namespace, **{f"spec__{k}": v for k, v in spec.items()})
        await self.cluster.apply(manifest, field_manager="author")

    async def note(self) -> None:
        """Wakes the operator, which else looks in some seconds for what it does not watch."""
        self._notes += 1
        meta = {"name": self.key.name, "namespace": self.key.namespace, "annotations": {"team/note": str(self._notes)}}
        noted = {"apiVersion": self.key.api_version, "kind": self.key.kind, "metadata": meta}
        await self.cluster.apply(noted, field_manager="noter")

    async def begin(self, outcome: str) -> None:
        """What is done from here on leads to `outcome`."""
        try:
            now = version(await self.cluster.get(self.key))
        except LookupError:
            now = 0
        self.steps.append(Step(now, outcome, self.steps[-1].outcome if self.steps else "InProgress"))

    async def becomes(self, ready: str, reason: str) -> Object:
        """Once Ready says so of this generation; kstatus is asked at that very moment."""
        told = await until(self.cluster, self.key, lambda o: _is_ready(o, ready, reason), 60)
        assert kstatus([told]) == [self.steps[-1].outcome], told["status"]
        return told


def _is_ready(obj: Object, status: str, reason: str) -> bool:
    found = {c["type"]: c for c in obj["status"].get("conditions", ())}
    seen = obj["status"]["observedGeneration"] == obj["metadata"]["generation"]
    return seen and "Ready" in found and (found["Ready"]["status"], found["Ready"]["reason"]) == (status, reason)


def own_address() -> str:
    """An address of this machine that an EndpointSlice may have: not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect(("192.0.2.1", 9))
        return str(asked.getsockname()[0])


def a_slice(place: Place, kind: str, name: str, address: str, port: int) -> Object:
    """Lists the double among the pods of a resource."""
    service = f"{name}-{PARTS[kind]}-headless"
    labels = {"kubernetes.io/service-name": service, "app.kubernetes.io/managed-by": "cortex-operator"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{service}-double", "namespace": place.namespace, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "control", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


Lives = Callable[[str, str], Any]


@pytest.fixture
def live(api_server: Path, namespace: str, pools: Any, tmp_path: Path) -> Lives:
    """`async with live(KIND, NAME) as (life, start)`: the resource, and what starts the operator."""

    @asynccontextmanager
    async def live(kind: str, name: str) -> AsyncIterator[tuple[Life, Callable[[], Any]]]:
        address, pod, place = own_address(), PodDouble(), Place(namespace)
        async with AsyncExitStack() as stack:
            await pod.start(address)
            stack.push_async_callback(pod.stop)
            api = await stack.enter_async_context(await Api.connect(kubeconfig=api_server))
            proxy = await stack.enter_async_context(FaultProxy(tmp_path).before(api_server))
            kinds = [(API_VERSION, kind), ("apps/v1", "Deployment")]
            film = await stack.enter_async_context(Film().of(api, namespace, *kinds))
            cluster = KubernetesCluster(api)
            for each in PARTS:
                resource = "papers" if each == "CortexIndex" else "helpdesk"
                await cluster.apply(a_slice(place, each, resource, address, pod.port), field_manager="double")

            async def start() -> None:
                operator = OperatorProcess(proxy.kubeconfig, tmp_path / "operator.log", namespace)
                stack.callback(operator.kill)
                await asyncio.to_thread(operator.until_ready)

            key = ObjectKey(API_VERSION, kind, namespace, name)
            yield Life(cluster, place, key, pod.lake(name), film, proxy), start

    return live


async def secrets(life: Life) -> None:
    await life.cluster.apply(life.place.secret("cortex-lake", dsn="postgresql://lake.invalid/cortex"))
    await life.cluster.apply(life.place.secret("cortex-state", url="redis://state.invalid"))


async def ends(life: Life) -> None:
    """The resource is deleted; a finalizer of somebody else lets it be seen while it goes."""
    await life.begin("Terminating")
    held = {"name": life.key.name, "namespace": life.key.namespace, "finalizers": ["tests.datapunk.io/hold"]}
    held_by = {"apiVersion": life.key.api_version, "kind": life.key.kind, "metadata": held}
    await life.cluster.apply(held_by, field_manager="holder")
    life.steps[-1] = Step(version(await life.cluster.get(life.key)), "Terminating", "Current")
    await life.cluster.delete(life.key)
    going = await life.cluster.get(life.key)
    assert kstatus([going]) == ["Terminating"]
    # Each state is judged beside what its Deployment was then.
    name = f"{life.key.name}-{PARTS[life.key.kind]}"
    deployment = await life.cluster.get(ObjectKey("apps/v1", "Deployment", life.key.namespace, name))
    await life.film.until_at("Deployment", version(deployment))
    del held["finalizers"]
    await life.cluster.apply(held_by, field_manager="holder")
    await life.film.until_gone(life.key.kind, life.key.name)


def wanted(resource: Object) -> int:
    """How many pods the spec asks for."""
    spec = resource["spec"]
    return 0 if spec.get("suspend") else int(spec.get("replicas", 1))


def runs_as_asked(resource: Object, deployment: Object | None) -> bool:
    """Whether the Deployment, as it was at that moment, has come to rest with what the spec asks for."""
    if deployment is None:
        return False
    spec, status = deployment["spec"], deployment.get("status", {})
    (container,) = spec["template"]["spec"]["containers"]
    given = {entry["name"]: entry.get("value") for entry in container.get("env", ())}
    asked = {entry["name"]: entry["value"] for entry in resource["spec"].get("env", ())}
    counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")]
    return (
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and [spec["replicas"], *counts] == [wanted(resource)] * 4
        and asked.items() <= given.items()
    )


def may_be(frame: Object, steps: list[Step], deployment: Object | None) -> set[str]:
    """The verdicts that would be right."""
    if "deletionTimestamp" in frame["metadata"]:
        return {"Terminating"}
    if frame["status"]["observedGeneration"] != frame["metadata"]["generation"]:
        return {"InProgress"}
    step = [step for step in steps if step.after < version(frame)][-1]
    right = {"InProgress", step.outcome, step.before}
    return right if runs_as_asked(frame, deployment) else right - {"Current"}


async def events(life: Life) -> list[Object]:
    """What was told of the resource."""
    found = await life.cluster.list("events.k8s.io/v1", "Event", namespace=life.place.namespace)
    ours = [event for event in found if event.get("reportingController") == CONTROLLER]
    return [event for event in ours if event["regarding"]["name"] == life.key.name]


def told(events: list[Object]) -> set[str]:
    """The reasons. What one of them tells may come with a turn of Ready: then its note begins with the condition's."""
    return {event["reason"] for event in events} | {event["note"].partition(":")[0] for event in events}


async def check_events(life: Life, *reasons: str) -> None:
    """These were told, none of them twice in other objects, and no more than a resource may tell."""
    async with asyncio.timeout(60):  # they are written in the background
        while set(reasons) - told(mine := await events(life)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    notes = [(event["reason"], event["note"]) for event in mine]
    assert len(notes) == len(set(notes))
    assert sum(event.get("series", {}).get("count", 1) for event in mine) <= BURST + 5


def check(life: Life) -> None:
    """Judges every state; counts what was written."""
    frames = life.film.frames[life.key.kind]
    frames = [frame for frame in frames if frame["metadata"]["name"] == life.key.name]
    verdicts = kstatus(frames)
    name = f"{life.key.name}-{PARTS[life.key.kind]}"
    for frame, verdict in zip(frames, verdicts, strict=True):
        deployment = life.film.at("Deployment", name, version(frame))
        assert verdict in may_be(frame, life.steps, deployment), (verdict, frame, deployment, life.steps)
    assert health(frames) == [HEALTH[verdict] for verdict in verdicts]
    check_writes(life, frames)


def check_writes(life: Life, frames: list[Object]) -> None:
    """Each write of a status told something, no two in a row the same, and there were few. One that met a resource
    that had just gone wrote nothing."""
    states = [frames[0]["status"]]
    for frame in frames[1:]:
        if frame["status"] != states[-1]:
            assert timeless(frame["status"]) != timeless(states[-1]), frame
            check_times(states[-1], frame["status"])
            states.append(frame["status"])
    plural = {"CortexIndex": "cortexindexes", "CortexWorkflow": "cortexworkflows"}[life.key.kind]
    suffix = f"/{plural}/{life.key.name}/status"
    sent = [asked for asked in life.proxy.done if asked.method == "PATCH" and asked.path.endswith(suffix)]
    assert len(sent) == len(states) - 1
    assert len(sent) <= WRITES_PER_STEP * len(life.steps), len(sent)


def timeless(status: Object) -> Object:
    """A status without the times of its transitions."""
    conditions = status.get("conditions", ())
    plain = [{k: v for k, v in c.items() if k != "lastTransitionTime"} for c in conditions]
    return {**status, "conditions": plain}


def check_times(before: Object, after: Object) -> None:
    """`lastTransitionTime` is that of the status."""
    was = {c["type"]: c for c in before.get("conditions", ())}
    for now in after.get("conditions", ()):
        if now["type"] in was and was[now["type"]]["status"] == now["status"]:
            assert was[now["type"]]["lastTransitionTime"] == now["lastTransitionTime"], (before, after)


async def test_every_moment_of_an_index_is_called_rightly(live: Lives) -> None:
    async with live("CortexIndex", "papers") as (life, start):
        await life.begin("InProgress")
        await life.apply()
        assert kstatus([await until(life.cluster, life.key, lambda o: o["status"] == {"observedGeneration": -1})]) == [
            "InProgress"
        ]
        await start()
        await life.becomes("False", "SecretNotFound")

        await life.begin("Current")
        await secrets(life)
        await life.note()
        await life.becomes("True", "Ready")
        first = life.lake.current

        await life.begin("Current")
        await life.apply(env=[{"name": "COLOUR", "value": "red"}])
        await life.becomes("True", "Ready")

        await life.begin("InProgress")
        await life.apply(chunking={"splitLength": 4})
        await life.becomes("True", "RevisionBuilding")
        await life.begin("Current")
        life.lake.promote(next(id for id in life.lake.revisions if id != first))
        await life.becomes("True", "Ready")

        await life.begin("InProgress")
        await life.apply(chunking={"splitLength": 5})
        await life.becomes("True", "RevisionBuilding")
        await life.begin("Failed")
        failed = next(r for r in life.lake.revisions.values() if r.phase == Phase.REVISION_PHASE_BUILDING)
        failed.phase, failed.message = Phase.REVISION_PHASE_FAILED, "no such model"
        await life.becomes("True", "RevisionFailed")
        await life.begin("Current")
        await life.apply(chunking={"splitLength": 4})
        await life.becomes("True", "Ready")

        await scales_and_sleeps(life, chunking={"splitLength": 4})
        spec: dict[str, Any] = {"chunking": {"splitLength": 4}}

        await life.begin("Failed")
        await life.apply(**spec, gpu={"pool": "nowhere"})
        await life.becomes("False", "UnknownGPUPool")
        await life.begin("Current")
        await life.apply(**spec)
        await life.becomes("True", "Ready")

        await life.begin("InProgress")
        await life.apply(**spec, placement={"nodeSelector": {"tests.datapunk.io/nowhere": "true"}})
        await life.becomes("False", "Unschedulable")
        await life.begin("Current")
        await life.apply(**spec)
        await life.becomes("True", "Ready")

        await life.begin("Failed")
        budget = ObjectKey("policy/v1", "PodDisruptionBudget", life.place.namespace, "papers-search")
        theirs = {"name": budget.name, "namespace": budget.namespace}
        selector = {"minAvailable": 0, "selector": {"matchLabels": {"app": "theirs"}}}
        await life.cluster.apply(
            {"apiVersion": budget.api_version, "kind": budget.kind, "metadata": theirs, "spec": selector}
        )
        await life.apply(**spec, replicas=2)
        await life.becomes("False", "ApplyRefused")
        await life.begin("Current")
        await life.cluster.delete(budget)
        await life.note()
        await life.becomes("True", "Ready")

        await ends(life)
        check(life)
        promoted = ("RevisionBuilding", "RevisionPromoted", "RevisionFailed", "Recovered")
        await check_events(life, "DependencyMissing", "Ready", "Updating", "ScaledToZero", *promoted)


async def test_a_rollout_that_somebody_paused_is_in_progress_until_it_is_resumed(live: Lives) -> None:
    async with live("CortexIndex", "papers") as (life, start):
        await life.begin("Current")
        await secrets(life)
        await life.apply(env=[{"name": "COLOUR", "value": "red"}])
        await start()
        await life.becomes("True", "Ready")

        await life.begin("InProgress")
        await pauses(life, paused=True)
        await life.apply(env=[{"name": "COLOUR", "value": "blue"}])
        await life.becomes("False", "RolloutPaused")
        await life.begin("Current")
        await pauses(life, paused=False)
        await life.becomes("True", "Ready")

        await ends(life)
        check(life)


async def pauses(life: Life, *, paused: bool) -> None:
    """Somebody pauses the Deployment, or resumes it."""
    meta = {"name": f"{life.key.name}-{PARTS[life.key.kind]}", "namespace": life.place.namespace}
    spec = {"paused": True} if paused else {}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
    await life.cluster.apply(deployment, field_manager="somebody")


async def scales_and_sleeps(life: Life, **spec: Any) -> None:
    """More pods, none, one again; suspended and resumed."""
    for replicas, reason in ((3, "Ready"), (0, "ScaledToZero"), (1, "Ready")):
        await life.begin("Current")
        await life.apply(**spec, replicas=replicas)
        await life.becomes("True", reason)
    for suspend, reason in ((True, "Suspended"), (False, "Ready")):
        await life.begin("Current")
        await life.apply(**spec, suspend=suspend)
        await life.becomes("True", reason)


async def test_every_moment_of_a_workflow_is_called_rightly(live: Lives) -> None:
    async with live("CortexWorkflow", "helpdesk") as (life, start):
        await life.begin("InProgress")
        await secrets(life)
        await life.apply()
        await start()
        await life.becomes("False", "IndexNotFound")

        await life.begin("Current")
        await life.cluster.apply(life.place.index(), field_manager="author")
        await life.becomes("True", "Ready")
        first = life.lake.current

        await life.begin("Failed")
        await life.apply(edges=[{"from": "START", "to": "retrieve"}])
        await life.becomes("False", "GraphInvalid")
        await life.begin("Current")
        await life.apply()
        await life.becomes("True", "Ready")

        await life.begin("InProgress")
        await life.apply(limits={"steps": 7})
        await life.becomes("True", "RevisionBuilding")
        await life.begin("Current")
        life.lake.promote(next(id for id in life.lake.revisions if id != first))
        await life.becomes("True", "Ready")
        spec: dict[str, Any] = {"limits": {"steps": 7}}

        await life.begin("InProgress")
        await life.cluster.apply(life.place.index(spec__suspend=True), field_manager="author")
        await life.becomes("False", "IndexNotReady")
        await life.begin("Current")
        await life.cluster.apply(life.place.index(spec__suspend=False), field_manager="author")
        await life.becomes("True", "Ready")

        await scales_and_sleeps(life, **spec)
        await ends(life)
        check(life)
        missed = ("DependencyMissing", "DependenciesFound", "NotReady")
        await check_events(life, "Ready", "Updating", "Stalled", "Recovered", "RevisionPromoted", *missed)
