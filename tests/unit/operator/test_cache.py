from __future__ import annotations

import copy
from typing import Any

import pytest
from cortex_operator.cluster import Cache, Event, EventType, Object, ObjectKey, Selection
from cortex_operator.cluster.cache_metrics import watch_cache
from cortex_operator.cluster.packed import pack, unpack
from prometheus_client import CollectorRegistry

POD = ("v1", "Pod")
APP = "app.kubernetes.io/instance"
ADDED, MODIFIED, DELETED = EventType.ADDED, EventType.MODIFIED, EventType.DELETED


def a_pod(name: str = "p", version: int = 1, *, uid: str = "u", namespace: str = "n", **labels: str) -> Object:
    meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    named = {APP if label == "app" else label: value for label, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, "labels": named}, "status": {"seen": version}}


KEY = ObjectKey.of(a_pod())


@pytest.fixture
def cache() -> Cache:
    """A cache of Pods, of which all was heard: there were none."""
    cache = Cache({POD: Selection(listed_by=APP)})
    assert cache.listed(*POD, cache.versions(*POD), set()) == ()
    return cache


def seen(cache: Cache, key: ObjectKey = KEY) -> Any:
    found = cache.get(key)
    return None if found is None else (found["metadata"]["uid"], found["status"]["seen"])


def test_a_kind_is_answered_once_all_of_it_was_heard_and_others_never() -> None:
    cache = Cache({POD: Selection(listed_by=APP)})
    cache.hear(Event(ADDED, a_pod()))
    assert not cache.follows(*POD)
    cache.listed(*POD, {}, {KEY})
    assert cache.follows(*POD)
    assert not cache.follows("v1", "Secret")
    secret = {**a_pod(), "kind": "Secret"}
    cache.wrote(secret)
    assert cache.get(ObjectKey.of(secret)) is None


def test_an_older_state_never_takes_the_place_of_a_newer_one_but_is_news(cache: Cache) -> None:
    # As texts "9" would be newer than "10".
    cache.wrote(a_pod(version=10))
    assert cache.hear(Event(MODIFIED, a_pod(version=9)))
    assert seen(cache) == ("u", 10)


def test_what_is_known_already_is_no_news(cache: Cache) -> None:
    assert cache.hear(Event(ADDED, a_pod(version=3)))
    assert not cache.hear(Event(MODIFIED, a_pod(version=3)))
    cache.wrote(a_pod(version=4))
    assert not cache.hear(Event(MODIFIED, a_pod(version=4)))
    assert cache.hear(Event(MODIFIED, a_pod(version=5)))


def test_a_deletion_is_of_one_uid(cache: Cache) -> None:
    cache.hear(Event(ADDED, a_pod(version=1, uid="old")))
    cache.wrote(a_pod(version=5, uid="new"))
    cache.hear(Event(MODIFIED, a_pod(version=2, uid="old")))
    cache.hear(Event(DELETED, a_pod(version=6, uid="old")))
    assert seen(cache) == ("new", 5)
    cache.hear(Event(DELETED, a_pod(version=7, uid="new")))
    assert seen(cache) is None


def test_what_this_process_deleted_does_not_come_back_by_what_is_heard_late(cache: Cache) -> None:
    cache.hear(Event(ADDED, a_pod(version=1)))
    cache.deleted(KEY, "u")
    cache.hear(Event(MODIFIED, a_pod(version=2)))
    assert seen(cache) is None
    assert cache.list(*POD, "n", {}) == []
    cache.hear(Event(ADDED, a_pod(version=4, uid="next")))
    assert seen(cache) == ("next", 4)


def test_a_list_of_everything_tells_what_is_gone_and_nothing_that_came_or_changed_meanwhile(cache: Cache) -> None:
    for name in ("gone", "stays", "changes"):
        cache.hear(Event(ADDED, a_pod(name, 1, uid=name)))
    before = cache.versions(*POD)
    cache.hear(Event(MODIFIED, a_pod("changes", 7, uid="changes")))
    cache.wrote(a_pod("new", 8, uid="new"))
    told = cache.listed(*POD, before, {ObjectKey.of(a_pod("stays"))})
    assert [(event.type, event.object["metadata"]["uid"]) for event in told] == [(DELETED, "gone")]
    cache.hear(told[0])
    assert [obj["metadata"]["name"] for obj in cache.list(*POD, "n", {})] == ["changes", "new", "stays"]


