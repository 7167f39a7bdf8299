"""`spec.cache`: from the spec to the settings that pods read, and what a change of it does."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_kinds.revision import index_definition, workflow_definition
from cortex_operator.manifests import ReleaseSettings, index_objects, workflow_objects
from cortex_operator.manifests.origin import SPEC_DIGEST
from cortex_workloads.runtime.settings import GraphSettings, SearchSettings, Settings

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
INDEX = {
    "queries": {"memory": "0", "ttl": "90s"},
    "answers": {"memory": "1Gi", "sharedEntry": "1Mi", "ttl": "24h"},
    "warming": {"requests": 0},
}
WORKFLOW = {"nodeResults": {"memory": "512Ki", "sharedEntry": "0"}}
ALL = {"CortexIndex": INDEX, "CortexWorkflow": WORKFLOW}
NAMES = ("_CACHE_", "_WARMING_")


def objects(kind: str, cache: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    if kind == "CortexIndex":
        made = index_objects(a_cortex_index(spec__cache=cache), RELEASE)
    else:
        made = workflow_objects(a_cortex_workflow(spec__cache=cache), RELEASE)
    return {obj["kind"]: obj for obj in made}


def told(kind: str, cache: dict[str, Any] | None) -> dict[str, str]:
    data: dict[str, str] = objects(kind, cache)["ConfigMap"]["data"]
    return {name: value for name, value in data.items() if any(part in name for part in NAMES)}


@pytest.mark.parametrize(
    ("kind", "settings", "wanted"),
    [
        (
            "CortexIndex",
            SearchSettings,
            {
                "query_cache_bytes": 0,
                "query_cache_seconds": 90.0,
                "answer_cache_bytes": 2**30,
                "answer_cache_shared_entry_bytes": 2**20,
                "answer_cache_seconds": 86400.0,
                "warming_requests": 0,
            },
        ),
        ("CortexWorkflow", GraphSettings, {"node_cache_bytes": 2**19, "node_cache_shared_entry_bytes": 0}),
    ],
)
def test_a_pod_reads_back_what_the_spec_says(
    kind: str, settings: type[Settings], wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in objects(kind, ALL[kind])["ConfigMap"]["data"].items():
        monkeypatch.setenv(name, value)
    read = settings()
    assert {name: getattr(read, name) for name in wanted} == wanted
    kept = {name for name in type(read).model_fields if any(part in f"_{name.upper()}" for part in NAMES)}
    assert kept == set(wanted), "a setting of a cache that spec.cache does not set"


@pytest.mark.parametrize("kind", ALL)
def test_what_is_as_by_default_changes_no_object_and_so_no_pod(kind: str) -> None:
    assert told(kind, None) == {}
    same = {"queries": {"memory": "65536Ki", "ttl": "60m"}} if kind == "CortexIndex" else {"nodeResults": {}}
    for cache in ({}, same):
        without, given = objects(kind, None), objects(kind, cache)
        assert without["ConfigMap"] == given["ConfigMap"]
        assert without["Deployment"]["spec"] == given["Deployment"]["spec"]


@pytest.mark.parametrize("kind", ALL)
def test_a_change_replaces_the_pods_and_moves_the_resource_to_the_release(kind: str) -> None:
    without, given = (objects(kind, cache)["Deployment"] for cache in (None, ALL[kind]))
    assert without["spec"]["template"] != given["spec"]["template"]
    digests = {made["metadata"]["annotations"][SPEC_DIGEST] for made in (without, given)}
    assert len(digests) == 2


def test_no_revision_is_built_for_a_size() -> None:
    assert index_definition(a_cortex_index(spec__cache=INDEX).spec) == index_definition(a_cortex_index().spec)
    given = workflow_definition(a_cortex_workflow(spec__cache=WORKFLOW).spec)
    assert given == workflow_definition(a_cortex_workflow().spec)


def test_one_field_alone_leaves_the_others_as_by_default() -> None:
    assert told("CortexIndex", {"answers": {"ttl": "500ms"}}) == {"CORTEX_ANSWER_CACHE_SECONDS": "0.5"}
    assert told("CortexWorkflow", {"nodeResults": {"memory": "1"}}) == {"CORTEX_NODE_CACHE_BYTES": "1"}
