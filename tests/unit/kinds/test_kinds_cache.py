"""What `spec.cache` allows, and that its defaults are those of the processes."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_kinds.cache import MOST_WARMED, IndexCache, WorkflowCache
from cortex_kinds.validate import validate_text
from cortex_workloads.runtime.settings import GraphSettings, SearchSettings
from pydantic import ValidationError

BAD_MEMORY: list[tuple[dict[str, Any], str]] = [
    *(
        ({"memory": size}, "up to 9999Mi or 9Gi")
        for size in ("500m", "0.5Gi", "10Gi", "10000Mi", "1Ti", "10000000000k")
    ),
    *(({"memory": size}, "pattern") for size in ("64MB", "-1", "all", "64 Mi")),
    ({"memory": 0}, "valid string"),
    ({"memoryBytes": "1Mi"}, "Extra inputs"),
]
BAD_ENTRY: list[tuple[dict[str, Any], str]] = [
    *(({"sharedEntry": size}, "up to 999Ki or 1Mi") for size in ("2Mi", "1Gi", "1000Ki", "1m", "0.5Mi")),
]
BAD_TTL: list[tuple[dict[str, Any], str]] = [
    *(({"ttl": time}, "at most 24h") for time in ("25h", "24h1ms", "1441m")),
    *(({"ttl": time}, "pattern") for time in ("0s", "1d")),
    ({"ttl": 60}, "valid string"),
]
SIZES = [("0", 0), ("0Mi", 0), ("1", 1), ("512Ki", 2**19), ("64Mi", 2**26), ("64M", 64 * 10**6), ("9Gi", 9 * 2**30)]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        *(("queries", *bad) for bad in [*BAD_MEMORY, *BAD_TTL, ({"sharedEntry": "1Ki"}, "Extra inputs")]),
        *(("answers", *bad) for bad in [*BAD_MEMORY, *BAD_ENTRY, *BAD_TTL]),
        ("warming", {"requests": -1}, "greater than or equal to 0"),
        ("warming", {"requests": MOST_WARMED + 1}, "less than or equal to 1000"),
        ("warming", {"requests": "64"}, "valid integer"),
        ("nodeResults", {}, "Extra inputs"),
    ],
)
def test_what_an_index_cannot_keep_is_refused(name: str, value: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        a_cortex_index(spec__cache={name: value})


@pytest.mark.parametrize(("value", "says"), [*BAD_MEMORY, *BAD_ENTRY, ({"ttl": "1h"}, "Extra inputs")])
def test_what_a_workflow_cannot_keep_is_refused(value: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        a_cortex_workflow(spec__cache={"nodeResults": value})


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes_are_whole_bytes(text: str, size: int) -> None:
    for found in (
        IndexCache.model_validate({"queries": {"memory": text}}).queries,
        IndexCache.model_validate({"answers": {"memory": text}}).answers,
        WorkflowCache.model_validate({"nodeResults": {"memory": text}}).node_results,
    ):
        assert found.memory_bytes == size


@pytest.mark.parametrize("entry", ["0", "999999", "999k", "999Ki", "1Mi"])
@pytest.mark.parametrize("time", ["1ms", "24h"])
def test_whatever_the_spec_allows_a_pod_takes(entry: str, time: str) -> None:
    answers = IndexCache.model_validate({"answers": {"sharedEntry": entry, "ttl": time}}).answers
    read = SearchSettings(
        answer_cache_shared_entry_bytes=answers.shared_entry_bytes, answer_cache_seconds=answers.ttl_seconds
    )
    assert read.answer_cache_shared_entry_bytes <= 2**20
    assert 0 < read.answer_cache_seconds <= 24 * 3600
    assert SearchSettings(warming_requests=MOST_WARMED)


def test_without_the_field_pods_keep_what_they_kept() -> None:
    """Other defaults are a change of every pod: they belong to a release of their own."""
    index, workflow = SearchSettings(), GraphSettings()
    assert (index.query_cache_bytes, index.query_cache_seconds) == (64 * 2**20, 3600.0)
    assert (index.answer_cache_bytes, index.answer_cache_seconds) == (64 * 2**20, 3600.0)
    assert (index.answer_cache_shared_entry_bytes, index.warming_requests) == (256 * 2**10, 64)
    assert (workflow.node_cache_bytes, workflow.node_cache_shared_entry_bytes) == (64 * 2**20, 256 * 2**10)


@pytest.mark.parametrize("limit", ["128Mi", "100Mi", 134217728])
def test_caches_that_leave_nothing_of_the_own_limit_are_refused(limit: str | int) -> None:
    says = r"resources\.limits\.memory .* is used up by cache\.queries\.memory 64Mi and cache\.answers\.memory 64Mi"
    with pytest.raises(ValidationError, match=says):
        a_cortex_index(spec__cache={"warming": {"requests": 1}}, spec__resources={"limits": {"memory": limit}})
    with pytest.raises(ValidationError, match=r"is used up by cache\.nodeResults\.memory 1Gi: lower them"):
        a_cortex_workflow(spec__cache={"nodeResults": {"memory": "1Gi"}}, spec__resources={"limits": {"memory": limit}})


def test_other_limits_are_nobodys_mistake() -> None:
    small = {"limits": {"memory": "100Mi"}}
    assert a_cortex_index(spec__resources=small).spec.cache is None, "it kept as much before the field was there"
    both = {"queries": {"memory": "0"}, "answers": {"memory": "64Mi"}}
    assert a_cortex_index(spec__resources=small, spec__cache=both)
    assert a_cortex_index(spec__cache={"answers": {"memory": "9Gi"}}), "the release's limit is not known"
    assert a_cortex_index(spec__resources={"limits": {"memory": 0}}, spec__cache={}), "0 is no limit"


def test_a_mistake_is_told_at_its_line() -> None:
    (problem,) = validate_text(
        "apiVersion: cortex.datapunk.io/v1alpha1\n"
        "kind: CortexIndex\n"
        "metadata: {name: papers}\n"
        "spec:\n"
        "  cache:\n"
        "    answers:\n"
        "      memory: 64Gi\n",
        "f.yaml",
    )
    assert str(problem).startswith("f.yaml:7:"), problem
    assert "spec.cache.answers.memory: memory is a whole quantity up to 9999Mi or 9Gi" in str(problem)
