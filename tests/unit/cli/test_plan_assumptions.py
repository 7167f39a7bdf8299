"""What a plan takes from the cluster: the operator's settings, what kubectl sent before; and the local cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import a_cortex_index_manifest
from cortex_cli.local.plan import plan_local
from cortex_cli.local.release import local_release
from cortex_cli.local.store import Store
from cortex_cli.planning.patches import last_applied, merge_patch, patched
from cortex_operator.cluster import Invalid, MemoryCluster, Object
from cortex_operator.settings import settings_of
from previews import key_of, reconciled
from pydantic import ValidationError

NEEDED = {"CORTEX_SEARCH_IMAGE": "s", "CORTEX_GRAPH_IMAGE": "g"}


def test_settings_are_read_from_the_environment_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORTEX_DRAIN_SECONDS", "77")
    pools = '[{"name": "research", "nodeSelector": {"team": "r"}}]'

    settings = settings_of({**NEEDED, "CORTEX_GPU_POOLS": pools, "CORTEX_WATCH_NAMESPACES": '["a"]', "PATH": "/bin"})

    assert settings.drain_seconds == 10
    assert settings.release.gpu_pools is not None
    assert [pool.name for pool in settings.release.gpu_pools] == ["research"]
    assert settings.watch_namespaces == ("a",)
    monkeypatch.setenv("CORTEX_SEARCH_IMAGE", "mine")
    with pytest.raises(ValidationError):
        settings_of({"CORTEX_GRAPH_IMAGE": "g"})


@pytest.mark.parametrize(
    ("last", "manifest", "live", "expected"),
    [
        ({"a": 1}, {"a": 2}, {"a": 1, "b": 1}, {"a": 2, "b": 1}),
        ({"a": 1}, {}, {"a": 1, "b": 1}, {"b": 1}),
        ({"s": {"a": 1, "b": 1}}, {"s": {"b": 1}}, {"s": {"a": 1, "b": 1, "c": 1}}, {"s": {"b": 1, "c": 1}}),
        ({"l": [1, 2]}, {"l": [3]}, {"l": [1, 2]}, {"l": [3]}),
        ({}, {"s": {"a": {"b": 1}}}, {"s": "text"}, {"s": {"a": {"b": 1}}}),
    ],
)
def test_what_was_applied_the_last_time_and_is_gone_goes(
    last: Object, manifest: Object, live: Object, expected: Object
) -> None:
    assert patched(live, merge_patch(last, manifest)) == expected


def test_an_annotation_that_is_no_object_counts_as_none() -> None:
    name = "kubectl.kubernetes.io/last-applied-configuration"
    for text in ("{", "[]", ""):
        assert last_applied({"metadata": {"annotations": {name: text}}}) is None
    assert last_applied({"metadata": {"annotations": {name: '{"a": 1}'}}}) == {"a": 1}


async def a_local_cluster(folder: Path, *manifests: Object) -> tuple[MemoryCluster, Store, dict[str, Any]]:
    cluster, sources = MemoryCluster(), {"/files": list(manifests)}
    store = Store(cluster, folder / "applied.json")
    await store.set_url("postgres", "postgresql://h/d")
    await store.set_url("valkey", "redis://h")
    await store.apply(sources, {})
    await reconciled(cluster, *map(key_of, manifests), release=local_release())
    return cluster, store, sources


async def test_the_local_cluster_is_asked_and_left_as_it_is(tmp_path: Path) -> None:
    papers, notes = (
        a_cortex_index_manifest(),
        a_cortex_index_manifest(metadata__name="notes", spec__deletionPolicy="Delete"),
    )
    cluster, store, sources = await a_local_cluster(tmp_path, papers, notes)
    before = list(cluster.records())
    remembered = (tmp_path / "applied.json").read_bytes()

    same = await plan_local(cluster, store, local_release(), sources)
    assert not same["changes"]
    new = a_cortex_index_manifest(metadata__name="new", metadata__namespace="other", spec__gpu={"count": 1})
    scaled = a_cortex_index_manifest(spec__replicas=2)
    document = await plan_local(cluster, store, local_release(), {"/files": [scaled, new]})

    assert {plan["name"]: plan["action"] for plan in document["resources"]} == {
        "papers": "Change",
        "new": "Create",
        "notes": "Delete",
    }
    plans = {plan["name"]: plan for plan in document["resources"]}
    assert plans["new"]["missing"] == []
    assert plans["new"]["placement"]["fits"] == "Unknown"
    assert {each["action"] for each in plans["notes"]["objects"]} == {"Delete"}
    assert "notes-search" in {each["name"] for each in plans["notes"]["objects"]}
    assert list(cluster.records()) == before
    assert (tmp_path / "applied.json").read_bytes() == remembered


async def test_what_the_local_cluster_would_refuse_is_an_error(tmp_path: Path) -> None:
    cluster, store, _ = await a_local_cluster(tmp_path)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "UPPER"}}
    with pytest.raises(Invalid, match="UPPER"):
        await plan_local(cluster, store, local_release(), {"/files": [config]})
