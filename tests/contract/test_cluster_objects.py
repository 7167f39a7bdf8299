from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing

import pytest
from cortex_operator.cluster import (
    EVERYWHERE,
    ApplyResult,
    Cluster,
    Conflict,
    Event,
    EventType,
    Invalid,
    Lingering,
    NotFound,
    ObjectKey,
)
from objects import Place, owned_by, until, until_gone

COLLECTED = 60.0
"""Seconds: a garbage collector learns only every 30 s of a kind that is new."""


async def test_a_new_index_has_a_status_that_says_nobody_has_seen_it(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    assert (await cluster.get(place.papers))["status"] == {"observedGeneration": -1}


async def test_apply_does_not_touch_the_status_and_patch_status_nothing_else(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    assert await cluster.patch_status(place.papers, {"observedGeneration": 1, "documents": 3}) is True
    before = await cluster.get(place.papers)
    await cluster.apply({**place.index(spec__replicas=2), "status": {"documents": 99}})
    after = await cluster.get(place.papers)
    assert after["status"]["documents"] == 3
    assert before["metadata"]["generation"] == 1
    assert after["metadata"]["generation"] == 2
    await cluster.patch_status(place.papers, {"observedGeneration": 2})
    patched = await cluster.get(place.papers)
    assert patched["metadata"]["generation"] == 2
    assert patched["spec"] == after["spec"]
    assert patched["status"] == {"observedGeneration": 2}


async def test_a_status_that_does_not_differ_is_not_written(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    await cluster.patch_status(place.papers, {"observedGeneration": 1})
    before = await cluster.get(place.papers)
    assert await cluster.patch_status(place.papers, {"observedGeneration": 1}) is False
    assert await cluster.get(place.papers) == before


async def test_a_status_of_nothing_and_a_status_that_is_wrong_are_refused(cluster: Cluster, place: Place) -> None:
    with pytest.raises(NotFound):
        await cluster.patch_status(place.papers, {"observedGeneration": 1})
    await cluster.apply(place.index())
    with pytest.raises(Invalid, match="observedGeneration"):
        await cluster.patch_status(place.papers, {"observedGeneration": "many"})


async def test_with_a_uid_only_the_status_of_that_very_object_is_replaced(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    before = await cluster.get(place.papers)
    with pytest.raises(NotFound, match="with uid another"):
        await cluster.patch_status(place.papers, {"observedGeneration": 1}, uid="another")
    assert await cluster.get(place.papers) == before
    with pytest.raises(Invalid, match="observedGeneration"):
        await cluster.patch_status(place.papers, {"observedGeneration": "many"}, uid=before["metadata"]["uid"])
    assert await cluster.patch_status(place.papers, {"observedGeneration": 1}, uid=before["metadata"]["uid"])
    assert (await cluster.get(place.papers))["status"] == {"observedGeneration": 1}


async def test_deleting_what_is_not_there_says_so(cluster: Cluster, place: Place) -> None:
    with pytest.raises(NotFound, match="settings"):
        await cluster.delete(place.settings)
    with pytest.raises(NotFound):
        await cluster.get(place.settings)


async def test_with_a_uid_only_that_very_object_is_deleted(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.config_map())
    with pytest.raises(NotFound):
        await cluster.delete(place.settings, uid="another")
    await cluster.delete(place.settings, uid=(await cluster.get(place.settings))["metadata"]["uid"])
    await until_gone(cluster, place.settings)


async def test_what_an_object_owns_goes_with_it_and_what_that_owns_too(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    await cluster.apply(owned_by(place.deployment(), await cluster.get(place.papers)))
    await cluster.apply(owned_by(place.config_map(), await cluster.get(place.web)))
    await cluster.apply(place.config_map("free"))
    await cluster.delete(place.papers)
    await until_gone(cluster, place.web, COLLECTED)
    await until_gone(cluster, place.settings, COLLECTED)
    assert await cluster.get(ObjectKey("v1", "ConfigMap", place.namespace, "free"))


async def test_an_object_whose_owner_is_gone_goes(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    owner = await cluster.get(place.papers)
    await cluster.delete(place.papers)
    await until_gone(cluster, place.papers)
    await cluster.apply(place.index())  # another of the same name
    await cluster.apply(owned_by(place.config_map(), owner))
    await until_gone(cluster, place.settings, COLLECTED)


async def test_an_object_of_somebody_else_is_not_taken_over(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    owner = await cluster.get(place.papers)
    await cluster.apply(place.config_map(colour="red"), field_manager="somebody")
    with pytest.raises(Invalid, match="settings is there already and was not made by Cortex"):
        await cluster.apply(owned_by(place.config_map(colour="blue"), owner))
    await cluster.apply(owned_by(place.config_map("theirs"), await cluster.get(place.settings)))
    with pytest.raises(Invalid, match="belongs to ConfigMap settings"):
        await cluster.apply(owned_by(place.config_map("theirs", colour="blue"), owner))
    assert (await cluster.get(place.settings))["data"] == {"colour": "red"}


async def test_what_is_ours_by_its_label_is_taken_back(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    orphan = place.config_map()
    orphan["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "cortex-operator"}
    await cluster.apply(orphan)
    assert await cluster.apply(owned_by(orphan, await cluster.get(place.papers))) is ApplyResult.CHANGED


async def test_what_the_namesake_left_is_waited_for(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    owner = await cluster.get(place.papers)
    held = place.config_map()
    held["metadata"]["finalizers"] = ["tests.datapunk.io/hold"]
    await cluster.apply(owned_by(held, owner))
    await cluster.delete(place.papers)
    await until_gone(cluster, place.papers)
    await cluster.apply(place.index())
    with pytest.raises(Lingering, match=r"that was deleted.*see metadata\.finalizers of ConfigMap settings"):
        await cluster.apply(owned_by(place.config_map(), await cluster.get(place.papers)))
    # From here on it has no owner: a garbage collector that had not come to it would leave it.
    await until(cluster, place.settings, lambda found: "deletionTimestamp" in found["metadata"], COLLECTED)
    held["metadata"]["finalizers"] = []
    await cluster.apply(held)
    await until_gone(cluster, place.settings, COLLECTED)


async def test_in_the_foreground_an_owner_goes_last(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index())
    owner = await cluster.get(place.papers)
    held = owned_by(place.config_map(), owner)
    held["metadata"]["finalizers"] = ["tests.datapunk.io/hold"]
    await cluster.apply(held)
    # A garbage collector that has taken this one, whose owner nobody knows, knows of the one that came before it.
    nobody = {**owner, "metadata": {**owner["metadata"], "name": "nobody", "uid": str(uuid.uuid4())}}
    await cluster.apply(owned_by(place.config_map("orphan"), nobody))
    await until_gone(cluster, ObjectKey("v1", "ConfigMap", place.namespace, "orphan"), COLLECTED)
    await cluster.delete(place.papers, foreground=True)
    assert "deletionTimestamp" in (await cluster.get(place.papers))["metadata"]
    await until(cluster, place.settings, lambda found: "deletionTimestamp" in found["metadata"], COLLECTED)
    assert await cluster.get(place.papers)
    held["metadata"]["finalizers"] = []
    await cluster.apply(held)
    await until_gone(cluster, place.papers, COLLECTED)
    await until_gone(cluster, place.settings, COLLECTED)


async def test_a_finalizer_keeps_an_object_until_it_is_taken_away(cluster: Cluster, place: Place) -> None:
    held = place.config_map()
    held["metadata"]["finalizers"] = ["tests.datapunk.io/hold"]
    await cluster.apply(held)
    await cluster.delete(place.settings)
    assert "deletionTimestamp" in (await cluster.get(place.settings))["metadata"]
    await cluster.apply(place.config_map())
    await until_gone(cluster, place.settings)


async def test_finalizers_are_replaced_as_they_were_read(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.index(metadata__finalizers=["tests.datapunk.io/author"]), field_manager="author")
    read = await cluster.get(place.papers)
    await cluster.set_finalizers(read, [*read["metadata"]["finalizers"], "tests.datapunk.io/hold"])
    with pytest.raises(Conflict):
        await cluster.set_finalizers(read, [])
    held = await cluster.get(place.papers)
    assert held["metadata"]["finalizers"] == ["tests.datapunk.io/author", "tests.datapunk.io/hold"]
    assert held["metadata"]["generation"] == read["metadata"]["generation"]

    # Who applied its own leaves ours alone, and ours goes though nobody owns it by an apply.
    await cluster.apply(place.index(spec__replicas=2), field_manager="author")
    assert (await cluster.get(place.papers))["metadata"]["finalizers"] == ["tests.datapunk.io/hold"]
    await cluster.delete(place.papers)
    await cluster.set_finalizers(await cluster.get(place.papers), [])
    await until_gone(cluster, place.papers)
    with pytest.raises(NotFound):
        await cluster.set_finalizers(held, [])


async def test_a_list_is_of_a_namespace_or_all_ordered_and_filtered_by_labels(
    cluster: Cluster, place: Place, other: Place
) -> None:
    for where, name, team in ((other, "a", "x"), (place, "b", "x"), (place, "a", "y")):
        labelled = where.secret(name)
        labelled["metadata"]["labels"] = {"team": team, "suite": place.namespace}
        await cluster.apply(labelled)

    async def listed(namespace: str | None = None, **labels: str) -> list[tuple[str, str]]:
        wanted = {"suite": place.namespace, **labels}
        found = await cluster.list("v1", "Secret", namespace=namespace, labels=wanted)
        return [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in found]

    one, two = place.namespace, other.namespace
    assert await listed(EVERYWHERE) == await listed()
    assert await listed() == [(one, "a"), (one, "b"), (two, "a")]
    assert await listed(one) == [(one, "a"), (one, "b")]
    assert await listed(team="x") == [(one, "b"), (two, "a")]
    assert await listed(one, team="x") == [(one, "b")]
    assert await listed(team="z") == []


async def test_a_watch_shows_what_is_there_and_then_what_changes(cluster: Cluster, place: Place, other: Place) -> None:
    await cluster.apply(place.secret("first"))
    async with asyncio.timeout(60), aclosing(cluster.watch("v1", "Secret", namespace=place.namespace)) as events:
        assert _short(await anext(events)) == ("ADDED", "first")
        await cluster.apply(other.secret("elsewhere"))
        await cluster.apply(place.secret("second"))
        assert _short(await anext(events)) == ("ADDED", "second")
        await cluster.apply(place.secret("second", a="1"))
        event = await anext(events)
        assert _short(event) == ("MODIFIED", "second")
        assert event.object["data"] == {"a": "MQ=="}
        await cluster.delete(ObjectKey("v1", "Secret", place.namespace, "first"))
        assert _short(await anext(events)) == ("DELETED", "first")


async def test_a_watch_tells_an_object_from_its_successor(cluster: Cluster, place: Place) -> None:
    key = ObjectKey("v1", "Secret", place.namespace, "first")
    await cluster.apply(place.secret("first"))
    async with asyncio.timeout(60), aclosing(cluster.watch("v1", "Secret", namespace=place.namespace)) as events:
        before = await anext(events)
        await cluster.delete(key)
        await until_gone(cluster, key)
        await cluster.apply(place.secret("first"))
        gone, new = await anext(events), await anext(events)
    assert (_short(gone), _short(new)) == (("DELETED", "first"), ("ADDED", "first"))
    assert gone.object["metadata"]["uid"] == before.object["metadata"]["uid"] != new.object["metadata"]["uid"]


async def test_a_slow_watcher_sees_the_last_state_of_everything(cluster: Cluster, place: Place) -> None:
    async with asyncio.timeout(60), aclosing(cluster.watch("v1", "Secret", namespace=place.namespace)) as events:
        await cluster.apply(place.secret("first"))
        await anext(events)
        for n in range(60):
            await cluster.apply(place.secret(f"c{n % 3}", n=str(n)))
        await cluster.delete(ObjectKey("v1", "Secret", place.namespace, "first"))
        seen: dict[str, str] = {"first": ""}
        while seen != {"c0": "NTc=", "c1": "NTg=", "c2": "NTk="}:
            event = await anext(events)
            seen[event.object["metadata"]["name"]] = event.object.get("data", {}).get("n", "")
            if event.type is EventType.DELETED:
                del seen[event.object["metadata"]["name"]]


async def test_a_kind_that_nobody_defined_is_not_served(cluster: Cluster) -> None:
    assert await cluster.served([("nobody.invalid/v1", "Nothing"), ("apps/v1", "Nothing")]) == frozenset()


def _short(event: Event) -> tuple[str, str]:
    return event.type.value, event.object["metadata"]["name"]
