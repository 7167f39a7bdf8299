"""Whom `spec.access` lets in, what it allows to be written, and that a workflow names an index of another namespace."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_index_manifest, a_cortex_workflow, a_cortex_workflow_manifest
from cortex_kinds.labels import LabelSelector
from cortex_kinds.revision import revision_id, workflow_definition
from cortex_kinds.validate import validate_text
from pydantic import ValidationError
from yaml import safe_dump_all

TEAM = {"matchLabels": {"team": "research"}}
NOT_GUESTS = {"matchExpressions": [{"key": "guest", "operator": "DoesNotExist"}]}
IN = {"matchExpressions": [{"key": "stage", "operator": "In", "values": ["dev", "test"]}]}
NOT_IN = {"matchExpressions": [{"key": "stage", "operator": "NotIn", "values": ["dev"]}]}
GUESTS = {"matchLabels": {"team": "research"}, "matchExpressions": [{"key": "guest", "operator": "Exists"}]}


def selecting(selector: dict[str, Any]) -> dict[str, Any]:
    return {"allowedNamespaces": {"from": "Selector", "selector": selector}}


@pytest.mark.parametrize(
    ("access", "labels", "lets_in"),
    [
        ({}, {"team": "research"}, False),
        ({"allowedNamespaces": {}}, {}, False),
        ({"allowedNamespaces": {"from": "Same"}}, {}, False),
        ({"allowedNamespaces": {"from": "All"}}, {}, True),
        ({"allowedNamespaces": {"from": "All"}}, None, True),
        (selecting(TEAM), {"team": "research", "more": "x"}, True),
        (selecting(TEAM), {"team": "sales"}, False),
        (selecting(TEAM), {}, False),
        (selecting({}), {}, True),
        (selecting({}), None, False),
        (selecting(NOT_GUESTS), {}, True),
        (selecting(NOT_GUESTS), {"guest": ""}, False),
        (selecting(NOT_GUESTS), None, False),
        (selecting(IN), {"stage": "test"}, True),
        (selecting(IN), {"stage": "live"}, False),
        (selecting(IN), {}, False),
        (selecting(NOT_IN), {}, True),
        (selecting(NOT_IN), {"stage": "dev"}, False),
        (selecting(GUESTS), {"team": "research", "guest": "yes"}, True),
        (selecting(GUESTS), {"team": "research"}, False),
        (selecting(GUESTS), {"guest": "yes"}, False),
    ],
)
def test_other_namespaces_are_let_in_by_their_labels(
    access: dict[str, Any], labels: dict[str, str] | None, lets_in: bool
) -> None:
    found = a_cortex_index(spec__access=access).spec.access
    assert found.allows("team-a", labels, home="library") is lets_in
    assert found.allows("library", None, home="library")


@pytest.mark.parametrize(
    ("access", "others"),
    [
        ({}, None),
        ({"allowedNamespaces": {"from": "All"}}, LabelSelector()),
        (selecting(TEAM), LabelSelector(match_labels={"team": "research"})),
    ],
)
def test_the_others_are_a_selector_of_namespaces(access: dict[str, Any], others: LabelSelector | None) -> None:
    assert a_cortex_index(spec__access=access).spec.access.others == others


@pytest.mark.parametrize(
    "allowed", [{"from": "Selector"}, {"from": "All", "selector": TEAM}, {"selector": TEAM}, {"from": "Some"}]
)
def test_a_selector_stands_where_it_is_asked_for_and_only_there(allowed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"Selector needs a selector|'Same', 'All' or 'Selector'"):
        a_cortex_index(spec__access={"allowedNamespaces": allowed})


def test_access_is_no_part_of_the_revision_and_an_unset_namespace_neither() -> None:
    workflow = a_cortex_workflow()
    assert workflow_definition(workflow.spec)["indexes"] == [{"name": "papers"}]
    there = a_cortex_workflow(spec__indexes__0__namespace="library")
    assert revision_id(workflow_definition(there.spec)) != revision_id(workflow_definition(workflow.spec))


@pytest.mark.parametrize(
    ("access", "reasons"),
    [
        (
            {},
            ["the CortexIndex 'library/papers' lets no other namespace use it: set its spec.access.allowedNamespaces"],
        ),
        ({"allowedNamespaces": {"from": "All"}}, []),
        (selecting(TEAM), []),
    ],
)
def test_files_are_checked_for_indexes_that_let_nobody_in(access: dict[str, Any], reasons: list[str]) -> None:
    index = a_cortex_index_manifest(metadata__namespace="library", spec__access=access)
    workflow = a_cortex_workflow_manifest(spec__indexes__0__namespace="library")
    found = validate_text(safe_dump_all([index, workflow]), "all.yaml")
    assert [(problem.path, problem.reason) for problem in found] == [("spec.indexes[0].name", each) for each in reasons]


def test_an_index_of_the_same_name_in_another_namespace_is_another_one() -> None:
    here, there = a_cortex_index_manifest(), a_cortex_workflow_manifest(spec__indexes__0__namespace="library")
    (found,) = validate_text(safe_dump_all([here, there]), "all.yaml")
    assert found.reason == "the CortexIndex 'library/papers' is not in these files: it must be in the cluster"
