"""What `spec.autoscaling` allows."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from pydantic import ValidationError


def a_query(**fields: str) -> dict[str, Any]:
    return {"type": "Prometheus", "prometheus": {"query": "sum(up)", "threshold": "100", **fields}}


GOOD: list[tuple[dict[str, Any], list[tuple[str, str | None]]]] = [
    ({"maxReplicas": 3}, [("CPU", "70")]),
    ({"minReplicas": 3, "maxReplicas": 3, "metrics": [{"type": "Memory", "target": "120"}]}, [("Memory", "120")]),
    (
        {"maxReplicas": 3, "metrics": [{"type": "CPU", "target": "50"}, {"type": "Memory", "target": "80"}]},
        [("CPU", "50"), ("Memory", "80")],
    ),
    ({"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindow": "1h"}}}, [("CPU", "70")]),
    (
        {"maxReplicas": 3, "metrics": [a_query(), a_query(threshold="0.05"), {"type": "CPU", "target": "50"}]},
        [("Prometheus", None), ("Prometheus", None), ("CPU", "50")],
    ),
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "Field required"),
    ({"minReplicas": 0, "maxReplicas": 1}, "greater than or equal to 1"),
    ({"minReplicas": 3, "maxReplicas": 2}, "maxReplicas must be at least minReplicas"),
    ({"maxReplicas": 1001}, "less than or equal to 1000"),
    ({"maxReplicas": 2, "metrics": []}, "at least 1 item"),
    ({"maxReplicas": 2, "metrics": [{"type": "QueueLength", "target": "5"}]}, "'CPU', 'Memory' or 'Prom"),
    ({"maxReplicas": 2, "metrics": [{"type": "CPU", "target": "0"}]}, "pattern"),
    ({"maxReplicas": 2, "metrics": [{"type": "CPU", "target": "70%"}]}, "pattern"),
    (
        {"maxReplicas": 2, "metrics": [{"type": "CPU", "target": "7"}, {"type": "CPU", "target": "8"}]},
        "CPU and Memory once each",
    ),
    ({"maxReplicas": 2, "behavior": {"scaleDown": {"stabilizationWindow": "61m"}}}, "at most 1h"),
    ({"maxReplicas": 2, "metrics": [{"type": "CPU"}]}, "target is needed with the types CPU and Memory"),
    ({"maxReplicas": 2, "metrics": [{"type": "Prometheus"}]}, "prometheus is needed with type Prometheus"),
    ({"maxReplicas": 2, "metrics": [{**a_query(), "target": "70"}]}, "Prometheus has a threshold"),
    ({"maxReplicas": 2, "metrics": [{**a_query(), "type": "CPU", "target": "70"}]}, "for it only"),
    ({"maxReplicas": 2, "metrics": [a_query(threshold="0")]}, "pattern"),
    ({"maxReplicas": 2, "metrics": [a_query(threshold="0.00")]}, "pattern"),
    ({"maxReplicas": 2, "metrics": [a_query(serverAddress="prometheus:9090")]}, "pattern"),
    ({"maxReplicas": 2, "metrics": [a_query(serverAddress="http://me:secret@prometheus:9090")]}, "pattern"),
]


@pytest.mark.parametrize(("autoscaling", "metrics"), GOOD)
def test_both_kinds_take_autoscaling(autoscaling: dict[str, Any], metrics: list[tuple[str, str | None]]) -> None:
    for resource in (a_cortex_index(spec__autoscaling=autoscaling), a_cortex_workflow(spec__autoscaling=autoscaling)):
        assert resource.spec.autoscaling is not None
        assert [(m.type.value, m.target) for m in resource.spec.autoscaling.metrics] == metrics


@pytest.mark.parametrize(("autoscaling", "message"), BAD)
def test_what_cannot_be_carried_out_is_refused(autoscaling: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        a_cortex_index(spec__autoscaling=autoscaling)


def test_replicas_and_autoscaling_exclude_each_other() -> None:
    for make in (a_cortex_index, a_cortex_workflow):
        with pytest.raises(ValidationError, match="replicas and autoscaling exclude each other"):
            make(spec__replicas=1, spec__autoscaling={"maxReplicas": 2})


@pytest.mark.parametrize(
    ("spec", "desired", "most"),
    [
        ({}, 1, 1),
        ({"replicas": 3}, 3, 3),
        ({"replicas": 0}, 0, 0),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 8}}, 2, 8),
        ({"replicas": 3, "suspend": True}, 0, 3),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 8}, "suspend": True}, 0, 8),
    ],
)
def test_how_many_pods_there_are_to_be(spec: dict[str, Any], desired: int, most: int) -> None:
    resource = a_cortex_index(spec=spec)
    assert (resource.spec.desired_replicas, resource.spec.most_replicas) == (desired, most)
