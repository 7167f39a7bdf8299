"""What the fields that shape pods allow: template, env, envFrom, serviceAccountName, imagePullSecrets, caBundle."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index
from podfields import FIELDS, every_field
from pydantic import ValidationError

KEY = {"name": "s", "key": "k"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"template": {"labels": {"app.kubernetes.io/name": "a"}}}, "labels below app.kubernetes.io/"),
    ({"template": {"labels": {"cortex.datapunk.io/index": "a"}}}, "are the operator's"),
    ({"template": {"labels": {"pod-template-hash": "a"}}}, "Kubernetes's own"),
    ({"template": {"labels": {"batch.kubernetes.io/job-name": "a"}}}, "Kubernetes's own"),
    ({"template": {"labels": {"kueue.x-k8s.io/queue-name": "a"}}}, "spec.placement.queueName"),
    ({"template": {"annotations": {"cortex.datapunk.io/config-digest": "a"}}}, "are the operator's"),
    ({"template": {"labels": {"team": "a b"}}}, "pattern"),
    ({"template": {"labels": {"a/b/c": "a"}}}, "pattern"),
    ({"serviceAccountName": "Team"}, "pattern"),
    ({"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}, "two items have the same name 'a'; remove one"),
    ({"env": [{"name": "CORTEX_LAKE_DSN", "value": "a"}]}, "begin with CORTEX_ are the operator's"),
    ({"env": [{"name": "A", "value": "a"}, {"name": "A"}]}, "two items have the same name"),
    ({"env": [{"name": "1A", "value": "a"}]}, "pattern"),
    ({"env": [{"name": "A", "value": "a", "valueFrom": {"secretKeyRef": KEY}}]}, "exclude each other"),
    ({"env": [{"name": "A", "valueFrom": {}}]}, "exactly one of secretKeyRef"),
    ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": KEY, "configMapKeyRef": KEY}}]}, "exactly one of"),
    ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.containers"}}}]}, "pattern"),
    ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]}, "pattern"),
    ({"envFrom": [{"prefix": "CORTEX_", "secretRef": {"name": "a"}}]}, "begin with CORTEX_ are the operator's"),
    ({"envFrom": [{"prefix": "A_"}]}, "exactly one of secretRef and configMapRef"),
    ({"envFrom": [{"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}]}, "exactly one of"),
    ({"caBundle": {}}, "exactly one of configMapRef and secretRef"),
    ({"caBundle": {"configMapRef": KEY, "secretRef": KEY}}, "exactly one of"),
    ({"caBundle": {"configMapRef": {"name": "a", "key": "../b"}}}, "pattern"),
]


@pytest.mark.parametrize("spec", [*FIELDS.values(), every_field()], ids=[*FIELDS, "all"])
def test_what_a_pod_takes_is_taken(spec: dict[str, Any]) -> None:
    stored = a_cortex_index(spec=spec).spec.to_manifest()
    assert {name: stored[name].keys() for name, value in spec.items() if isinstance(value, dict)} == {
        name: value.keys() for name, value in spec.items() if isinstance(value, dict)
    }


@pytest.mark.parametrize(("spec", "message"), BAD)
def test_what_cannot_work_is_refused_with_the_reason(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        a_cortex_index(spec=spec)
