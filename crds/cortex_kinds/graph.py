"""Checks of a workflow's graph, beyond the shape of its fields; all mistakes at once.

They read the manifest as it was written, so that one wrong field does not hide the rest. What cannot be read is passed
over: whoever validates the model reports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cortex_kinds.cel import Expect, ExpressionError, compile_expression
from cortex_kinds.celtext import keys_read
from cortex_kinds.graphshape import Graph, GraphEdge, read_graph
from cortex_kinds.inputschema import schema_keys, schema_mistakes
from cortex_kinds.paths import Path, path_text
from cortex_kinds.suggest import did_you_mean
from cortex_kinds.workflow import CortexWorkflowSpec

START: Final = "START"
END: Final = "END"


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and where below `spec`."""

    path: Path
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{path_text(('spec', *self.path))}: {self.reason}" + (f" ({self.hint})" if self.hint else "")


def graph_mistakes(spec: CortexWorkflowSpec | Mapping[str, Any]) -> list[Mistake]:
    """Every mistake of a workflow's spec (a model, or `spec` as it stands in a manifest); empty: it can run."""
    manifest = spec.to_manifest() if isinstance(spec, CortexWorkflowSpec) else spec
    graph = read_graph(manifest)
    return [
        *(Mistake(("input", "schema", *path), reason) for path, reason in schema_mistakes(graph.schema)),
        *_names(graph),
        *(list(_targets(graph)) or _reach(graph)),
        *_endless(graph),
        *_indexes(graph),
        *_expressions(graph),
    ]


def _names(graph: Graph) -> Iterator[Mistake]:
    yield from _twice(((("nodes", at, "name"), name) for at, name in graph.names), "another node has the name {!r}")
    yield from _twice(((("indexes", at, "name"), name) for at, name in graph.indexes), "the index {!r} is listed twice")
    written = [(("edges", e.at), f"{e.source} to {e.target}") for e in graph.edges if e.path[0] == "edges"]
    yield from _twice(written, "the edge from {} is there twice")


def _twice(items: Iterable[tuple[Path, str]], reason: str) -> Iterator[Mistake]:
    seen: set[str] = set()
    for path, name in items:
        if name in seen:
            yield Mistake(path, reason.format(name))
        seen.add(name)


def _targets(graph: Graph) -> Iterator[Mistake]:
    names = {name for _, name in graph.names}
    for edge in graph.edges:
        if edge.source == END:
            yield Mistake((*edge.path[:2], "from"), "nothing follows END")
        elif edge.source != START and edge.path[0] == "edges":
            yield from _edge_source(graph, edge, names)
        if edge.target == START:
            yield Mistake(edge.path, "nothing leads to START")
        elif edge.target != END and edge.target not in names and graph.complete:
            yield Mistake(edge.path, f"there is no node {edge.target!r}", did_you_mean(edge.target, [*names, END]))


def _edge_source(graph: Graph, edge: GraphEdge, names: set[str]) -> Iterator[Mistake]:
    path = (*edge.path[:2], "from")
    if edge.source in graph.routes:
        yield Mistake(path, f"{edge.source!r} is a Route", "its cases and its default say where to go: remove the edge")
    elif edge.source not in names and graph.complete:
        yield Mistake(path, f"there is no node {edge.source!r}", did_you_mean(edge.source, [*names, START]))


def _reach(graph: Graph) -> Iterator[Mistake]:
    if not graph.complete:
        return
    if not any(e.source == START for e in graph.edges):
        yield Mistake(("edges",), "no edge leads from START", "add {from: START, to: NODE}")
        return
    forward = _closure(START, [(e.source, e.target) for e in graph.edges])
    backward = _closure(END, [(e.target, e.source) for e in graph.edges])
    for at, name in graph.names:
        if name not in forward:
            yield Mistake(("nodes", at), f"{name!r} is never reached from START", "add an edge to it, or remove it")
        elif name not in backward:
            yield Mistake(("nodes", at), f"END is never reached from {name!r}", f"add {{from: {name}, to: END}}")


def _closure(start: str, edges: list[tuple[str, str]]) -> set[str]:
    reached, todo = {start}, [start]
    while todo:
        here = todo.pop()
        ahead = {target for source, target in edges if source == here} - reached
        reached |= ahead
        todo += ahead
    return reached


def _endless(graph: Graph) -> Iterator[Mistake]:
    """A cycle of plain edges never ends; one through a Route may."""
    plain = [(e.source, e.target) for e in graph.edges if e.source not in graph.routes and e.source != START]
    ahead = {name: _after(name, plain) for _, name in graph.names}
    reported: set[str] = set()
    for at, name in graph.names:
        if name in ahead[name] and name not in reported:
            cycle = [n for _, n in graph.names if n in ahead[name] and name in ahead[n]]
            reported.update(cycle)
            reason = f"a cycle without a Route never ends: {', '.join(cycle)}"
            yield Mistake(("nodes", at), reason, "leave it through a Route")


def _after(name: str, edges: list[tuple[str, str]]) -> set[str]:
    return {n for source, target in edges if source == name for n in _closure(target, edges)}


def _indexes(graph: Graph) -> Iterator[Mistake]:
    known = [name for _, name in graph.indexes]
    for path, index in graph.searched:
        if index not in known:
            hint = did_you_mean(index, known) or "list it in spec.indexes"
            yield Mistake(path, f"{index!r} is not one of spec.indexes", hint)


def _expressions(graph: Graph) -> Iterator[Mistake]:
    written = schema_keys(graph.schema)
    known = None if written is None or not graph.keys_known else written | graph.writes
    for path, text, expect in graph.expressions:
        problem = _compiles(text, expect)
        if problem:
            yield Mistake(path, problem.reason, problem.remedy)
        elif known is not None:
            yield from _unknown_keys(path, text, known)


def _compiles(text: str, expect: Expect) -> ExpressionError | None:
    try:
        compile_expression(text, expect)
    except ExpressionError as error:
        return error
    return None


def _unknown_keys(path: Path, text: str, known: set[str]) -> Iterator[Mistake]:
    for key, column in keys_read(text):
        if key not in known:
            hint = did_you_mean(key, known) or "declare it in spec.input.schema.properties, or let a node write it"
            yield Mistake(path, f"column {column}: nothing writes state.{key}", hint)
