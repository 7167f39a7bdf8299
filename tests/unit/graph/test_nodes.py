"""What each type of node does, and what it says of wrong values."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_kinds.nodes import Node
from cortex_workloads.graph import nodes
from cortex_workloads.graph.failures import ExpressionProblem, NodeProblem
from cortex_workloads.graph.nodes.extract import CANDIDATES, candidates, windows

EXTRACT = {"name": "n", "type": "Extract", "extract": {"question": "state.q", "documents": "state.d"}}


async def do(bench: Any, node: dict[str, Any], state: dict[str, Any]) -> Any:
    model = Node.model_validate(node)
    outcome = await nodes.build(model, bench.tools, "r")(state, 3.0)
    assert set(outcome.update) <= set(nodes.writes(model))
    return outcome


async def test_search_asks_the_index_with_what_is_left_of_the_time(bench: Any) -> None:
    bench.index.answers = [[{"id": "1"}]]
    node = {"name": "n", "type": "Search", "search": {"index": "papers", "query": "state.q", "topK": 4, "mode": "Text"}}
    outcome = await do(bench, node, {"q": "whales"})
    assert outcome.update == {"documents": [{"id": "1"}]}
    assert bench.index.asked == [{"index": "papers", "query": "whales", "top_k": 4, "mode": "Text", "timeout": 3.0}]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param("  ", "is empty", id="blank"),
        pytest.param("x" * 8193, "8,193 characters, more than 8,192", id="too long"),
        pytest.param(7, "gives a number, not a string", id="a number"),
    ],
)
async def test_search_refuses_a_query_that_is_none(bench: Any, query: Any, said: str) -> None:
    node = {"name": "n", "type": "Search", "search": {"index": "papers", "query": "state.q"}}
    with pytest.raises(NodeProblem, match=said):
        await do(bench, node, {"q": query})
    assert bench.index.asked == []


@pytest.mark.parametrize(("n", "to", "why"), [(1, "a", "to a: state.n == 1"), (9, "END", "to END: no case holds")])
async def test_route_takes_the_first_case_that_holds(bench: Any, n: int, to: str, why: str) -> None:
    cases = [{"when": "state.n == 1", "to": "a"}, {"when": "state.n < 3", "to": "b"}]
    node = {"name": "n", "type": "Route", "route": {"cases": cases, "default": "END"}}
    outcome = await do(bench, node, {"n": n})
    assert (outcome.to, outcome.message, outcome.update) == (to, why, {})


@pytest.mark.parametrize(
    ("expression", "value"),
    [("1 + 1", 2), ("double(state.n) * 2.5", 5.0), ("[state.n, 'x']", [2, "x"]), ("{'a': null}", {"a": None})],
)
async def test_transform_computes_json(bench: Any, expression: str, value: Any) -> None:
    node = {"name": "n", "type": "Transform", "transform": {"set": {"x": expression}}}
    assert (await do(bench, node, {"n": 2})).update == {"x": value}


async def test_transform_reads_the_state_before_it(bench: Any) -> None:
    node = {"name": "n", "type": "Transform", "transform": {"set": {"a": "state.b", "b": "state.a"}}}
    assert (await do(bench, node, {"a": 1, "b": 2})).update == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        pytest.param("state.missing", "transform.set.x .*the key 'missing' is missing", id="missing"),
        pytest.param("1 / (state.n - 2)", "ivi", id="division by zero"),
        pytest.param("'a\\u0000'", "U\\+0000", id="what the Lake cannot store"),
    ],
)
async def test_transform_says_which_expression_failed(bench: Any, expression: str, said: str) -> None:
    node = {"name": "n", "type": "Transform", "transform": {"set": {"x": expression}}}
    with pytest.raises(ExpressionProblem, match=said):
        await do(bench, node, {"n": 2})


async def test_extract_answers_with_the_best_passage_and_its_sources(bench: Any) -> None:
    documents = [
        {"id": "1", "title": "A", "content": "nothing of use here", "meta": {"n": 1}, "index": "papers"},
        {"id": "2", "title": "B", "content": "whales weigh much"},
    ]
    update = (await do(bench, EXTRACT, {"q": "whales weigh", "d": documents})).update
    assert update["answer"] == "whales weigh much"
    assert [(s["id"], s["passage"]) for s in update["sources"]] == [
        ("2", "whales weigh much"),
        ("1", "nothing of use here"),
    ]
    assert update["sources"][0]["score"] == pytest.approx(0.816497, abs=1e-6)
    assert (update["sources"][1]["meta"], update["sources"][1]["index"]) == ({"n": 1}, "papers")


async def test_extract_breaks_ties_by_the_order_of_documents(bench: Any) -> None:
    documents = [{"id": str(n), "content": "the same words"} for n in range(5)]
    update = (await do(bench, EXTRACT, {"q": "same", "d": documents})).update
    assert [source["id"] for source in update["sources"]] == ["0", "1", "2"]


@pytest.mark.parametrize("documents", [[], [{"id": "1", "content": ""}, {}]])
async def test_extract_without_text_has_no_answer(bench: Any, documents: list[Any]) -> None:
    assert (await do(bench, EXTRACT, {"q": "x", "d": documents})).update == {"answer": "", "sources": []}
    assert bench.words.calls == []


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        pytest.param("text", "gives a string, not a list", id="a string"),
        pytest.param(["text"], "item 0 is a string, not a document", id="a list of strings"),
        pytest.param([{"id": "x", "content": 7}], "content of document 'x' is not a string", id="content is a number"),
    ],
)
async def test_extract_refuses_what_are_no_documents(bench: Any, documents: Any, said: str) -> None:
    with pytest.raises(NodeProblem, match=said):
        await do(bench, EXTRACT, {"q": "x", "d": documents})


def test_windows_overlap_by_a_sentence_and_cover_the_text() -> None:
    assert windows("A. B. C. D. E.") == ["A. B. C.", "C. D. E."]
    assert windows("A. B. C. D.") == ["A. B. C.", "C. D."]
    assert windows("one") == ["one"]
    assert windows("") == []


def test_candidates_are_bounded_and_those_with_shared_words_stay() -> None:
    documents = [{"content": f"filler {n}. more. end."} for n in range(CANDIDATES * 2)]
    documents[-1]["content"] = "the blue whale."
    kept = candidates("blue whale", documents)
    assert len(kept) == CANDIDATES
    assert kept[-1].text == "the blue whale."
