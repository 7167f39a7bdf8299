"""Operators of two releases over a real API server: pods are replaced one resource at a time, or when they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cortex_kinds.base import API_VERSION
from cortex_kinds.common import RevisionStatus
from cortex_kube.client import Api
from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.dataplane import Description, ResourceKey
from cortex_operator.engine import watch_feed
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.origin import MOVE, RELEASE, UPDATE
from cortex_operator.operator import make_engine
from cortex_operator.reconcile import Timing
from cortex_operator.reconcile.fleet import WorkloadUpdates
from cortex_testbed.kubectl import Kubectl
from film import Film, version
from objects import Place, until
from passes import SMALL, Lake

INDEXES = ("alpha", "bravo", "charlie", "delta")
ORDER = ["alpha-search", "bravo-search", "charlie-search", "delta-search", "echo-graph"]


def release(number: int) -> ReleaseSettings:
    """Each with images and settings of its own."""
    images = (f"registry.invalid/search:{number}", f"registry.invalid/graph:{number}")
    return ReleaseSettings(*images, drain_seconds=float(number), search_resources=SMALL, graph_resources=SMALL)


async def nobody(key: ResourceKey) -> bool:
    return False


class Lakes:
    """One for each resource; one that `is_silent` answers without a revision."""

    def __init__(self) -> None:
        self._lakes: dict[ResourceKey, Lake] = {}
        self.is_silent: Callable[[ResourceKey], Awaitable[bool]] = nobody

    async def describe(self, key: ResourceKey) -> Description:
        if await self.is_silent(key):
            return Description("pod-a", True)
        return await self._lakes.setdefault(key, Lake()).describe(key)

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        return await self._lakes.setdefault(key, Lake()).ensure_revision(key, revision, definition, retain)

    async def forget(self, key: ResourceKey) -> None:
        self._lakes.pop(key, None)


class Fleet:
    """Four indexes and a workflow in a namespace of their own, and operators over them."""

    def __init__(self, cluster: KubernetesCluster, place: Place, film: Film) -> None:
        self.cluster, self.place, self.lakes = cluster, place, Lakes()
        self._film = film

    @property
    def history(self) -> Sequence[Object]:
        """Every state of the Deployments, in order."""
        return self._film.frames["Deployment"]

    @asynccontextmanager
    async def operator(
        self, number: int, updates: WorkloadUpdates = WorkloadUpdates.ONE_AT_A_TIME
    ) -> AsyncIterator[None]:
        stop = asyncio.Event()
        timing = Timing(moving=0.3, idle=0.5, missing=0.5)
        engine = make_engine(self.cluster, self.lakes, release(number), timing=timing, updates=updates)
        running = asyncio.create_task(engine.run(stop, watch_feed(self.cluster)))
        try:
            yield
        finally:
            stop.set()
            await running

    async def make(self) -> None:
        await self.cluster.apply(self.place.secret("cortex-lake", dsn="postgresql://lake.invalid/cortex"))
        await self.cluster.apply(self.place.secret("cortex-state", url="redis://state.invalid"))
        for name in INDEXES:
            await self.cluster.apply(self.place.index(metadata__name=name), field_manager="author")
        flow = self.place.workflow(metadata__name="echo", spec__indexes=[{"name": "alpha"}])
        flow["spec"]["nodes"][0]["search"]["index"] = "alpha"
        await self.cluster.apply(flow, field_manager="author")
        for name in (*INDEXES, "echo"):
            await until(self.cluster, self.key(name), is_ready, 60)

    def key(self, name: str) -> ObjectKey:
        kind = "CortexWorkflow" if name == "echo" else "CortexIndex"
        return ObjectKey(API_VERSION, kind, self.place.namespace, name)

    def deployment(self, name: str) -> ObjectKey:
        return ObjectKey("apps/v1", "Deployment", self.place.namespace, name)

    async def deployments(self) -> list[Object]:
        return await self.cluster.list("apps/v1", "Deployment", namespace=self.place.namespace)

    async def templates(self) -> dict[str, Any]:
        return {found["metadata"]["name"]: found["spec"]["template"] for found in await self.deployments()}

    async def pods(self) -> set[str]:
        """Those that stay: one that was replaced ends when its node has time for that."""
        found = await self.cluster.list("v1", "Pod", namespace=self.place.namespace)
        return {pod["metadata"]["uid"] for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def silent_once_at(self, number: int, name: str) -> Callable[[ResourceKey], Awaitable[bool]]:
        """That the index has pods of the release."""

        async def is_silent(key: ResourceKey) -> bool:
            return key.name == name and has_release(await self.cluster.get(self.deployment(f"{name}-search")), number)

        return is_silent

    async def settings(self, name: str) -> dict[str, str]:
        found = await self.cluster.get(ObjectKey("v1", "ConfigMap", self.place.namespace, name))
        return dict(found["data"])

    async def until_at(self, number: int, count: int = len(ORDER), seconds: float = 60.0) -> None:
        """Returns when so many Deployments have the release and nobody moves."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self.deployments()
                notes = [one["metadata"]["annotations"] for one in found]
                if sum(n[RELEASE] == release(number).id and MOVE not in n for n in notes) >= count:
                    return await self._film.until_at("Deployment", max(map(version, found)))
                await asyncio.sleep(0.1)

    async def until_pending(self, name: str, reason: str) -> str:
        """The message, when UpdatePending has the reason."""
        found = await until(self.cluster, self.key(name), lambda obj: pending(obj)[0] == reason)
        return pending(found)[1]


