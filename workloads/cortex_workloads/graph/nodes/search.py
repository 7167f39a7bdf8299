"""Search: asks an index and writes the documents that it found."""

from __future__ import annotations

from typing import Any, Final

from cortex_kinds.nodes import Node

from cortex_workloads.graph.expressions import Expression
from cortex_workloads.graph.failures import NodeProblem
from cortex_workloads.graph.nodes.base import Outcome, Parted, State, Tools

_QUERY_CHARACTERS: Final = 8192


def build(node: Node, tools: Tools) -> Parted:
    """The node's work."""
    assert node.search is not None
    spec = node.search
    query = Expression(spec.query, "search.query", "str")

    def reads(state: State) -> dict[str, Any]:
        # Where it is, too: what may not be asked any more is not given from a cache either.
        return {"query": _checked(query.value(state), spec.query), "target": tools.searcher.target(spec.index)}

    async def does(given: dict[str, Any], seconds: float | None) -> Outcome:
        documents = await tools.searcher.search(
            spec.index,
            given["query"],
            top_k=spec.top_k,
            mode=spec.mode.value if spec.mode is not None else None,
            timeout=seconds,
        )
        return Outcome({spec.into: documents})

    return Parted(reads, does)


def writes(node: Node) -> tuple[str, ...]:
    """The key of the documents."""
    assert node.search is not None
    return (node.search.into,)


def _checked(query: str, expression: str) -> str:
    if not query.strip():
        raise NodeProblem(f"the query ({expression}) is empty", "give the run a question, or route around this node")
    if len(query) > _QUERY_CHARACTERS:
        raise NodeProblem(
            f"the query ({expression}) has {len(query):,} characters, more than {_QUERY_CHARACTERS:,}",
            "shorten it, or bound the input by maxLength in spec.input.schema",
        )
    return query
