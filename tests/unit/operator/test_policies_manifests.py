"""The policies of a resource: from `spec.resilience` to the file that its pods follow; and that they replace no pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_kinds.revision import index_definition, workflow_definition
from cortex_operator.manifests import ReleaseSettings, index_objects, workflow_objects
from cortex_workloads.runtime.resilience.live import Live
from cortex_workloads.runtime.resilience.policies import (
    BreakerPolicy,
    GraphPolicies,
    Policies,
    SearchLimit,
    SearchLimits,
    SearchPolicies,
    WritingLimit,
)
from cortex_workloads.runtime.settings import POLICIES_FILE

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
BREAKER = {"failureRatio": "0.25", "minimumCalls": 3, "window": "1m", "open": "500ms", "probe": "1h", "slow": "2s"}
LIMIT = {"concurrent": 3, "waiting": 0, "wait": "1s500ms"}


def objects(kind: str, resilience: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    if kind == "CortexIndex":
        made = index_objects(a_cortex_index(spec__resilience=resilience), RELEASE)
    else:
        made = workflow_objects(a_cortex_workflow(spec__resilience=resilience), RELEASE)
    return {obj["kind"]: obj for obj in made}


@pytest.mark.parametrize(
    ("kind", "resilience", "wanted"),
    [
        (
            "CortexIndex",
            {"limits": {"search": LIMIT}},
            SearchPolicies(
                limits=SearchLimits(
                    search=SearchLimit(concurrent=3, waiting=0, wait_seconds=1.5), writing=WritingLimit()
                )
            ),
        ),
        (
            "CortexWorkflow",
            {"circuitBreaker": BREAKER},
            GraphPolicies(
                breaker=BreakerPolicy(
                    failure_ratio=0.25,
                    minimum_calls=3,
                    window_seconds=60,
                    open_seconds=0.5,
                    probe_seconds=3600,
                    slow_seconds=2,
                )
            ),
        ),
    ],
)
def test_a_pod_reads_back_what_the_spec_says(
    kind: str, resilience: dict[str, Any], wanted: Policies, tmp_path: Path
) -> None:
    made = objects(kind, resilience)
    pod = made["Deployment"]["spec"]["template"]["spec"]
    (volume,) = [volume["configMap"] for volume in pod["volumes"] if volume["name"] == "policies"]
    (item,) = volume["items"]
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "policies"]
    config = made["ConfigMap"]
    assert volume["name"] == config["metadata"]["name"]
    assert config["data"]["CORTEX_POLICIES_FILE"] == f"{mount['mountPath']}/{item['path']}" == str(POLICIES_FILE)
    file = tmp_path / "policies.json"
    file.write_text(config["data"][item["key"]])
    assert Live(type(wanted)(), file).now == wanted


@pytest.mark.parametrize(
    ("kind", "resilience"),
    [("CortexIndex", {"limits": {"search": LIMIT}}), ("CortexWorkflow", {"circuitBreaker": BREAKER})],
)
def test_no_pod_is_replaced_for_a_policy(kind: str, resilience: dict[str, Any]) -> None:
    without, given = objects(kind, None), objects(kind, resilience)
    assert without["Deployment"] == given["Deployment"]
    assert without["ConfigMap"] != given["ConfigMap"]


def test_no_revision_is_built_for_a_policy() -> None:
    index, workflow = {"limits": {"search": LIMIT}}, {"circuitBreaker": BREAKER}
    assert index_definition(a_cortex_index(spec__resilience=index).spec) == index_definition(a_cortex_index().spec)
    given = workflow_definition(a_cortex_workflow(spec__resilience=workflow).spec)
    assert given == workflow_definition(a_cortex_workflow().spec)


@pytest.mark.parametrize("kind", ["CortexIndex", "CortexWorkflow"])
def test_what_is_as_by_default_is_not_told(kind: str) -> None:
    assert objects(kind, None) == objects(kind, {})
    some: dict[str, Any] = {"circuitBreaker": {"open": "1s"}}
    wanted: dict[str, Any] = {"breaker": {"openSeconds": 1}}
    if kind == "CortexIndex":
        some = wanted = {"limits": {"writing": {"waiting": 1}}}
    assert json.loads(objects(kind, some)["ConfigMap"]["data"][POLICIES_FILE.name]) == wanted