def conditions(obj: Object) -> dict[str, dict[str, Any]]:
    return {c["type"]: c for c in (obj.get("status") or {}).get("conditions", ())}


def is_ready(obj: Object) -> bool:
    return conditions(obj).get("Ready", {}).get("status") == "True"


def pending(obj: Object) -> tuple[str, str]:
    found = conditions(obj).get("UpdatePending", {})
    return found.get("reason", ""), found.get("message", "")


def has_release(deployment: Object, number: int) -> bool:
    return bool(deployment["spec"]["template"]["spec"]["containers"][0]["image"].endswith(f":{number}"))


def moves(history: Sequence[Object], number: int) -> list[str]:
    """In which order the templates of a release came; fails when one came before the one before was Ready."""
    now: dict[str, Object] = {}
    order: list[str] = []
    for state in history:
        name = state["metadata"]["name"]
        now[name] = state
        if has_release(state, number) and name not in order:
            unfinished = [other for other in order if not is_rolled_out(now[other])]
            assert unfinished == [], f"{name} began while {unfinished} moved"
            order.append(name)
    return order


def is_rolled_out(deployment: Object) -> bool:
    status, meta = deployment.get("status", {}), deployment["metadata"]
    counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas")}
    return counts == {deployment["spec"]["replicas"]} and status["observedGeneration"] == meta["generation"]


@pytest.fixture
async def fleet(api_server: Path, namespace: str, pools: dict[str, list[str]]) -> AsyncIterator[Fleet]:
    async with (
        await Api.connect(kubeconfig=api_server) as api,
        Film().of(api, namespace, ("apps/v1", "Deployment")) as film,
    ):
        fleet = Fleet(KubernetesCluster(api, [namespace]), Place(namespace), film)
        async with fleet.operator(1):
            await fleet.make()
            await fleet.until_at(1)
        yield fleet


async def test_an_upgrade_moves_one_at_a_time_in_order_and_goes_on_after_a_restart(fleet: Fleet) -> None:
    # Else more of them could have moved by the time that two are seen to have.
    fleet.lakes.is_silent = fleet.silent_once_at(2, "charlie")
    async with fleet.operator(2):
        await fleet.until_at(2, 2)
    assert len(moves(fleet.history, 2)) in (2, 3)
    fleet.lakes.is_silent = nobody
    async with fleet.operator(2):
        await fleet.until_at(2)
        assert moves(fleet.history, 2) == ORDER
        for name in (*INDEXES, "echo"):
            found = await until(fleet.cluster, fleet.key(name), lambda obj: is_ready(obj) and pending(obj)[0] == "")
            assert found["status"]["image"].endswith(":2")
        before = (await fleet.templates(), await fleet.pods())
    async with fleet.operator(2):
        await asyncio.sleep(2.0)
    assert (await fleet.templates(), await fleet.pods()) == before


