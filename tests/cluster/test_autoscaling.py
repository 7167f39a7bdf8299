"""Who says how many pods there are, on a real API server with its HPA controller and without a metrics API: a switch
between `replicas`, `autoscaling` and `suspend` never takes away pods that are to stay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cortex_kube.client import Api
from cortex_kube.listwatch import list_watch
from cortex_kube.resources import path
from cortex_operator.cluster import Conflict, NotFound, Object, ObjectKey
from cortex_operator.cluster.owned import may_own
from cortex_operator.dataplane import ResourceKey
from cortex_operator.reconcile import Reconciler, World
from cortex_testbed.kubectl import Kubectl
from doubles import cancelled
from passes import RELEASE, Lake, Passes, is_so

AUTOSCALING = {"minReplicas": 1, "maxReplicas": 8, "metrics": [{"type": "CPU", "target": "70"}]}


class Scaled:
    """The index's Deployment, and every number of pods that it was to have."""

    def __init__(self, passes: Passes, kubectl: Kubectl) -> None:
        self._passes = passes
        self._kubectl = kubectl
        self._place = f"--namespace={passes.namespace}"
        self.numbers: list[int] = []

    async def apply(self, **spec: Any) -> None:
        await self._passes.apply(spec=spec)

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
        """Passes until it is so."""
        reconcile = Reconciler(World(self._passes.cluster, Lake(), RELEASE))
        async with asyncio.timeout(seconds):
            while not await holds():
                # Another writer was first: the engine tries again, too.
                with suppress(Conflict):
                    await reconcile(ResourceKey("CortexIndex", self._passes.namespace, "papers"))
                await asyncio.sleep(0.1)

    async def until_running(self, number: int, *, autoscaled: bool) -> None:
        """Passes until so many pods are ready and the right one owns their number."""

        async def holds() -> bool:
            found = await self.find("apps/v1", "Deployment")
            ready = found is not None and found["spec"]["replicas"] == found["status"].get("readyReplicas", 0) == number
            handed = found is not None and not may_own(found, "spec", "replicas")
            there = await self.find("autoscaling/v2", "HorizontalPodAutoscaler") is not None
            return ready and handed == there == autoscaled

        await self.until(holds)

    async def find(self, api_version: str, kind: str) -> Object | None:
        try:
            return await self._passes.cluster.get(ObjectKey(api_version, kind, self._passes.namespace, "papers-search"))
        except NotFound:
            return None

    async def pods(self) -> set[str]:
        found = await self._passes.cluster.list("v1", "Pod", namespace=self._passes.namespace)
        return {pod["metadata"]["uid"] for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def autoscaler_writes(self, number: int) -> None:
        """As the HPA controller does: by the subresource, under its own name."""
        patch = json.dumps({"spec": {"replicas": number}})
        manager = "--field-manager=kube-controller-manager"
        name = ("deployment", "papers-search", self._place)
        self._kubectl("patch", *name, "--subresource=scale", "--type=merge", f"--patch={patch}", manager)

    async def begin_at(self, number: int) -> None:
        """Forgets what was noted, once it has come to this number."""
        async with asyncio.timeout(60):
            while self.numbers[-1:] != [number]:  # noqa: ASYNC110 - the watch tells nobody
                await asyncio.sleep(0.02)
        self.numbers[:] = [number]

    @asynccontextmanager
    async def watched(self, api: Api) -> AsyncIterator[None]:
        """Notes every number, also those that are there for a moment."""
        listed = asyncio.Event()

        def note(obj: Object) -> None:
            self.numbers.append(obj["spec"]["replicas"])

        def on_list(items: list[Object]) -> None:
            for obj in items:
                note(obj)
            listed.set()

        where = path("apps/v1", "Deployment", self._passes.namespace)
        watch = list_watch(api, where, on_list=on_list, on_event=lambda _, obj: note(obj))
        watching = asyncio.create_task(watch)
        await listed.wait()
        yield
        await cancelled(watching)


@pytest.fixture
async def scaled(passes: Passes, kubectl: Kubectl, api_server: Path) -> AsyncIterator[Scaled]:
    scaled = Scaled(passes, kubectl)
    async with await Api.connect(kubeconfig=api_server) as api, scaled.watched(api):
        yield scaled


async def at_five(scaled: Scaled) -> set[str]:
    """Autoscaled, with five pods; which ones. What was noted before is forgotten."""
    await scaled.apply(autoscaling=AUTOSCALING)
    await scaled.until_running(1, autoscaled=True)
    scaled.autoscaler_writes(5)
    await scaled.until_running(5, autoscaled=True)
    await scaled.begin_at(5)
    return await scaled.pods()


async def test_from_replicas_to_autoscaling_all_pods_stay_until_the_autoscaler_says_otherwise(
    scaled: Scaled, passes: Passes
) -> None:
    await scaled.apply(replicas=3)
    await scaled.until_running(3, autoscaled=False)
    before = await scaled.pods()
    await scaled.begin_at(3)
    await scaled.apply(autoscaling=AUTOSCALING)
    await scaled.until_running(3, autoscaled=True)
    index = await passes.until(is_so("AutoscalingReady", "False", "MetricsSourceMissing"), Lake())
    (said,) = [c["message"] for c in index["status"]["conditions"] if c["type"] == "AutoscalingReady"]
    assert "install metrics-server" in said
    assert (index["status"]["replicas"], index["status"]["readyReplicas"]) == (3, 3)
    assert "app.kubernetes.io/instance=papers" in index["status"]["selector"]
    assert set(scaled.numbers) == {3}
    assert await scaled.pods() == before

    passes.cluster.writes.clear()
    await passes.until(is_so("AutoscalingReady", "False", "MetricsSourceMissing"), Lake())
    assert [write for write in passes.cluster.writes if not write.startswith("status")] == []

    await scaled.apply(autoscaling={**AUTOSCALING, "minReplicas": 4})
    await scaled.until_running(4, autoscaled=True)  # by the real autoscaler: for that it needs no metrics
    assert set(scaled.numbers) == {3, 4}
    assert before < await scaled.pods()


async def test_what_the_autoscaler_writes_is_left_alone_and_the_budget_follows(scaled: Scaled, passes: Passes) -> None:
    budget = ("policy/v1", "PodDisruptionBudget")
    await scaled.apply(autoscaling=AUTOSCALING)
    await scaled.until_running(1, autoscaled=True)
    assert await scaled.find(*budget) is None
    scaled.autoscaler_writes(5)
    await scaled.until_running(5, autoscaled=True)

    async def budget_is_there() -> bool:
        return await scaled.find(*budget) is not None

    async def budget_is_gone() -> bool:
        return await scaled.find(*budget) is None

    # The pass that sees the number comes after the pods run.
    await scaled.until(budget_is_there)
    scaled.autoscaler_writes(1)
    await scaled.until_running(1, autoscaled=True)
    await scaled.until(budget_is_gone)


async def test_from_autoscaling_to_as_many_replicas_no_pod_goes(scaled: Scaled) -> None:
    before = await at_five(scaled)
    await scaled.apply(replicas=5)
    await scaled.until_running(5, autoscaled=False)
    assert set(scaled.numbers) == {5}
    assert await scaled.pods() == before
    await scaled.apply(autoscaling=AUTOSCALING)
    await scaled.until_running(5, autoscaled=True)
    assert set(scaled.numbers) == {5}


async def test_from_autoscaling_to_nothing_there_is_one_pod_as_the_spec_says(scaled: Scaled) -> None:
    await at_five(scaled)
    await scaled.apply()
    await scaled.until_running(1, autoscaled=False)
    assert set(scaled.numbers) - {5} == {1}


async def test_a_new_resource_begins_with_the_fewest_pods(scaled: Scaled) -> None:
    await scaled.apply(autoscaling={**AUTOSCALING, "minReplicas": 2})
    await scaled.until_running(2, autoscaled=True)
    assert set(scaled.numbers) == {2}


async def test_suspended_there_is_no_pod_and_resumed_as_many_as_before(scaled: Scaled, passes: Passes) -> None:
    await at_five(scaled)
    await scaled.apply(autoscaling=AUTOSCALING, suspend=True)
    index = await passes.until(is_so("Ready", "True", "Suspended"), Lake())
    assert index["status"]["replicas"] == 0
    assert await scaled.pods() == set()
    for kind in (("autoscaling/v2", "HorizontalPodAutoscaler"), ("policy/v1", "PodDisruptionBudget")):
        assert await scaled.find(*kind) is None
    passes.cluster.writes.clear()
    await passes.until(is_so("Ready", "True", "Suspended"), Lake())
    assert passes.cluster.writes == []

    await scaled.begin_at(0)
    await scaled.apply(autoscaling=AUTOSCALING)
    await scaled.until_running(5, autoscaled=True)
    assert set(scaled.numbers) - {0} == {5}


async def test_both_at_once_are_refused_with_a_message_and_so_is_kubectl_scale(
    scaled: Scaled, passes: Passes, kubectl: Kubectl
) -> None:
    await scaled.apply(autoscaling=AUTOSCALING)
    place = f"--namespace={passes.namespace}"
    for attempt in (
        ("scale", "cortexindex/papers", "--replicas=4", place),
        ("patch", "cortexindex/papers", "--type=merge", '--patch={"spec":{"replicas":4}}', place),
    ):
        with pytest.raises(Exception, match="replicas and autoscaling exclude each other"):
            kubectl(*attempt)
