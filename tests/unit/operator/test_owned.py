"""What an apply would change, told from managedFields as an API server writes them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cortex_operator.cluster.owned import is_applied

Change = dict[str, Any]

CONFIG: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "n", "labels": {"app": "web"}},
    "spec": {
        "replicas": 1,
        "paused": False,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "command": ["a", "b"],
                        "ports": [{"containerPort": 80}],
                        "resources": {"limits": {"cpu": "1000m"}},
                    }
                ]
            }
        },
    },
}
CONTAINER_FIELDS = {
    ".": {},
    "f:name": {},
    "f:command": {},
    "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
    "f:resources": {"f:limits": {"f:cpu": {}}},
}
FIELDS = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:paused": {},
        "f:template": {"f:spec": {"f:containers": {'k:{"name":"main"}': CONTAINER_FIELDS}}},
    },
}


def live() -> dict[str, Any]:
    """CONFIG as an API server keeps it: defaults added, false left out, quantities in their shortest form."""
    obj = copy.deepcopy(CONFIG)
    container = obj["spec"]["template"]["spec"]["containers"][0]
    container["ports"][0]["protocol"] = "TCP"
    container["resources"]["limits"]["cpu"] = "1"
    container["imagePullPolicy"] = "IfNotPresent"
    obj["spec"]["template"]["spec"]["containers"].insert(0, {"name": "sidecar", "image": "s"})
    del obj["spec"]["paused"]
    obj["metadata"]["managedFields"] = [
        {"manager": "me", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": copy.deepcopy(FIELDS)},
        {"manager": "me", "operation": "Update", "apiVersion": "apps/v1", "fieldsV1": {"f:status": {}}},
    ]
    return obj


def test_what_is_there_with_equal_values_and_the_same_owner_is_applied() -> None:
    assert is_applied(CONFIG, live(), "me")


def test_another_manager_has_applied_nothing() -> None:
    assert not is_applied(CONFIG, live(), "you")


def _set(obj: dict[str, Any], path: str, value: Any) -> None:
    *way, last = path.split(".")
    node: Any = obj
    for step in way:
        node = node[int(step) if isinstance(node, list) else step]
    node[int(last) if isinstance(node, list) else last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.replicas", 2),
        ("spec.replicas", "1"),
        ("spec.paused", True),
        ("metadata.labels.app", "other"),
        ("spec.template.spec.containers.1.command", ["b", "a"]),
        ("spec.template.spec.containers.1.resources.limits.cpu", "1001m"),
        ("spec.template.spec.containers.1.name", "renamed"),
        ("spec.template.spec.containers.1.ports.0.protocol", "UDP"),
        ("metadata.managedFields.0.apiVersion", "apps/v2"),
        ("metadata.managedFields.0.operation", "Update"),
        ("metadata.managedFields.0.subresource", "status"),
        ("metadata.managedFields.0.fieldsV1.f:spec.f:minReadySeconds", {}),
    ],
)
def test_what_somebody_changed_is_noticed(path: str, value: Any) -> None:
    changed = live()
    _set(changed, path, value)
    assert not is_applied(CONFIG, changed, "me")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.minReadySeconds", 5),
        ("metadata.labels.team", "a"),
        ("metadata.annotations", {"a": "b"}),
        ("spec.template.spec.containers.0.image", "main:1"),
    ],
)
def test_what_is_new_in_the_configuration_is_noticed(path: str, value: Any) -> None:
    config = copy.deepcopy(CONFIG)
    _set(config, path, value)
    assert not is_applied(config, live(), "me")


def test_what_the_configuration_leaves_out_is_noticed() -> None:
    config = copy.deepcopy(CONFIG)
    del config["spec"]["replicas"]
    assert not is_applied(config, live(), "me")
    without_labels = copy.deepcopy(CONFIG)
    del without_labels["metadata"]["labels"]
    assert not is_applied(without_labels, live(), "me")


def test_a_set_is_compared_whatever_its_order() -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": ["x/a", "x/b"]}}
    fields = {"f:metadata": {"f:finalizers": {".": {}, 'v:"x/a"': {}, 'v:"x/b"': {}}}}
    owned = {"manager": "me", "operation": "Apply", "apiVersion": "v1", "fieldsV1": fields}
    obj = {**config, "metadata": {"name": "a", "finalizers": ["x/b", "other", "x/a"], "managedFields": [owned]}}
    assert is_applied(config, obj, "me")
    obj["metadata"]["finalizers"] = ["x/b"]  # type: ignore[index]
    assert not is_applied(config, obj, "me")
