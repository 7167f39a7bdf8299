"""The PodMonitor: where there is one, what it selects, whose labels it has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_index_manifest, a_cortex_workflow
from cortex_kinds.base import API_VERSION
from cortex_kinds.index import CortexIndex
from cortex_operator.cluster import MemoryCluster, ObjectKey
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job, workflow_objects
from cortex_operator.manifests.labels import Part
from cortex_operator.manifests.optional import POD_MONITOR
from cortex_operator.manifests.scale import Scale
from cortex_operator.reconcile.observe import find_leftovers
from cortex_operator.settings import OperatorSettings
from pydantic import ValidationError

BARE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
SERVED = replace(BARE, served=frozenset({POD_MONITOR}))
INDEX = a_cortex_index(metadata__uid="u")
PAPERS = ObjectKey(API_VERSION, "CortexIndex", "default", "papers")


def monitors(objects: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    return [obj for obj in objects if obj["kind"] == "PodMonitor"]


@pytest.mark.parametrize("release", [BARE, replace(BARE, pod_monitors=True), replace(SERVED, pod_monitors=False)])
def test_there_is_none_where_the_kind_is_not_served_or_not_wanted(release: ReleaseSettings) -> None:
    assert monitors(index_objects(INDEX, release)) == []


def test_it_selects_all_pods_of_its_resource_and_their_port() -> None:
    (monitor,) = monitors(index_objects(INDEX, SERVED))
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    deployment = next(obj for obj in index_objects(INDEX, SERVED) if obj["kind"] == "Deployment")
    for template in (deployment["spec"]["template"], ingest_job(INDEX, "0123456789", SERVED)["spec"]["template"]):
        assert wanted <= template["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in [port["name"] for port in template["spec"]["containers"][0]["ports"]]
    (other,) = monitors(workflow_objects(a_cortex_workflow(metadata__name="papers"), SERVED))
    assert not wanted <= other["spec"]["selector"]["matchLabels"].items()


def test_the_release_s_labels_are_there_and_ours_win() -> None:
    labels = {"release": "prometheus", "app.kubernetes.io/managed-by": "somebody"}
    (monitor,) = monitors(index_objects(INDEX, replace(SERVED, pod_monitor_labels=labels)))
    found = monitor["metadata"]["labels"]
    assert (found["release"], found["app.kubernetes.io/managed-by"]) == ("prometheus", "cortex-operator")


@pytest.mark.parametrize(("enabled", "gone"), [(False, True), (True, False)])
async def test_one_that_is_not_wanted_any_more_goes(enabled: bool, gone: bool) -> None:
    cluster = MemoryCluster()
    await cluster.apply(a_cortex_index_manifest())
    index = CortexIndex.model_validate(await cluster.get(PAPERS))
    (monitor,) = monitors(index_objects(index, SERVED))
    await cluster.apply(monitor)
    release = replace(SERVED, pod_monitors=enabled)
    found = await find_leftovers(cluster, Part(index, "search"), "papers-search", Scale(2), release)
    assert (ObjectKey.of(monitor) in [key for key, _ in found]) is gone


@pytest.mark.parametrize("labels", ['{"release": "not a label"}', '{"a b": "c"}'])
def test_labels_that_no_object_could_have_end_the_operator_at_its_start(
    labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SEARCH_IMAGE": "s", "GRAPH_IMAGE": "g", "POD_MONITOR_LABELS": labels}.items():
        monkeypatch.setenv(f"CORTEX_{name}", value)
    with pytest.raises(ValidationError, match="pod_monitor_labels"):
        OperatorSettings()
