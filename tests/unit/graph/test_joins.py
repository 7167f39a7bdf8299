"""When a node with several predecessors waits."""

from __future__ import annotations

import pytest
from cortex_workloads.graph.joins import Joins
from langgraph.graph import START

DIAMOND = {START: ["fork"], "fork": ["a", "b"], "a": ["join"], "b": ["c"], "c": ["join"], "join": []}
CHOICE = {START: ["route"], "route": ["a", "b"], "a": ["join"], "b": ["join"], "join": []}
LOOP = {START: ["draft"], "draft": ["judge"], "judge": ["improve"], "improve": ["draft"]}
CROSSED = {START: ["a", "b"], "a": ["x", "y"], "b": ["x", "y"], "x": ["route"], "y": ["route"], "route": ["x", "y"]}


@pytest.mark.parametrize(
    ("graph", "node", "active", "waits"),
    [
        pytest.param(DIAMOND, "join", ["join", "c"], True, id="for the slow branch"),
        pytest.param(DIAMOND, "join", ["join", "b"], True, id="for a branch that is further back"),
        pytest.param(DIAMOND, "join", ["join"], False, id="not once all are there"),
        pytest.param(DIAMOND, "a", ["a", "b"], False, id="never with one predecessor"),
        pytest.param(CHOICE, "join", ["join"], False, id="not for the branch that was not taken"),
        pytest.param(LOOP, "draft", ["draft"], False, id="not for itself in a loop"),
        pytest.param(CROSSED, "x", ["x", "y"], False, id="not when all wait for each other"),
        pytest.param(CROSSED, "x", ["x", "b"], True, id="for who leads to it, in a loop too"),
        pytest.param({START: ["a", "b"], "a": ["b"], "b": []}, "b", ["a", "b"], True, id="entered twice"),
    ],
)
def test_a_join_waits(graph: dict[str, list[str]], node: str, active: list[str], waits: bool) -> None:
    assert Joins(graph).waits(node, active) is waits
