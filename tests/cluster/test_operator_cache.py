"""Reads from what the watches told, before a real API server: what is not asked, and what a stale cache does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_operator.cluster import (
    ApplyResult,
    Cache,
    Conflict,
    Event,
    EventType,
    Invalid,
    NotFound,
    Object,
    ObjectKey,
    Selection,
)
from cortex_operator.cluster.kubernetes import KubernetesCluster
from fault_proxy import Asked, FaultProxy
from objects import Place, until
from operators import OperatorProcess

CONFIG_MAP = ("v1", "ConfigMap")
INDEX = (API_VERSION, "CortexIndex")


@dataclass
class Behind:
    """A cluster that reads from a cache which hears nothing, and the cluster as it is."""

    cluster: KubernetesCluster
    cache: Cache
    real: KubernetesCluster
    place: Place

    async def look(self) -> None:
        """The cache knows what is there now."""
        for kind in (CONFIG_MAP, INDEX):
            there = set()
            async for page in self.real.scan(*kind):
                for obj in page:
                    self.cache.hear(Event(EventType.MODIFIED, obj))
                    there.add(ObjectKey.of(obj))
            for gone in self.cache.listed(*kind, self.cache.versions(*kind), there):
                self.cache.hear(gone)

    async def known(self) -> Object:
        return await self.cluster.get(self.place.settings)


@pytest.fixture
async def proxy(api_server: Path, tmp_path: Path) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(tmp_path).before(api_server) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy: FaultProxy, api_server: Path, namespace: str) -> AsyncIterator[Behind]:
    cache = Cache(dict.fromkeys((CONFIG_MAP, INDEX), Selection()))
    async with await Api.connect(kubeconfig=proxy.kubeconfig) as api, await Api.connect(kubeconfig=api_server) as other:
        real = KubernetesCluster(other, [namespace])
        yield Behind(KubernetesCluster(api, [namespace], cache), cache, real, Place(namespace))


async def test_before_the_first_look_the_api_server_is_asked_and_after_it_nobody(
    behind: Behind, proxy: FaultProxy
) -> None:
    await behind.real.apply(behind.place.config_map(a="1"))
    assert (await behind.known())["data"] == {"a": "1"}
    assert [asked.method for asked in proxy.asked] == ["GET"]
    await behind.look()
    proxy.asked.clear()
    assert (await behind.known())["data"] == {"a": "1"}
    await behind.cluster.list(*CONFIG_MAP, namespace=behind.place.namespace)
    for _ in range(2):
        await behind.cluster.apply(behind.place.config_map(a="1"))
    assert proxy.asked == []
    await behind.cluster.apply(behind.place.config_map(a="2"))
    assert (await behind.known())["data"] == {"a": "2"}
    assert [asked.method for asked in proxy.asked] == ["PATCH"]


async def test_what_the_cache_lacks_is_made_by_one_request_which_is_refused_where_something_is(
    behind: Behind, proxy: FaultProxy
) -> None:
    await behind.look()
    await behind.real.apply(behind.place.config_map(a="1"))
    for data, result, methods in (
        ({"a": "1"}, ApplyResult.UNCHANGED, ["PATCH", "GET"]),
        ({"a": "2"}, ApplyResult.CHANGED, ["PATCH", "GET", "PATCH"]),
    ):
        assert await behind.cluster.apply(behind.place.config_map(**data)) is result
        assert [asked.method for asked in proxy.asked] == methods
        proxy.asked.clear()
    await behind.cluster.delete(behind.place.settings)
    for new in (behind.place.config_map(a="3"), behind.place.index()):
        proxy.asked.clear()
        assert await behind.cluster.apply(new) is ApplyResult.CREATED
        assert [asked.method for asked in proxy.asked] == ["PATCH"]


@pytest.mark.parametrize("status", [409, 422])
async def test_an_api_server_that_takes_no_version_of_what_it_is_to_make_is_asked_first(
    behind: Behind, proxy: FaultProxy, status: int
) -> None:
    await behind.look()
    proxy.fault = lambda _: status if len(proxy.asked) == 1 else 0
    assert await behind.cluster.apply(behind.place.config_map(a="1")) is ApplyResult.CREATED
    assert [asked.method for asked in proxy.asked] == ["PATCH", "GET", "PATCH"]
    assert (await behind.known())["data"] == {"a": "1"}


async def test_other_kinds_and_other_namespaces_are_asked_of_the_api_server(behind: Behind, proxy: FaultProxy) -> None:
    await behind.look()
    with pytest.raises(NotFound):
        await behind.cluster.get(ObjectKey("v1", "Secret", behind.place.namespace, "none"))
    elsewhere = await behind.cluster.get(ObjectKey(*CONFIG_MAP, "kube-system", "extension-apiserver-authentication"))
    assert elsewhere["metadata"]["namespace"] == "kube-system"
    assert len(proxy.asked) == 2


async def test_a_delete_is_of_the_uid_that_was_seen_and_a_refusal_brings_what_is_there(behind: Behind) -> None:
    await behind.real.apply(behind.place.config_map(a="1"))
    await behind.look()
    old = (await behind.known())["metadata"]["uid"]
    await behind.real.delete(behind.place.settings)
    await behind.real.apply(behind.place.config_map(a="2"))
    with pytest.raises(NotFound):
        await behind.cluster.delete(behind.place.settings, uid=old)
    new = await behind.known()
    assert new["data"] == {"a": "2"}
    await behind.cluster.delete(behind.place.settings, uid=new["metadata"]["uid"])
    with pytest.raises(NotFound):
        await behind.known()
    behind.cache.hear(Event(EventType.MODIFIED, new))
    with pytest.raises(NotFound):
        await behind.known()


async def test_a_status_is_of_the_uid_that_was_seen_and_one_request_decides(behind: Behind, proxy: FaultProxy) -> None:
    papers = behind.place.papers
    await behind.real.apply(behind.place.index())
    await behind.look()
    old = (await behind.cluster.get(papers))["metadata"]["uid"]
    assert await behind.cluster.patch_status(papers, {"observedGeneration": 1}, uid=old)
    assert [asked.method for asked in proxy.asked] == ["PATCH"]
    await behind.real.delete(papers)
    await behind.real.apply(behind.place.index())
    with pytest.raises(NotFound, match=f"with uid {old} is not there"):
        await behind.cluster.patch_status(papers, {"observedGeneration": 2}, uid=old)
    found = await behind.real.get(papers)
    assert found["status"] == {"observedGeneration": -1}
    assert (await behind.cluster.get(papers))["metadata"]["uid"] == found["metadata"]["uid"] != old


async def test_what_is_gone_without_being_heard_of_is_not_there_after_a_refusal(behind: Behind) -> None:
    await behind.real.apply(behind.place.config_map(a="1"))
    await behind.look()
    await behind.real.delete(behind.place.settings)
    assert (await behind.known())["data"] == {"a": "1"}
    with pytest.raises(NotFound):
        await behind.cluster.delete(behind.place.settings)
    with pytest.raises(NotFound):
        await behind.known()


async def test_what_is_not_watched_as_it_lacks_the_labels_is_not_taken_over(behind: Behind, api_server: Path) -> None:
    await behind.real.apply(behind.place.config_map(a="1"), field_manager="somebody")
    cache = Cache({CONFIG_MAP: Selection({"app.kubernetes.io/managed-by": "cortex-operator"})})
    assert cache.listed(*CONFIG_MAP, {}, set()) == ()
    taken = behind.place.config_map(a="2")
    owner = {"apiVersion": "v1", "kind": "Owner", "name": "o", "uid": "u", "controller": True}
    taken["metadata"]["ownerReferences"] = [owner]
    async with await Api.connect(kubeconfig=api_server) as api:
        with pytest.raises(Invalid, match="not made by Cortex"):
            await KubernetesCluster(api, cache=cache).apply(taken)
    assert (await behind.real.get(behind.place.settings))["data"] == {"a": "1"}


async def test_a_conflict_about_a_version_brings_the_one_that_is_there(behind: Behind) -> None:
    await behind.real.apply(behind.place.config_map(a="1"))
    await behind.look()
    stale = behind.place.config_map(a="3")
    stale["metadata"]["resourceVersion"] = (await behind.known())["metadata"]["resourceVersion"]
    await behind.real.apply(behind.place.config_map(a="2"))
    with pytest.raises(Conflict):
        await behind.cluster.apply(stale)
    found = await behind.known()
    assert found["data"] == {"a": "2"}
    stale["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
    await behind.cluster.apply(stale)
    assert (await behind.known())["data"] == {"a": "3"}


async def test_a_pass_over_an_unchanged_index_asks_for_nothing_and_slices_come_by_their_watch(
    proxy: FaultProxy, api_server: Path, namespace: str, tmp_path: Path
) -> None:
    place = Place(namespace)
    # Not the looks at what is served, which come whatever happens.
    seldom = {"CORTEX_DISCOVERY_SECONDS": "3600"}
    operator = OperatorProcess(proxy.kubeconfig, tmp_path / "operator.log", namespace, **seldom)
    try:
        async with await Api.connect(kubeconfig=api_server) as api:
            real = KubernetesCluster(api)
            await real.apply(place.secret("cortex-lake", dsn="postgresql://lake.invalid/cortex"))
            await real.apply(place.secret("cortex-state", url="redis://state.invalid"))
            await asyncio.to_thread(operator.until_ready)
            await real.apply(place.index(spec__replicas=0), field_manager="author")
            await until(real, place.papers, _is_scaled_to_zero)
            await asyncio.to_thread(operator.until_measured, 'cortex_operator_cache_objects{kind="EndpointSlice"}', 2)
            await _looked_twice(proxy, namespace)
            before = await _quiet(operator)
            proxy.asked.clear()
            await real.apply(_noted(place), field_manager="somebody")
            await asyncio.to_thread(operator.until_measured, "cortex_operator_passes_total", before + 1)
            asked = [asked.path for asked in proxy.asked if not asked.watches and "/leases/" not in asked.path]
            assert asked == []

            # What somebody takes away is made again, though the cache had it.
            service = ObjectKey("v1", "Service", namespace, "papers-search")
            uid = (await real.get(service))["metadata"]["uid"]
            await real.delete(service)
            await until(real, service, lambda o: o["metadata"]["uid"] != uid)
    finally:
        operator.kill()


async def test_what_is_deleted_while_no_watch_is_there_is_made_again(
    proxy: FaultProxy, api_server: Path, namespace: str, tmp_path: Path
) -> None:
    place = Place(namespace)
    operator = OperatorProcess(proxy.kubeconfig, tmp_path / "operator.log", namespace)
    service = ObjectKey("v1", "Service", namespace, "papers-search")
    try:
        async with await Api.connect(kubeconfig=api_server) as api:
            real = KubernetesCluster(api)
            await real.apply(place.secret("cortex-lake", dsn="postgresql://lake.invalid/cortex"))
            await real.apply(place.secret("cortex-state", url="redis://state.invalid"))
            await asyncio.to_thread(operator.until_ready)
            await real.apply(place.index(spec__replicas=0), field_manager="author")
            await until(real, place.papers, _is_scaled_to_zero)
            await _quiet(operator)
            uid = (await real.get(service))["metadata"]["uid"]
            watches = _Watches("/services")
            proxy.fault, proxy.too_old = watches.refused, watches.begun_anew
            proxy.break_streams()
            await proxy.until_asked(1, watches.refused)
            await real.delete(service)
            proxy.fault = lambda _: 0
            await until(real, service, lambda o: o["metadata"]["uid"] != uid)
            # The list that shows the gap comes before the watch that is told of it, which waits for its turn.
            async with asyncio.timeout(60):
                while not watches.told:  # noqa: ASYNC110 - the proxy tells nobody
                    await asyncio.sleep(0.05)
    finally:
        operator.kill()


class _Watches:
    """Of one collection: refused, and then told once that their version is too old."""

    def __init__(self, collection: str) -> None:
        self._collection = collection
        self.told = 0

    def refused(self, asked: Asked) -> int:
        return 503 if asked.watches and asked.path.endswith(self._collection) else 0

    def begun_anew(self, asked: Asked) -> bool:
        if self.told or not self.refused(asked):
            return False
        self.told += 1
        return True


def _is_scaled_to_zero(index: Object) -> bool:
    return any(c["reason"] == "ScaledToZero" for c in index["status"].get("conditions", ()))


async def _looked_twice(proxy: FaultProxy, namespace: str) -> None:
    """A start looks at everything, and once more when suspicions have settled, as kopf lists in between."""
    watched = {asked.path for asked in proxy.asked if asked.watches and "/leases" not in asked.path}
    assert f"/apis/cortex.datapunk.io/v1alpha1/namespaces/{namespace}/cortexindexes" in watched
    async with asyncio.timeout(60):
        while watched - {path for path, times in _lists(proxy).items() if times >= 3}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _lists(proxy: FaultProxy) -> Counter[str]:
    return Counter(asked.path for asked in proxy.asked if asked.lists)


async def _quiet(operator: OperatorProcess) -> float:
    """The number of passes, once there was none for a second."""
    found = -1.0
    while (now := await asyncio.to_thread(operator.measure, "cortex_operator_passes_total")) != found:
        found = now
        await asyncio.sleep(1.0)
    return found


def _noted(place: Place) -> Object:
    meta = {"name": "papers", "namespace": place.namespace, "annotations": {"team.example/note": "once"}}
    return {"apiVersion": place.papers.api_version, "kind": "CortexIndex", "metadata": meta}
