"""The cluster's catalogue over an API server that lacks our kinds, refuses, goes away and comes back."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cortex_kinds.base import API_VERSION
from cortex_kube import listwatch
from cortex_kube.client import Api
from cortex_workloads.gateway import cluster
from cortex_workloads.runtime.catalogue import INDEX
from cortex_workloads.runtime.catalogue_kubernetes import KubernetesCatalogue, State
from cortex_workloads.runtime.health import Health
from cortex_workloads.runtime.server import StartError
from kubeconfig import kubeconfig

INDEXES = "/apis/cortex.datapunk.io/v1alpha1/cortexindexes"


class Collections:
    """What each path lists, or the status with which it is refused; watches stay open and silent until `cut`."""

    def __init__(self, server: Any) -> None:
        self.items: dict[str, list[dict[str, Any]]] = {}
        self.refused: dict[str, int] = {}
        self._cut = asyncio.Event()
        self.queries: dict[str, str] = {}
        server.answer = self._answer

    def cut(self) -> None:
        self._cut.set()
        self._cut = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        status = next((code for part, code in self.refused.items() if part in request.path), None)
        if status is not None:
            return web.json_response({"message": f"no {request.path}"}, status=status)
        if "watch" in request.query:
            cut = self._cut
            reply = web.StreamResponse()
            await reply.prepare(request)
            await cut.wait()
            return reply
        self.queries[request.path] = request.query.get("labelSelector", "")
        items = self.items.get(request.path, [])
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})


def an_index(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": INDEX, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listwatch, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(listwatch, "_MOST_SECONDS", 0.05)


@pytest.fixture
def collections(server: Any) -> Collections:
    return Collections(server)


async def until(catalogue: KubernetesCatalogue, wanted: Callable[[State], bool]) -> State:
    async with asyncio.timeout(60):
        async for state in catalogue.states():
            if wanted(state):
                return state
    raise AssertionError("states ended")


async def test_all_namespaces_are_three_lists(
    api: Api, collections: Collections, caplog: pytest.LogCaptureFixture
) -> None:
    collections.items[INDEXES] = [an_index("a", "one"), an_index("b", "two"), an_index("wrong", "two", nope=1)]
    async with KubernetesCatalogue(api) as catalogue:
        await until(catalogue, lambda state: state.ok)
        assert [str(found) for found in catalogue.list(INDEX)] == [f"{INDEX} one/a", f"{INDEX} two/b"]
    (line,) = (record.message for record in caplog.records)
    assert line.startswith(f"{INDEX} two/wrong is left out, it is not valid: spec.nope: ")
    assert collections.queries == {
        INDEXES: "",
        "/apis/cortex.datapunk.io/v1alpha1/cortexworkflows": "",
        "/apis/discovery.k8s.io/v1/endpointslices": "app.kubernetes.io/part-of=datapunk-cortex",
    }


async def test_some_namespaces_are_lists_of_their_own(api: Api, collections: Collections) -> None:
    for namespace in ("one", "two"):
        where = f"/apis/cortex.datapunk.io/v1alpha1/namespaces/{namespace}/cortexindexes"
        collections.items[where] = [an_index("a", namespace)]
    async with KubernetesCatalogue(api, ("one", "two")) as catalogue:
        await until(catalogue, lambda state: state.ok)
        assert [found.namespace for found in catalogue.list(INDEX)] == ["one", "two"]
    assert len(collections.queries) == 6


async def test_what_was_known_stands_while_the_server_is_away(api: Api, server: Any, collections: Collections) -> None:
    collections.items[INDEXES] = [an_index("a"), an_index("b")]
    async with KubernetesCatalogue(api) as catalogue:
        await until(catalogue, lambda state: state.ok)
        collections.cut()
        await server.stop()
        state = await until(catalogue, lambda state: not state.ok)
        assert state.reason == "APIServerUnavailable"
        assert server.url in state.message
        assert len(catalogue.list(INDEX)) == 2
        collections.items[INDEXES] = [an_index("b")]
        await server.start()
        await until(catalogue, lambda state: state.ok)
        assert [found.name for found in catalogue.list(INDEX)] == ["b"], "what went meanwhile is gone"


@pytest.fixture
async def followed(
    stack: AsyncExitStack, server: Any, collections: Collections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Health], Any]:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", server.url)))

    async def follow(health: Health) -> Any:
        return await stack.enter_async_context(cluster.followed((), health))

    return follow


async def settled(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - another task's state
            await asyncio.sleep(0.01)


async def test_missing_definitions_are_waited_for_with_one_line(
    followed: Any, collections: Collections, caplog: pytest.LogCaptureFixture
) -> None:
    collections.refused = {"cortex.datapunk.io": 404}
    health = Health()
    with caplog.at_level(logging.INFO, "cortex.catalogue"):
        await followed(health)
        await settled(lambda: bool(caplog.records))
        assert not health.ready
        assert health.checks["Catalogue"].reason == "ResourcesMissing"
        collections.refused = {}
        await settled(lambda: health.ready)
        await settled(lambda: len(caplog.records) > 1)
    first, second = (record.message for record in caplog.records)
    assert "waiting for the CustomResourceDefinitions" in first
    assert "cortexindexes.cortex.datapunk.io, cortexworkflows.cortex.datapunk.io" in first
    assert "the catalogue follows http://127.0.0.1" in second


async def test_a_server_that_goes_away_degrades_and_is_told_once(
    followed: Any, server: Any, collections: Collections, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health()
    await followed(health)
    await settled(lambda: health.ready and not health.degraded)
    with caplog.at_level(logging.WARNING, "cortex.catalogue"):
        collections.cut()
        await server.stop()
        await settled(lambda: health.degraded)
        assert health.ready, "what is known can still be asked"
        await server.start()
        await settled(lambda: not health.degraded)
    assert len(caplog.records) == 1, caplog.text
    assert json.dumps(health.explain()).count("false") == 2


async def test_no_cluster_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(StartError, match=r"there is no kubeconfig .*missing.*CORTEX_CATALOGUE_FILE"):
        async with cluster.followed((), Health()):
            pass
