"""Checks of graphs: each has an example that passes and one that fails."""

from __future__ import annotations

import time
from typing import Any

import pytest
from builders import a_cortex_workflow, a_cortex_workflow_manifest
from cortex_kinds.graph import graph_mistakes


def mistakes(**overrides: Any) -> list[str]:
    return [str(mistake) for mistake in graph_mistakes(a_cortex_workflow_manifest(**overrides)["spec"])]


def edges(*pairs: str) -> list[dict[str, str]]:
    return [{"from": pair.split(">")[0], "to": pair.split(">")[1]} for pair in pairs]


GOOD = ("START>retrieve", "retrieve>judge", "answer>END", "refuse>END")


def test_a_good_graph_has_no_mistakes_as_model_and_as_manifest() -> None:
    assert graph_mistakes(a_cortex_workflow().spec) == []
    assert mistakes() == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"spec__nodes__3__name": "answer"}, "spec.nodes[3].name: another node has the name 'answer'"),
        ({"spec__indexes": [{"name": "papers"}] * 2}, "spec.indexes[1].name: the index 'papers' is listed twice"),
        ({"spec__edges": edges(*GOOD, "answer>END")}, "spec.edges[4]: the edge from answer to END is there twice"),
        ({"spec__edges": edges(*GOOD, "END>answer")}, "spec.edges[4].from: nothing follows END"),
        ({"spec__edges": edges(*GOOD, "answer>START")}, "spec.edges[4].to: nothing leads to START"),
        (
            {"spec__edges": edges(*GOOD, "anwser>END")},
            "spec.edges[4].from: there is no node 'anwser' (did you mean answer?)",
        ),
        ({"spec__edges__1__to": "jugde"}, "spec.edges[1].to: there is no node 'jugde' (did you mean judge?)"),
        ({"spec__edges": edges(*GOOD, "judge>END")}, "spec.edges[4].from: 'judge' is a Route"),
        (
            {"spec__nodes__1__route__default": "answr"},
            "spec.nodes[1].route.default: there is no node 'answr' (did you mean answer?)",
        ),
        ({"spec__nodes__1__route__cases__0__to": "START"}, "spec.nodes[1].route.cases[0].to: nothing leads to START"),
        ({"spec__edges": edges(*GOOD[1:])}, "spec.edges: no edge leads from START"),
        ({"spec__nodes__1__route__default": "END"}, "spec.nodes[2]: 'answer' is never reached from START"),
        ({"spec__edges": edges(*GOOD[:3])}, "spec.nodes[3]: END is never reached from 'refuse'"),
        (
            {"spec__edges": edges(*GOOD, "refuse>answer", "answer>refuse")},
            "spec.nodes[2]: a cycle without a Route never ends: answer, refuse",
        ),
        ({"spec__edges": edges(*GOOD, "answer>answer")}, "a cycle without a Route never ends: answer (leave it"),
        (
            {"spec__nodes__0__search__index": "paper"},
            "spec.nodes[0].search.index: 'paper' is not one of spec.indexes (did you mean papers?)",
        ),
        (
            {"spec__nodes__0__search__query": "state.qestion"},
            "spec.nodes[0].search.query: column 1: nothing writes state.qestion (did you mean question?)",
        ),
        ({"spec__nodes__0__search__query": "1 + 1"}, "spec.nodes[0].search.query: is of type int, not a string"),
        (
            {"spec__nodes__2__extract__documents": "'x'"},
            "spec.nodes[2].extract.documents: is of type string, not a list",
        ),
        ({"spec__nodes__1__route__cases__0__when": "'x'"}, "route.cases[0].when: is of type string, not a boolean"),
        ({"spec__nodes__3__transform__set": {"a": "1 +"}}, "spec.nodes[3].transform.set.a: column 4: Syntax error"),
        ({"spec__input__schema": {"type": "string"}}, "spec.input.schema.type: the input is an object"),
        ({"spec__input__schema": {}}, "spec.input.schema: the input is an object: write type: object"),
        ({"spec__input__schema": []}, "spec.input.schema: a JSON Schema is an object"),
        (
            {"spec__input__schema__required": "question"},
            "spec.input.schema.required: not valid JSON Schema: 'question' is not of type 'array'",
        ),
        (
            {"spec__input__schema__properties__x": {"$ref": "https://example.com/s"}},
            "spec.input.schema.properties.x.$ref: 'https://example.com/s' is outside the schema",
        ),
        ({"spec__input__schema__description": "x" * 70_000}, "spec.input.schema: the schema is over 65536 bytes"),
    ],
)
def test_each_mistake_names_its_place_and_reason(overrides: dict[str, Any], says: str) -> None:
    found = mistakes(**overrides)

    assert any(says in mistake for mistake in found), found


@pytest.mark.parametrize(
    "overrides",
    [
        {"spec__indexes": [{"name": "papers"}, {"name": "unused"}]},
        {"spec__edges": edges("START>retrieve", "retrieve>judge", "answer>END", "refuse>retrieve")},
        {"spec__nodes__1__route__cases__0__to": "END", "spec__edges": edges(*GOOD[:3], "START>refuse", "refuse>END")},
        {"spec__nodes__0__search__query": "state.sources[0].title + state['answer']"},
        {"spec__input": {}, "spec__nodes__0__search__query": "state.anything"},
        {"spec__input__schema__additionalProperties": True, "spec__nodes__0__search__query": "state.anything"},
        {"spec__input__schema__properties__x": {"$ref": "#/properties/question"}},
    ],
    ids=["unused index", "cycle through a Route", "Route to END", "keys nodes write", "no schema", "open", "own $ref"],
)
def test_what_is_allowed(overrides: dict[str, Any]) -> None:
    assert mistakes(**overrides) == []


def test_all_mistakes_at_once() -> None:
    found = mistakes(
        spec__nodes__0__search={"index": "paper", "query": "state."},
        spec__nodes__1__route__default="answr",
        spec__input__schema__required=3,
    )

    assert len(found) == 4


@pytest.mark.parametrize(
    "spec", [{}, {"nodes": 3, "edges": "x"}, {"nodes": [None, {"name": 4, "route": 5}], "input": 1}]
)
def test_what_cannot_be_read_is_passed_over(spec: dict[str, Any]) -> None:
    assert graph_mistakes(spec) == []


def test_a_node_that_cannot_be_read_makes_no_false_mistakes() -> None:
    assert mistakes(spec__nodes__2__name=7) == []


def test_the_largest_graph_is_checked_in_a_blink() -> None:
    nodes = [{"name": f"n{at}", "type": "Transform", "transform": {"set": {"x": "1"}}} for at in range(64)]
    links = [{"from": f"n{at}", "to": f"n{(at * 7 + step) % 64}"} for at in range(64) for step in range(4)]
    begin = time.process_time()

    assert graph_mistakes({"nodes": nodes, "edges": links})

    assert time.process_time() - begin < 2