def test_an_object_that_lost_the_labels_of_what_is_watched_is_gone() -> None:
    cache = Cache({POD: Selection({"tier": "1"})})
    cache.wrote(a_pod(version=1, tier="1"))
    assert seen(cache) == ("u", 1)
    cache.wrote(a_pod(version=2, tier="2"))
    assert seen(cache) is None


def test_lists_are_by_namespace_and_labels_in_the_order_of_names(cache: Cache) -> None:
    for number, (name, namespace, app, tier) in enumerate(
        [("b", "n", "x", "1"), ("a", "n", "x", "2"), ("c", "n", "y", "1"), ("a", "m", "x", "1")]
    ):
        cache.hear(Event(ADDED, a_pod(name, number + 1, uid=str(number), namespace=namespace, app=app, tier=tier)))

    def names(namespace: str | None, **labels: str) -> list[str]:
        asked = {APP if label == "app" else label: value for label, value in labels.items()}
        return [f"{o['metadata']['namespace']}/{o['metadata']['name']}" for o in cache.list(*POD, namespace, asked)]

    assert names(None) == ["m/a", "n/a", "n/b", "n/c"]
    assert names("n", app="x") == ["n/a", "n/b"]
    assert names("n", app="x", tier="1") == ["n/b"]
    assert names(None, tier="1") == ["m/a", "n/b", "n/c"]
    assert names("nowhere") == names("n", app="z") == []
    cache.hear(Event(MODIFIED, a_pod("b", 9, uid="0", app="y")))
    assert names("n", app="x") == ["n/a"]
    assert names("n", app="y") == ["n/b", "n/c"]


def test_a_list_by_the_label_opens_only_what_has_it(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        cache.hear(Event(ADDED, a_pod(f"p{number}", number + 1, uid=str(number), app=f"app-{number}")))
    opened: list[bytes] = []

    def counting(packed: bytes) -> Object:
        opened.append(packed)
        return unpack(packed)

    monkeypatch.setattr("cortex_operator.cluster.cache.unpack", counting)
    assert len(cache.list(*POD, "n", {APP: "app-7"})) == 1
    assert len(opened) == 1


def test_a_known_outcome_holds_until_the_object_changes(cache: Cache) -> None:
    cache.wrote(a_pod(version=3))
    assert not cache.is_applied(KEY, b"digest")
    cache.applied(KEY, "2", b"digest")
    assert not cache.is_applied(KEY, b"digest")
    cache.applied(KEY, "3", b"digest")
    assert cache.is_applied(KEY, b"digest")
    assert not cache.is_applied(KEY, b"other")
    cache.hear(Event(MODIFIED, a_pod(version=4)))
    assert not cache.is_applied(KEY, b"digest")


def test_nobody_keeps_the_fields_of_others_and_what_is_read_of_no_pod() -> None:
    ours = {"manager": "cortex-operator", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"f:spec": {}}}
    pod = a_pod()
    pod["metadata"] |= {
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
        "managedFields": [
            ours,
            {**ours, "manager": "kubelet"},
            {**ours, "operation": "Update"},
            {**ours, "subresource": "status"},
        ],
    }
    container = {"name": "main", "readinessProbe": {"grpc": {"port": 1}}}
    pod["spec"] = {"nodeName": "node", "containers": [{**container, "env": [{"name": "A"}]}], "volumes": [{}]}
    before = copy.deepcopy(pod)
    kept = unpack(pack(pod))
    assert pod == before
    assert kept["metadata"]["annotations"] == {"a": "b"}
    assert kept["metadata"]["managedFields"] == [ours]
    assert kept["spec"] == {"nodeName": "node", "containers": [container]}
    assert kept["status"] == pod["status"]


def test_what_is_kept_and_who_answers_is_measured(cache: Cache) -> None:
    registry = CollectorRegistry()
    watch_cache(registry, cache)
    cache.hear(Event(ADDED, a_pod()))
    cache.reads["Pod", True] += 2
    cache.reads["Secret", False] += 1
    value = registry.get_sample_value
    assert value("cortex_operator_cache_objects", {"kind": "Pod"}) == 1
    assert (value("cortex_operator_cache_bytes", {"kind": "Pod"}) or 0) > 50
    assert value("cortex_operator_reads_total", {"kind": "Pod", "answered_by": "cache"}) == 2
    assert value("cortex_operator_reads_total", {"kind": "Secret", "answered_by": "server"}) == 1
