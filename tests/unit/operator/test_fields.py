from __future__ import annotations

from typing import Any

import pytest
from cortex_operator.cluster import ApplyResult, Invalid, MemoryCluster, Object, ObjectKey
from cortex_operator.cluster.fields import copy_json, field_set, merge, show
from hypothesis import given
from hypothesis import strategies as st

ENV = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("ABC"), "value": st.sampled_from("12")}),
    unique_by=lambda item: item["name"],
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["x", "y"])},
        optional={"image": st.sampled_from("12"), "env": ENV, "command": st.lists(st.sampled_from("12"), max_size=2)},
    ),
    unique_by=lambda item: item["name"],
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(0, 2),
        "selector": st.dictionaries(st.sampled_from("ab"), st.just("1"), max_size=1),
        "strategy": st.fixed_dictionaries({}, optional={"type": st.sampled_from(["R", "S"])}),
        "template": st.fixed_dictionaries({"spec": st.fixed_dictionaries({"containers": CONTAINERS})}),
    },
)


def an_object(spec: dict[str, Any], kind: str = "Deployment") -> Object:
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}


def compact(value: Any) -> Any:
    """Without empty lists and maps, and lists of named items in the order of names: what a manifest means."""
    if isinstance(value, dict):
        return {k: c for k, v in value.items() if (c := compact(v)) not in ({}, [])}
    if isinstance(value, list):
        items = [compact(v) for v in value]
        return sorted(items, key=lambda i: i["name"]) if items and isinstance(items[0], dict) else items
    return value


async def apply_all(*applied: tuple[str, dict[str, Any]]) -> Any:
    # A kind without immutable fields, so that every step is allowed.
    cluster = MemoryCluster()
    for manager, spec in applied:
        await cluster.apply(an_object(spec, "DaemonSet"), field_manager=manager)
    found = await cluster.get(ObjectKey("apps/v1", "DaemonSet", "default", "web"))
    return compact(found.get("spec", {}))


@given(first=SPECS, second=SPECS)
async def test_a_manager_that_applied_something_else_before_gets_the_same_as_a_fresh_one(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert await apply_all(("me", first), ("me", second)) == await apply_all(("me", second))


@given(first=SPECS, other=SPECS)
async def test_what_another_manager_set_last_survives_what_i_do_to_my_own_fields(
    first: dict[str, Any], other: dict[str, Any]
) -> None:
    cluster = MemoryCluster()
    for manager, spec in (("me", first), ("other", other), ("me", first)):
        await cluster.apply(an_object(spec, "DaemonSet"), field_manager=manager)
    result = await cluster.apply(an_object(first, "DaemonSet"), field_manager="me")
    assert result is ApplyResult.UNCHANGED
    await cluster.apply(an_object({}, "DaemonSet"), field_manager="me")
    await cluster.apply(an_object(other, "DaemonSet"), field_manager="other")
    found = await cluster.get(ObjectKey("apps/v1", "DaemonSet", "default", "web"))
    assert compact(found.get("spec", {})) == compact(other)


@given(live=SPECS, config=SPECS)
def test_a_merge_changes_neither_side_and_is_settled_at_once(live: dict[str, Any], config: dict[str, Any]) -> None:
    before = copy_json([live, config])
    merged = merge(an_object(live), an_object(config))
    assert [live, config] == before
    assert merge(merged, an_object(config)) == merged


def test_fields_are_named_as_people_name_them() -> None:
    spec = {"template": {"spec": {"containers": [{"name": "x", "ports": [{"containerPort": 80}]}]}}}
    shown = {show(path) for path in field_set({"spec": spec})}
    assert "spec.template.spec.containers[x].ports[80,TCP].containerPort" in shown


@pytest.mark.parametrize("value", [{1: "a"}, {"a": {1, 2}}, {"a": object()}])
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(Invalid):
        copy_json(value)
