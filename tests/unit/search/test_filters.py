"""What is wrong in a filter is named; nothing of a filter becomes SQL text."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_workloads.runtime.errors import InvalidInput
from cortex_workloads.search.filters import MAX_CONDITIONS, MAX_VALUES, compile_filter


def is_(field: Any = "meta.a", operator: Any = "==", value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value, **more}


def nested(depth: int) -> dict[str, Any]:
    return {"operator": "NOT", "conditions": [nested(depth - 1)]} if depth else is_()


@pytest.mark.parametrize(
    ("filters", "path"),
    [
        ({"operator": "XOR", "conditions": [is_()]}, "filter.operator"),
        ({"operator": "AND", "conditions": []}, "filter.conditions"),
        ({"operator": "AND", "conditions": {"a": 1}}, "filter.conditions"),
        ({"operator": "AND", "conditions": [is_(), 3]}, "filter.conditions[1]"),
        ({"year": 2020}, "filter.year"),
        (is_(operator="~"), "filter.operator"),
        (is_(operator=None), "filter.operator"),
        (is_(field="year"), "filter.field"),
        (is_(field="content"), "filter.field"),
        (is_(field="meta."), "filter.field"),
        (is_(field="meta.a\0"), "filter.field"),
        (is_(field=7), "filter.field"),
        (is_(field="meta." + "x" * 600), "filter.field"),
        (is_(operator=">", value="abc"), "filter.value"),
        (is_(operator=">", value="2020-02-31"), "filter.value"),
        (is_(operator="<", value=None), "filter.value"),
        (is_(operator="<", value=True), "filter.value"),
        (is_(operator="in", value=3), "filter.value"),
        (is_(operator="in", value=[0] * (MAX_VALUES + 1)), "filter.value"),
        (is_(operator="in", value=[[1]]), "filter.value[0]"),
        (is_(value={"a": 1}), "filter.value"),
        (is_(value="a\0"), "filter.value"),
        (is_(value=float("nan")), "filter.value"),
        (is_(field="id", value=3), "filter.value"),
        (is_(field="id", operator=">", value="a"), "filter.operator"),
        (is_(extra=1), "filter.extra"),
        ({"field": "meta.a", "operator": "=="}, "filter.value"),
        ({"operator": "OR", "conditions": [is_()] * (MAX_CONDITIONS + 1)}, f"filter.conditions[{MAX_CONDITIONS}]"),
    ],
)
def test_a_mistake_is_named(filters: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        compile_filter(filters)
    assert [field for field, _ in refused.value.violations] == [path]


def test_depth_is_bounded() -> None:
    compile_filter(nested(15))
    with pytest.raises(InvalidInput, match="nested deeper"):
        compile_filter(nested(16))


def test_values_and_fields_are_parameters() -> None:
    evil = "'; DROP TABLE documents; --"
    condition = compile_filter(
        {"operator": "OR", "conditions": [is_(f"meta.{evil}", "==", evil), is_("id", "in", [evil])]}
    )
    assert condition is not None
    assert "DROP" not in condition.sql
    assert sum("DROP" in str(value) for value in condition.parameters.values()) == 4


def test_no_filter_is_no_condition() -> None:
    assert compile_filter(None) is None
    assert compile_filter({}) is None
