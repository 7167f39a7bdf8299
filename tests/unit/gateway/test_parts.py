"""What `/healthz` says of a resource."""

from typing import Any

import pytest
from cortex_kinds.index import CortexIndex
from cortex_workloads.gateway.parts import _resource
from cortex_workloads.runtime.catalogue import INDEX, Resource


def condition(type_: str, status: str, reason: str) -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": ""}


@pytest.mark.parametrize(
    ("ready", "needs", "ok", "reason"),
    [
        ("True", "True", True, "Ready"),
        ("True", "False", False, "LakeUnreachable"),
        ("False", "False", False, "Ready"),
    ],
)
def test_a_resource_without_its_lake_is_degraded(ready: str, needs: str, ok: bool, reason: str) -> None:
    conditions = [condition("Ready", ready, "Ready"), condition("DependenciesReady", needs, "LakeUnreachable")]
    obj = {"metadata": {"name": "papers"}, "status": {"conditions": conditions}}
    told = _resource(Resource(INDEX, "default", "papers", obj, CortexIndex.model_validate(obj)))
    assert (told["ok"], told["reason"]) == (ok, reason)