async def test_who_does_not_become_ready_holds_the_others_whose_pods_stay_as_they_are(fleet: Fleet) -> None:
    templates, pods = await fleet.templates(), await fleet.pods()
    settings = {name: await fleet.settings(name) for name in ORDER}
    fleet.lakes.is_silent = fleet.silent_once_at(2, "bravo")
    waiting = ORDER[2:]
    for _ in range(2):
        async with fleet.operator(2):
            await fleet.until_at(2, 1)
            await until(fleet.cluster, fleet.key("bravo"), lambda obj: pending(obj)[0] == "Updating")
            await until(fleet.cluster, fleet.deployment("bravo-search"), is_rolled_out)
            for name in ("charlie", "delta", "echo"):
                await fleet.until_pending(name, "WaitingForTurn")
                assert is_ready(await fleet.cluster.get(fleet.key(name)))
            await asyncio.sleep(2.0)
        now = await fleet.templates()
        assert {name: now[name] for name in waiting} == {name: templates[name] for name in waiting}
        assert {name: await fleet.settings(name) for name in waiting} == {name: settings[name] for name in waiting}
        assert len(pods & await fleet.pods()) == len(waiting)
    fleet.lakes.is_silent = nobody
    async with fleet.operator(2):
        await fleet.until_at(2)
    assert moves(fleet.history, 2) == ORDER


async def test_a_deployment_that_somebody_paused_is_named_by_all_whom_it_holds_up(
    fleet: Fleet, kubectl: Kubectl
) -> None:
    deployment = ("deployment/bravo-search", f"--namespace={fleet.place.namespace}")
    kubectl("rollout", "pause", *deployment)
    command = f"kubectl -n {fleet.place.namespace} rollout resume {deployment[0]}"
    async with fleet.operator(2):
        for name in ("bravo", "charlie", "echo"):
            message = await fleet.until_pending(name, "UpgradeHalted")
            assert f"Deployment bravo-search is paused (spec.paused): {command}" in message
        ready = conditions(await fleet.cluster.get(fleet.key("bravo")))["Ready"]
        assert (ready["status"], ready["reason"]) == ("False", "RolloutPaused")
        assert (await fleet.cluster.get(fleet.deployment("bravo-search")))["spec"]["paused"] is True
        kubectl("rollout", "resume", *deployment)
        await fleet.until_at(2)
    assert moves(fleet.history, 2) == ORDER


async def test_by_hand_nothing_moves_but_who_is_told(fleet: Fleet) -> None:
    templates, pods = await fleet.templates(), await fleet.pods()
    settings = {name: await fleet.settings(name) for name in ORDER}
    async with fleet.operator(2, WorkloadUpdates.MANUAL):
        message = ""
        for name in (*INDEXES, "echo"):
            message = await fleet.until_pending(name, "WaitingForApproval")
        assert f"{UPDATE}={release(2).id}" in message
        assert (await fleet.templates(), await fleet.pods()) == (templates, pods)
        assert {name: await fleet.settings(name) for name in ORDER} == settings

        told = fleet.key("charlie")
        note = {"apiVersion": API_VERSION, "kind": told.kind}
        meta = {"name": told.name, "namespace": told.namespace, "annotations": {UPDATE: release(2).id}}
        await fleet.cluster.apply({**note, "metadata": meta}, field_manager="somebody")
        await fleet.until_at(2, 1)
        await until(fleet.cluster, told, lambda obj: is_ready(obj) and pending(obj)[0] == "")
        others = {name: template for name, template in (await fleet.templates()).items() if name != "charlie-search"}
        assert others == {name: template for name, template in templates.items() if name != "charlie-search"}
        assert (await fleet.settings("charlie-search"))["CORTEX_DRAIN_SECONDS"] == "2.0"
    assert moves(fleet.history, 2) == ["charlie-search"]
