"""What `spec.placement` and `spec.update` allow."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from pydantic import ValidationError

SPREAD = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway"}
TERM = {"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["8"]}]}
GOOD: list[dict[str, Any]] = [
    {"update": {"maxSurge": 0, "maxUnavailable": "25%"}},
    {"update": {"maxSurge": "0", "maxUnavailable": 1.0}},
    {"update": {"strategy": "Recreate"}},
    {"placement": {"nodeSelector": {"topology.kubernetes.io/zone": "a", "empty": ""}}},
    {"placement": {"topologySpreadConstraints": [SPREAD, {**SPREAD, "whenUnsatisfiable": "DoNotSchedule"}]}},
    {"placement": {"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b"}]}},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"update": {"strategy": "OnDelete"}}, "'Rolling' or 'Recreate'"),
    ({"update": {"strategy": "Recreate", "maxSurge": 1}}, "for strategy Rolling only"),
    ({"update": {"maxSurge": 0, "maxUnavailable": "0%"}}, "cannot both be 0"),
    ({"update": {"maxSurge": "101%"}}, "pattern"),
    ({"update": {"maxSurge": -1}}, "whole number or a percentage"),
    ({"update": {"maxSurge": True}}, "whole number or a percentage"),
    ({"update": {"maxUnavailable": 1001}}, "whole number or a percentage"),
    ({"placement": {"nodeSelector": {"a b": "c"}}}, "pattern"),
    ({"placement": {"nodeSelector": {"a": "c d"}}}, "pattern"),
    ({"placement": {"tolerations": [{"value": "a"}]}}, "needs operator Exists"),
    ({"placement": {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}}, "compares no value"),
    ({"placement": {"tolerations": [{"key": "a", "tolerationSeconds": 5}]}}, "NoExecute only"),
    ({"placement": {"topologySpreadConstraints": [SPREAD, SPREAD]}}, "two items have the same topologyKey"),
    ({"placement": {"topologySpreadConstraints": [{**SPREAD, "minDomains": 2}]}}, "DoNotSchedule only"),
    ({"placement": {"priorityClassName": "High"}}, "pattern"),
    ({"placement": {"affinity": {"nodeAffinity": {"requiredDuringScheduling": {}}}}}, "Extra inputs"),
]


def required(**requirement: Any) -> dict[str, Any]:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", **requirement}]}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


@pytest.mark.parametrize("spec", GOOD)
def test_both_kinds_take_it(spec: dict[str, Any]) -> None:
    for name, value in spec.items():
        for resource in (a_cortex_index(**{f"spec__{name}": value}), a_cortex_workflow(**{f"spec__{name}": value})):
            assert getattr(resource.spec, name).to_manifest().keys() == value.keys()


@pytest.mark.parametrize(("spec", "message"), BAD)
def test_what_kubernetes_would_refuse_is_refused_with_the_reason(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        a_cortex_index(spec=spec)


@pytest.mark.parametrize(
    ("operator", "values", "good"),
    [
        ("In", ["a", "b"], True),
        ("In", [], False),
        ("In", None, False),
        ("Exists", None, True),
        ("Exists", ["a"], False),
        ("Gt", ["8"], True),
        ("Gt", ["8", "9"], False),
        ("Lt", None, False),
    ],
)
def test_each_operator_has_the_values_that_it_compares(operator: str, values: list[str] | None, good: bool) -> None:
    placement = required(operator=operator, values=values)
    if good:
        assert a_cortex_index(spec__placement=placement).spec.placement.affinity is not None
        return
    with pytest.raises(ValidationError, match="value"):
        a_cortex_index(spec__placement=placement)
