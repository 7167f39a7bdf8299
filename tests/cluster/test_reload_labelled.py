"""The operator as a process: a labelled Secret that changes replaces the pods that read it, over a real API server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.reconcile.reload import RELOAD_DIGEST
from fault_proxy import FaultProxy
from objects import Place, until
from operators import OperatorProcess

LABEL = "cortex.datapunk.io/reload"


@pytest.fixture
async def cluster(api_server: Path) -> AsyncIterator[KubernetesCluster]:
    async with await Api.connect(kubeconfig=api_server) as api:
        yield KubernetesCluster(api)


@pytest.fixture
async def proxy(api_server: Path, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(tmp_path).before(api_server) as proxy:
        yield proxy


def a_secret(place: Place, name: str, labelled: bool, **data: str) -> Object:
    secret = place.secret(name, **data)
    labels = {"labels": {LABEL: "true"}} if labelled else {}
    return {**secret, "metadata": {**secret["metadata"], **labels}}


def digests(deployment: Object) -> dict[str, str]:
    text = deployment["spec"]["template"]["metadata"]["annotations"].get(RELOAD_DIGEST, "")
    return dict(entry.split("=") for entry in text.split(",") if entry)


async def test_a_labelled_secret_that_changes_replaces_the_pods_and_nothing_else_does(
    cluster: KubernetesCluster, proxy: FaultProxy, namespace: str, tmp_path: Path
) -> None:
    place = Place(namespace)
    search = ObjectKey("apps/v1", "Deployment", namespace, "papers-search")

    async def change(name: str, labelled: bool, **data: str) -> None:
        await cluster.apply(a_secret(place, name, labelled, **data))

    async def generation() -> Any:
        return (await cluster.get(search))["metadata"]["generation"]

    def start(number: int) -> OperatorProcess:
        return OperatorProcess(proxy.kubeconfig, tmp_path / f"operator-{number}.log", namespace, CORTEX_RELOAD="true")

    async def passes(operator: OperatorProcess, note: str) -> None:
        before = await asyncio.to_thread(operator.measure, "cortex_operator_passes_total")
        meta = {"name": "papers", "namespace": namespace, "annotations": {"team.example/note": note}}
        noted = {"apiVersion": place.papers.api_version, "kind": "CortexIndex", "metadata": meta}
        await cluster.apply(noted, field_manager="noter")
        await asyncio.to_thread(operator.until_measured, "cortex_operator_passes_total", before + 1)

    await change("cortex-lake", True, dsn="postgresql://lake.invalid/one")
    await change("cortex-state", False, url="redis://state.invalid")
    operator = start(1)
    try:
        await asyncio.to_thread(operator.until_ready)
        await cluster.apply(place.index(), field_manager="author")
        first = digests(await until(cluster, search, lambda _: True))
        assert first.keys() == {"secret/cortex-lake"}
        assert "lake.invalid" not in str(first)

        await change("cortex-lake", True, dsn="postgresql://lake.invalid/two")
        after = await until(cluster, search, lambda obj: digests(obj) != first)
        assert digests(after).keys() == first.keys()

        # Not labelled, not labelled any more, and labelled again.
        now = await generation()
        await change("cortex-state", False, url="redis://other.invalid")
        await change("cortex-lake", False, dsn="postgresql://lake.invalid/two")
        await passes(operator, "a")
        await change("cortex-lake", True, dsn="postgresql://lake.invalid/two")
        await passes(operator, "b")
        assert await generation() == now

        # The label alone: the pods may have an older value.
        await change("cortex-state", True, url="redis://other.invalid")
        await until(cluster, search, lambda obj: len(digests(obj)) == 2)
        # In good order: the next one need not wait for the Lease.
        assert await asyncio.to_thread(operator.stop) == 0
    finally:
        operator.kill()

    key = await cluster.get(ObjectKey("v1", "Secret", namespace, "cortex-operator-reload"))
    assert len(base64.b64decode(key["data"]["key"])) == 32
    now = await generation()
    operator = start(2)
    try:
        await asyncio.to_thread(operator.until_ready)
        await passes(operator, "c")
        assert await generation() == now
        suspended = {"apiVersion": place.papers.api_version, "kind": "CortexIndex", "spec": {"suspend": True}}
        meta = {"name": "papers", "namespace": namespace}
        await cluster.apply({**suspended, "metadata": meta}, field_manager="somebody")
        stopped = await until(cluster, search, lambda obj: obj["spec"]["replicas"] == 0)
        await change("cortex-lake", True, dsn="postgresql://lake.invalid/three")
        await asyncio.sleep(2.0)
        assert digests(await cluster.get(search)) == digests(stopped)
    finally:
        operator.kill()
    lists = [asked for asked in proxy.asked if asked.path.endswith("/secrets") and asked.method == "GET"]
    assert lists
    assert all("labelSelector=cortex.datapunk.io" in asked.query for asked in lists)
