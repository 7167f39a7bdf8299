from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from builders import a_cortex_index_manifest
from cortex_operator.cluster import Cluster, Event, EventType, Invalid, NotFound, ObjectKey
from objects import a_config_map, a_deployment, owned_by, until_gone

INDEX = ObjectKey("cortex.datapunk.io/v1alpha1", "CortexIndex", "default", "papers")
SETTINGS = ObjectKey("v1", "ConfigMap", "default", "settings")


async def test_a_new_index_has_a_status_that_says_nobody_has_seen_it(cluster: Cluster) -> None:
    await cluster.apply(a_cortex_index_manifest())
    assert (await cluster.get(INDEX))["status"] == {"observedGeneration": -1}


async def test_apply_does_not_touch_the_status_and_patch_status_nothing_else(cluster: Cluster) -> None:
    await cluster.apply(a_cortex_index_manifest())
    assert await cluster.patch_status(INDEX, {"observedGeneration": 1, "documents": 3}) is True
    before = await cluster.get(INDEX)
    await cluster.apply({**a_cortex_index_manifest(spec__replicas=2), "status": {"documents": 99}})
    after = await cluster.get(INDEX)
    assert after["status"]["documents"] == 3
    assert before["metadata"]["generation"] == 1
    assert after["metadata"]["generation"] == 2
    await cluster.patch_status(INDEX, {"observedGeneration": 2})
    patched = await cluster.get(INDEX)
    assert patched["metadata"]["generation"] == 2
    assert patched["spec"] == after["spec"]
    assert patched["status"] == {"observedGeneration": 2}


async def test_a_status_that_does_not_differ_is_not_written(cluster: Cluster) -> None:
    await cluster.apply(a_cortex_index_manifest())
    await cluster.patch_status(INDEX, {"observedGeneration": 1})
    before = await cluster.get(INDEX)
    assert await cluster.patch_status(INDEX, {"observedGeneration": 1}) is False
    assert await cluster.get(INDEX) == before


async def test_a_status_of_nothing_and_a_status_that_is_wrong_are_refused(cluster: Cluster) -> None:
    with pytest.raises(NotFound):
        await cluster.patch_status(INDEX, {"observedGeneration": 1})
    await cluster.apply(a_cortex_index_manifest())
    with pytest.raises(Invalid, match="observedGeneration"):
        await cluster.patch_status(INDEX, {"observedGeneration": "many"})


async def test_deleting_what_is_not_there_says_so(cluster: Cluster) -> None:
    with pytest.raises(NotFound, match="settings"):
        await cluster.delete(SETTINGS)
    with pytest.raises(NotFound):
        await cluster.get(SETTINGS)


async def test_with_a_uid_only_that_very_object_is_deleted(cluster: Cluster) -> None:
    await cluster.apply(a_config_map())
    with pytest.raises(NotFound):
        await cluster.delete(SETTINGS, uid="another")
    await cluster.delete(SETTINGS, uid=(await cluster.get(SETTINGS))["metadata"]["uid"])
    await until_gone(cluster, SETTINGS)


async def test_what_an_object_owns_goes_with_it_and_what_that_owns_too(cluster: Cluster) -> None:
    await cluster.apply(a_cortex_index_manifest())
    await cluster.apply(owned_by(a_deployment(), await cluster.get(INDEX)))
    deployment = ObjectKey("apps/v1", "Deployment", "default", "web")
    await cluster.apply(owned_by(a_config_map(), await cluster.get(deployment)))
    await cluster.apply(a_config_map("free"))
    await cluster.delete(INDEX)
    await until_gone(cluster, deployment)
    await until_gone(cluster, SETTINGS)
    assert [o["metadata"]["name"] for o in await cluster.list("v1", "ConfigMap", namespace="default")] == ["free"]


async def test_an_object_whose_owner_is_gone_goes(cluster: Cluster) -> None:
    await cluster.apply(a_cortex_index_manifest())
    owner = await cluster.get(INDEX)
    await cluster.delete(INDEX)
    await until_gone(cluster, INDEX)
    await cluster.apply(a_cortex_index_manifest())  # another of the same name
    await cluster.apply(owned_by(a_config_map(), owner))
    await until_gone(cluster, SETTINGS)


