"""Scaling by what Prometheus says, on a control plane that serves KEDA's kind: whoever says how many pods there are is
gone before somebody else does. KEDA itself is played: it lets a ScaledObject go when the test says so."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optional_crds
import pytest
from cortex_kube.client import Api
from cortex_kube.listwatch import list_watch
from cortex_kube.resources import path
from cortex_operator.cluster import Conflict, NotFound, Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.cluster.owned import may_own
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.autoscaler import HPA
from cortex_operator.manifests.optional import SCALED_OBJECT
from cortex_operator.reconcile import Reconciler, World
from cortex_testbed.kubectl import Kubectl
from doubles import CountingCluster, cancelled
from objects import Place, owned_by
from passes import RELEASE, Lake

QUERY = {"query": "sum(rate(requests_total[2m]))", "threshold": "100", "serverAddress": "http://prometheus:9090"}
BY_QUERY = {"minReplicas": 1, "maxReplicas": 8, "metrics": [{"type": "Prometheus", "prometheus": QUERY}]}
BY_CPU = {"minReplicas": 1, "maxReplicas": 8}
FINALIZER = "finalizer.keda.sh"


class Scaled:
    """An index, passes over it, and every number of pods that its Deployment was to have."""

    def __init__(self, api: Api, kubectl: Kubectl, place: Place) -> None:
        self.place = place
        self.cluster = CountingCluster(KubernetesCluster(api))
        self.numbers: list[int] = []
        self._api, self._kubectl = api, kubectl
        self._reconcile = Reconciler(World(self.cluster, Lake(), replace(RELEASE, served=frozenset({SCALED_OBJECT}))))

    async def apply(self, **spec: Any) -> None:
        await self.cluster.apply(self.place.index(spec=spec))
        self.cluster.writes.clear()

    async def once(self) -> None:
        """A pass; one that met a state that was just replaced is tried again, as the engine does."""
        with suppress(Conflict):
            await self._reconcile(ResourceKey("CortexIndex", self.place.namespace, "papers"))

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
        """Passes until it is so."""
        async with asyncio.timeout(seconds):
            while not await holds():
                await self.once()
                await asyncio.sleep(0.05)

    async def until_scaled(self, number: int, kind: tuple[str, str] | None) -> None:
        """Passes until so many pods are wanted, and an object of this kind says so; None: the operator."""

        async def holds() -> bool:
            found = await self.find("apps/v1", "Deployment")
            if found is None or found["spec"]["replicas"] != number or may_own(found, "spec", "replicas") != (not kind):
                return False
            return [await self.find(*each) is not None for each in (HPA, SCALED_OBJECT)] == [
                kind == HPA,
                kind == SCALED_OBJECT,
            ]

        await self.until(holds)

    async def find(self, api_version: str, kind: str, name: str = "papers-search") -> Object | None:
        try:
            return await self.cluster.get(ObjectKey(api_version, kind, self.place.namespace, name))
        except NotFound:
            return None

    async def says(self, type: str) -> Object:
        status = (await self.cluster.get(self.place.papers))["status"]
        return next((c for c in status["conditions"] if c["type"] == type), {})

    def write_number(self, number: int) -> None:
        """As an autoscaler does."""
        where = ("deployment", "papers-search", f"--namespace={self.place.namespace}", "--subresource=scale")
        patch = json.dumps({"spec": {"replicas": number}})
        self._kubectl("patch", *where, "--type=merge", f"--patch={patch}", "--field-manager=kube-controller-manager")

    async def keda_takes_it(self) -> None:
        """As KEDA does: it keeps the ScaledObject by a finalizer, and makes an autoscaler, with its labels."""
        scaled = await self.find(*SCALED_OBJECT)
        assert scaled is not None
        meta = {"name": "papers-search", "namespace": self.place.namespace, "finalizers": [FINALIZER]}
        held = {"apiVersion": SCALED_OBJECT[0], "kind": SCALED_OBJECT[1], "metadata": meta}
        await self.cluster.apply(held, field_manager="keda")
        labels = scaled["metadata"]["labels"]
        made = {
            "apiVersion": HPA[0],
            "kind": HPA[1],
            "metadata": {"name": "keda-hpa-papers-search", "namespace": self.place.namespace, "labels": labels},
            "spec": {"scaleTargetRef": scaled["spec"]["scaleTargetRef"], "minReplicas": 1, "maxReplicas": 8},
        }
        await self.cluster.apply(owned_by(made, scaled), field_manager="keda")
        self.cluster.writes.clear()

    def keda_lets_it_go(self) -> None:
        patch = '--patch={"metadata":{"finalizers":null}}'
        self._kubectl(
            "patch", "scaledobject/papers-search", f"--namespace={self.place.namespace}", "--type=merge", patch
        )

    def keda_s_autoscaler_is_collected(self) -> None:
        """Which takes the garbage collector up to half a minute for an owner of a kind that is new."""
        self._kubectl(
            "delete", "hpa/keda-hpa-papers-search", f"--namespace={self.place.namespace}", "--ignore-not-found"
        )

    async def begin_at(self, number: int) -> None:
        """Forgets what was noted, once it has come to this number."""
        async with asyncio.timeout(60):
            while self.numbers[-1:] != [number]:  # noqa: ASYNC110 - the watch tells nobody
                await asyncio.sleep(0.02)
        self.numbers.clear()

    async def note_numbers(self) -> None:
        def note(obj: Object) -> None:
            self.numbers.append(obj["spec"]["replicas"])

        def on_list(items: list[Object]) -> None:
            for obj in items:
                note(obj)

        where = path("apps/v1", "Deployment", self.place.namespace)
        await list_watch(self._api, where, on_list=on_list, on_event=lambda _, obj: note(obj))


@pytest.fixture
async def scaled(plane: Kubectl) -> AsyncIterator[Scaled]:
    optional_crds.install(plane, "ScaledObject")
    place = Place(f"test-{secrets.token_hex(4)}")
    plane("create", "namespace", place.namespace)
    plane.apply([place.secret("cortex-lake", dsn="postgresql://h/d"), place.secret("cortex-state", url="redis://h")])
    async with await Api.connect(kubeconfig=Path(plane.kubeconfig)) as api:
        scaled = Scaled(api, plane, place)
        noting = asyncio.create_task(scaled.note_numbers())
        yield scaled
        await cancelled(noting)


async def at_five(scaled: Scaled) -> None:
    """KEDA says that there are five pods. What was noted before is forgotten."""
    await scaled.apply(autoscaling=BY_QUERY)
    await scaled.until_scaled(1, SCALED_OBJECT)
    await scaled.keda_takes_it()
    scaled.write_number(5)
    await scaled.until_scaled(5, SCALED_OBJECT)
    await scaled.begin_at(5)


async def test_from_replicas_to_keda_the_number_stays_and_a_pass_without_news_writes_nothing(scaled: Scaled) -> None:
    await scaled.apply(replicas=3)
    await scaled.until_scaled(3, None)
    await scaled.begin_at(3)
    await scaled.apply(autoscaling=BY_QUERY)
    await scaled.until_scaled(3, SCALED_OBJECT)
    assert set(scaled.numbers) <= {3}
    assert (await scaled.says("AutoscalingReady"))["reason"] == "Pending"
    await scaled.once()
    scaled.cluster.writes.clear()
    await scaled.once()
    assert [write for write in scaled.cluster.writes if not write.startswith("status")] == []


@pytest.mark.parametrize(
    ("spec", "number", "kind"),
    [
        ({"replicas": 7}, 7, None),
        ({"autoscaling": BY_CPU}, 5, HPA),
        ({"autoscaling": BY_CPU, "suspend": True}, 0, None),
    ],
)
async def test_what_comes_after_keda_waits_until_it_has_let_go(
    scaled: Scaled, spec: dict[str, Any], number: int, kind: tuple[str, str] | None
) -> None:
    await at_five(scaled)
    await scaled.apply(**spec)
    for _ in range(5):
        await scaled.once()
    going = await scaled.find(*SCALED_OBJECT)
    assert going is not None
    assert "deletionTimestamp" in going["metadata"]
    assert await scaled.find(*HPA) is None
    assert set(scaled.numbers) <= {5}
    ready = await scaled.says("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Applying")
    assert "waits for ScaledObject papers-search and HorizontalPodAutoscaler keda-hpa-papers-search" in ready["message"]
    assert [write for write in scaled.cluster.writes if write.startswith("delete")] == [f"delete {ObjectKey.of(going)}"]

    scaled.keda_lets_it_go()
    for _ in range(3):
        await scaled.once()
    if await scaled.find(*HPA, "keda-hpa-papers-search"):  # the garbage collector may be quick
        assert set(scaled.numbers) <= {5}
        assert await scaled.find(*HPA) is None
    scaled.keda_s_autoscaler_is_collected()
    await scaled.until_scaled(number, kind)
    assert set(scaled.numbers) <= {5, number}


async def test_from_cpu_to_keda_the_operator_s_own_autoscaler_goes_first(scaled: Scaled) -> None:
    await scaled.apply(autoscaling=BY_CPU)
    await scaled.until_scaled(1, HPA)
    await scaled.apply(autoscaling=BY_QUERY)
    await scaled.until_scaled(1, SCALED_OBJECT)
    kinds = [write for write in scaled.cluster.writes if "HorizontalPodAutoscaler" in write or "ScaledObject" in write]
    assert [write.split()[0] for write in kinds] == ["delete", "apply"]


async def test_without_an_address_the_number_stays_and_the_condition_says_where_to_put_one(scaled: Scaled) -> None:
    await scaled.apply(replicas=3)
    await scaled.until_scaled(3, None)
    nowhere = {name: value for name, value in QUERY.items() if name != "serverAddress"}
    metrics = [{"type": "Prometheus", "prometheus": nowhere}]
    await scaled.apply(autoscaling={**BY_QUERY, "metrics": metrics})

    async def is_said() -> bool:
        return (await scaled.says("AutoscalingReady")).get("reason") == "MetricsSourceMissing"

    await scaled.until(is_said)
    assert "autoscaling.prometheusAddress" in (await scaled.says("AutoscalingReady"))["message"]
    await scaled.once()
    found = await scaled.find("apps/v1", "Deployment")
    assert found is not None
    assert found["spec"]["replicas"] == 3
    assert await scaled.find(*SCALED_OBJECT) is None
