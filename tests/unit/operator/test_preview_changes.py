"""Differences of objects, and who set what."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_operator.cluster.fields import Item, field_set
from cortex_operator.cluster.managed import owners_of
from cortex_operator.preview.changes import field_changes, handed_over
from objects import a_deployment, a_secret


def told(before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    return [(change.path, change.before, change.after) for change in field_changes(before, after)]


def a_container(**fields: Any) -> dict[str, Any]:
    return {"name": "main", "image": "registry.invalid/web:1", **fields}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"replicas": 2}, [("spec.replicas", None, 2)]),
        ({"paused": False}, {}, []),
        ({"replicas": 2}, {"replicas": 0}, [("spec.replicas", 2, 0)]),
        (
            {"containers": [a_container(resources={"limits": {"cpu": "1", "memory": "1Gi"}})]},
            {"containers": [a_container(resources={"limits": {"cpu": "1000m", "memory": "2Gi"}})]},
            [("spec.template.spec.containers[main].resources.limits.memory", "1Gi", "2Gi")],
        ),
        (
            {"containers": [a_container(env=[{"name": "A", "value": "1"}])]},
            {"containers": [a_container(env=[{"name": "B", "value": ""}])]},
            [
                ("spec.template.spec.containers[main].env[A]", {"name": "A", "value": "1"}, None),
                ("spec.template.spec.containers[main].env[B]", None, {"name": "B", "value": ""}),
            ],
        ),
    ],
)
def test_fields_that_differ_are_named_with_both_values(
    before: dict[str, Any], after: dict[str, Any], expected: list[tuple[str, Any, Any]]
) -> None:
    assert told(a_deployment(**before), a_deployment(**after)) == expected


def test_what_the_api_server_keeps_is_no_difference() -> None:
    before = a_deployment()
    after = {**before, "metadata": {**before["metadata"], "uid": "u", "generation": 4, "managedFields": []}}
    after["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    assert told(before, {**after, "status": {"replicas": 1}}) == []


def test_of_a_secret_no_value_is_told() -> None:
    before, after = ({**a_secret("s"), "data": {"a": value}} for value in ("b2xk", "bmV3"))
    assert told(before, after) == [("data", "(hidden)", "(hidden)")]


def test_managed_fields_are_the_field_set_of_what_was_applied() -> None:
    config = a_deployment(replicas=2, containers=[a_container(env=[{"name": "A", "value": "1"}])])
    fields = {
        "f:metadata": {"f:finalizers": {'v:"a"': {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {
                    "f:containers": {
                        'k:{"name":"main"}': {
                            ".": {}, "f:name": {}, "f:image": {},
                            "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
                        }
                    }
                },
            },
        },
    }  # fmt: skip
    entry = {"manager": "m", "operation": "Apply", "fieldsV1": fields}
    other = {"manager": "m", "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}}

    found = owners_of({"metadata": {"managedFields": [entry, other]}})

    identity = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
    assert found["m"] == (field_set(config) - identity) | {("metadata", "finalizers", Item(("a",)))}
    assert found["m Update scale"] == {("spec", "replicas")}


def test_a_field_that_is_left_to_others_is_told_though_its_value_stays() -> None:
    config = a_deployment(replicas=2)
    before, after = field_set(config), field_set(a_deployment())
    assert [(c.path, c.before, c.after) for c in handed_over(before, after, config)] == [("spec.replicas", 2, 2)]
    assert handed_over(before, before, config) == ()