async def test_a_finalizer_keeps_an_object_until_it_is_taken_away(cluster: Cluster) -> None:
    held = a_config_map()
    held["metadata"]["finalizers"] = ["tests.datapunk.io/hold"]
    await cluster.apply(held)
    await cluster.delete(SETTINGS)
    assert "deletionTimestamp" in (await cluster.get(SETTINGS))["metadata"]
    await cluster.apply(a_config_map())
    await until_gone(cluster, SETTINGS)


async def test_a_list_is_of_a_namespace_or_all_ordered_and_filtered_by_labels(cluster: Cluster) -> None:
    for namespace, name, team in (("two", "a", "x"), ("one", "b", "x"), ("one", "a", "y")):
        labelled = a_config_map(name, namespace)
        labelled["metadata"]["labels"] = {"team": team, "suite": "listing"}
        await cluster.apply(labelled)

    async def listed(namespace: str | None = None, **labels: str) -> list[tuple[str, str]]:
        found = await cluster.list("v1", "ConfigMap", namespace=namespace, labels={"suite": "listing", **labels})
        return [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in found]

    assert await listed() == [("one", "a"), ("one", "b"), ("two", "a")]
    assert await listed("one") == [("one", "a"), ("one", "b")]
    assert await listed(team="x") == [("one", "b"), ("two", "a")]
    assert await listed("one", team="x") == [("one", "b")]
    assert await listed(team="z") == []


async def test_a_watch_shows_what_is_there_and_then_what_changes(cluster: Cluster) -> None:
    await cluster.apply(a_config_map("first", "watched"))
    async with asyncio.timeout(10), aclosing(cluster.watch("v1", "ConfigMap", namespace="watched")) as events:
        assert _short(await anext(events)) == ("ADDED", "first")
        await cluster.apply(a_config_map("elsewhere", "other"))
        await cluster.apply(a_config_map("second", "watched"))
        assert _short(await anext(events)) == ("ADDED", "second")
        await cluster.apply(a_config_map("second", "watched", a="1"))
        event = await anext(events)
        assert _short(event) == ("MODIFIED", "second")
        assert event.object["data"] == {"a": "1"}
        await cluster.delete(ObjectKey("v1", "ConfigMap", "watched", "first"))
        assert _short(await anext(events)) == ("DELETED", "first")


async def test_a_watch_tells_an_object_from_its_successor(cluster: Cluster) -> None:
    await cluster.apply(a_config_map())
    async with asyncio.timeout(10), aclosing(cluster.watch("v1", "ConfigMap", namespace="default")) as events:
        before = await anext(events)
        await cluster.delete(SETTINGS)
        await until_gone(cluster, SETTINGS)
        await cluster.apply(a_config_map())
        gone, new = await anext(events), await anext(events)
    assert (_short(gone), _short(new)) == (("DELETED", "settings"), ("ADDED", "settings"))
    assert gone.object["metadata"]["uid"] == before.object["metadata"]["uid"] != new.object["metadata"]["uid"]


async def test_a_slow_watcher_sees_the_last_state_of_everything(cluster: Cluster) -> None:
    async with asyncio.timeout(30), aclosing(cluster.watch("v1", "ConfigMap", namespace="slow")) as events:
        await cluster.apply(a_config_map("first", "slow"))
        await anext(events)
        for n in range(300):
            await cluster.apply(a_config_map(f"c{n % 3}", "slow", n=str(n)))
        await cluster.delete(ObjectKey("v1", "ConfigMap", "slow", "first"))
        seen: dict[str, str] = {"first": ""}
        while seen != {"c0": "297", "c1": "298", "c2": "299"}:
            event = await anext(events)
            seen[event.object["metadata"]["name"]] = event.object.get("data", {}).get("n", "")
            if event.type is EventType.DELETED:
                del seen[event.object["metadata"]["name"]]


def _short(event: Event) -> tuple[str, str]:
    return event.type.value, event.object["metadata"]["name"]
