"""The models: units, revision ids, rules, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow, a_cortex_workflow_manifest
from cortex_kinds.base import parse_duration, parse_quantity
from cortex_kinds.common import Resources
from cortex_kinds.revision import index_definition, revision_id, workflow_definition
from cortex_kinds.workflow import CortexWorkflow
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

LEAF = st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DEFINITION = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.recursive(
        LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner), max_leaves=8
    ),
)


@settings(deadline=None)
@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 99), st.integers(1, 999))
def test_durations_add_up(h: int, m: int, s: int, ms: int) -> None:
    expected = timedelta(hours=h, minutes=m, seconds=s, milliseconds=ms)

    assert parse_duration(f"{h}h{m}m{s}s{ms}ms") == expected


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "5s5m", "-5s", "0s", "1.5h", "10s\n", "9999999h"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "value"), [("500m", 0.5), ("2", 2), ("1Ki", 1024), ("1.5G", 1.5e9), ("1Mi", 2**20)])
def test_quantities(text: str, value: float) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize(
    ("given", "kept"), [(2, "2"), (2.0, "2"), (0, "0"), ("2.50", "2.50"), (2**53 - 1, "9007199254740991")]
)
def test_whole_numbers_of_resources_are_kept_as_strings(given: object, kept: str) -> None:
    assert Resources.model_validate({"limits": {"cpu": given}}).to_manifest()["limits"] == {"cpu": kept}


def test_a_request_above_its_limit_is_refused() -> None:
    assert Resources.model_validate({"requests": {"cpu": "1500m"}, "limits": {"cpu": 2}})
    with pytest.raises(ValueError, match=r"requests\.memory 2Gi is above limits\.memory 1000Mi: lower it or raise"):
        Resources.model_validate({"requests": {"memory": "2Gi"}, "limits": {"memory": "1000Mi"}})


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "-1", "1GB", "1.", ".5", "1e3", "2\n"])
def test_what_is_not_a_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@settings(deadline=None)
@given(DEFINITION)
def test_a_revision_id_survives_a_struct_and_the_order_of_keys(definition: dict[str, Any]) -> None:
    struct = Struct()
    struct.update(definition)
    turned = dict(reversed(definition.items()))

    assert revision_id(MessageToDict(struct)) == revision_id(definition) == revision_id(turned)


def test_a_revision_id_is_the_same_in_every_cluster_and_release() -> None:
    assert revision_id(index_definition(a_cortex_index().spec)) == "cd3e8c759c"
    assert revision_id(workflow_definition(a_cortex_workflow().spec)) == "3365f49c35"


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        ({"spec__replicas": 3}, True),
        ({"spec__retrieval__topK": 3}, True),
        ({"spec__chunking__splitLength": 4}, False),
        ({"spec__retrieval__language": "German"}, False),
    ],
)
def test_only_what_an_index_is_built_with_makes_a_revision(overrides: dict[str, Any], same: bool) -> None:
    changed = revision_id(index_definition(a_cortex_index(**overrides).spec))

    assert (changed == revision_id(index_definition(a_cortex_index().spec))) is same


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"metadata__name": "a" * 41}, "at most 40 characters"),
        ({"metadata__name": "9a"}, "begins with a letter"),
        ({"spec__replicas": "2"}, "valid integer"),
        ({"spec__replicas": True}, "valid integer"),
        ({"spec__replicas": -1}, "greater than or equal to 0"),
        ({"spec__unknown": 1}, "Extra inputs"),
        ({"spec__chunking": {"splitLength": 2, "splitOverlap": 2}}, "splitOverlap must be below splitLength"),
        ({"spec__lake__secretRef": {"name": "-x"}}, "pattern"),
    ],
)
def test_what_an_index_cannot_be(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        a_cortex_index(**overrides)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"spec__nodes__0__name": "START"}, "START and END are taken"),
        ({"spec__nodes__0__type": "Route"}, "`search` is given exactly when `type` is Search"),
        ({"spec__nodes__1__cache": {"ttl": "1m"}}, "`cache` is for Search and Extract"),
        ({"spec__nodes__3__cache": {"ttl": "1m"}}, "`cache` is for Search and Extract"),
        ({"spec__nodes__0__cache": {"ttl": "25h"}}, "ttl is at most 24h"),
        ({"spec__nodes__0__cache": {"ttl": "1m", "staleWhileRevalidate": "2000m"}}, "staleWhileRevalidate is at most"),
        ({"spec__nodes__0__cache": {}}, "ttl"),
        ({"spec__nodes__0__route": {"cases": [{"when": "true", "to": "END"}], "default": "END"}}, "`route` is given"),
        ({"spec__nodes__0__timeout": "0s"}, "pattern"),
        ({"spec__nodes": []}, "at least 1 item"),
    ],
)
def test_what_a_workflow_cannot_be(overrides: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        a_cortex_workflow(**overrides)


@pytest.mark.parametrize(("levels", "fits"), [(1, True), (48, True), (49, False), (5000, False)])
def test_values_are_nested_in_so_many_levels(levels: int, fits: bool) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    made = {"metadata": {"name": "w"}, "spec": {**a_cortex_workflow_manifest()["spec"], "input": {"schema": schema}}}
    if fits:
        CortexWorkflow.model_validate(made)
    else:
        with pytest.raises(ValidationError, match="values are nested too deeply: at most 100 levels"):
            CortexWorkflow.model_validate(made)


def test_null_is_the_same_as_left_out() -> None:
    assert a_cortex_index(spec__chunking=None, spec__replicas=None) == a_cortex_index()


def test_whole_numbers_may_come_as_doubles() -> None:
    assert a_cortex_index(spec__replicas=3.0).spec.replicas == 3


def test_a_manifest_gives_the_model_again() -> None:
    workflow = a_cortex_workflow()

    assert type(workflow).model_validate(workflow.to_manifest()) == workflow
