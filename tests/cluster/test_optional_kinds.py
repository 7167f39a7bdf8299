"""Kinds that a cluster may lack, on a control plane of the test's own: their definitions come and go."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import optional_crds
import pytest
from cortex_kube.client import Api
from cortex_operator.cluster import NotFound, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.manifests.optional import OPTIONAL, POD_MONITOR
from cortex_testbed.kubectl import Kubectl
from objects import Place, until
from operators import OperatorProcess

Starts = Callable[[], OperatorProcess]


@pytest.fixture
def place(plane: Kubectl) -> Place:
    """A namespace with the two Secrets."""
    place = Place(f"test-{secrets.token_hex(4)}")
    plane("create", "namespace", place.namespace)
    found = [place.secret("cortex-lake", dsn="postgresql://h/d"), place.secret("cortex-state", url="redis://h")]
    plane.apply(found)
    return place


@pytest.fixture
async def cluster(plane: Kubectl) -> AsyncIterator[KubernetesCluster]:
    async with await Api.connect(kubeconfig=Path(plane.kubeconfig)) as api:
        yield KubernetesCluster(api)


@pytest.fixture
def start(plane: Kubectl, place: Place, tmp_path: Path) -> Iterator[Starts]:
    """Starts an operator, as a kubelet does again when it ends; it looks every second at what is served."""
    started: list[OperatorProcess] = []

    def start() -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        kubeconfig, often = Path(plane.kubeconfig), {"CORTEX_DISCOVERY_SECONDS": "1"}
        labels = {"CORTEX_POD_MONITOR_LABELS": '{"release": "prometheus"}'}
        started.append(OperatorProcess(kubeconfig, log, place.namespace, **often, **labels))
        return started[-1]

    yield start
    for operator in started:
        operator.kill()


async def test_what_is_served_is_told_apart(plane: Kubectl, cluster: KubernetesCluster) -> None:
    optional_crds.remove(plane, "PodMonitor")
    asked = (*OPTIONAL, ("apps/v1", "Deployment"), ("apps/v1", "Nothing"))
    assert POD_MONITOR not in await cluster.served(asked)
    assert ("apps/v1", "Nothing") not in await cluster.served(asked)
    assert ("apps/v1", "Deployment") in await cluster.served(asked)
    optional_crds.install(plane, "PodMonitor")
    assert POD_MONITOR in await cluster.served(asked)


async def test_a_definition_that_comes_or_goes_ends_the_operator_in_order_and_the_next_one_acts_upon_it(
    plane: Kubectl, place: Place, cluster: KubernetesCluster, start: Starts
) -> None:
    monitor = ObjectKey(*POD_MONITOR, place.namespace, "papers-search")
    optional_crds.remove(plane, "PodMonitor")
    operator = start()
    await asyncio.to_thread(operator.until_ready)
    plane.apply([place.index()])
    await until(cluster, place.papers, lambda o: o["status"]["observedGeneration"] == 1)

    optional_crds.install(plane, "PodMonitor")
    assert await asyncio.to_thread(operator.ends) == 0
    assert operator.messages("the cluster serves PodMonitor (monitoring.coreos.com/v1) now")
    operator = start()
    await asyncio.to_thread(operator.until_ready)  # at once: the one before gave its Lease away
    made = await until(cluster, monitor, lambda _: True)
    assert made["metadata"]["labels"]["release"] == "prometheus"
    assert made["metadata"]["ownerReferences"][0]["name"] == "papers"
    selected = made["spec"]["selector"]["matchLabels"]
    deployment = await cluster.get(ObjectKey("apps/v1", "Deployment", place.namespace, "papers-search"))
    assert selected.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    await cluster.delete(monitor)
    await until(cluster, monitor, lambda o: o["metadata"]["uid"] != made["metadata"]["uid"])

    optional_crds.remove(plane, "PodMonitor")
    assert await asyncio.to_thread(operator.ends) == 0
    assert operator.messages("the cluster no longer serves PodMonitor (monitoring.coreos.com/v1)")
    operator = start()
    await asyncio.to_thread(operator.until_ready)
    plane.apply([place.index(spec__replicas=2)])
    await until(cluster, place.papers, lambda o: o["status"]["observedGeneration"] == 2)
    with pytest.raises(NotFound):
        await cluster.get(monitor)
    assert await asyncio.to_thread(operator.stop) == 0
