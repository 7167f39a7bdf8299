"""A workflow's graph as its manifest says it; shields the checks from fields that are missing or of a wrong type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cortex_kinds.cel import Expect
from cortex_kinds.paths import Path


@dataclass(frozen=True)
class GraphEdge:
    """An edge that is written, or a branch of a Route; `path` is where its target stands."""

    path: Path
    source: str
    target: str

    @property
    def at(self) -> int:
        """Position in its list."""
        return int(self.path[1])


@dataclass(frozen=True)
class Graph:
    """What could be read. `complete`: every node and edge could, so that what is missing is truly missing;
    `keys_known`: all that nodes write could."""

    schema: Any
    indexes: list[tuple[int, str]]
    names: list[tuple[int, str]]
    routes: set[str]
    edges: list[GraphEdge]
    searched: list[tuple[Path, str]]
    expressions: list[tuple[Path, str, Expect]]
    writes: set[str]
    keys_known: bool
    complete: bool


def read_graph(spec: Mapping[str, Any]) -> Graph:
    """Reads `spec` of a CortexWorkflow as it stands in a manifest; never fails."""
    nodes = list(_items(spec.get("nodes")))
    edges = [*_written_edges(spec), *(branch for at, node in nodes for branch in _branches(at, node))]
    return Graph(
        schema=_get(spec, "input", "schema"),
        indexes=[(at, name) for at, item in _items(spec.get("indexes")) if (name := _text(item, "name"))],
        names=[(at, name) for at, node in nodes if (name := _text(node, "name"))],
        routes={name for _, node in nodes if node.get("type") == "Route" and (name := _text(node, "name"))},
        edges=edges,
        searched=[
            (("nodes", at, "search", "index"), name) for at, node in nodes if (name := _text(node, "search", "index"))
        ],
        expressions=[found for at, node in nodes for found in _expressions(at, node)],
        writes={key for _, node in nodes for key in _writes(node)},
        keys_known=len(nodes) == len(_list(spec.get("nodes"))),
        complete=_complete(spec, edges),
    )


def _written_edges(spec: Mapping[str, Any]) -> Iterator[GraphEdge]:
    for at, item in _items(spec.get("edges")):
        source, target = _text(item, "from"), _text(item, "to")
        if source and target:
            yield GraphEdge(("edges", at, "to"), source, target)


def _branches(at: int, node: Mapping[str, Any]) -> Iterator[GraphEdge]:
    name, route = _text(node, "name"), _get(node, "route")
    if not name or not isinstance(route, Mapping):
        return
    for case, item in _items(route.get("cases")):
        if target := _text(item, "to"):
            yield GraphEdge(("nodes", at, "route", "cases", case, "to"), name, target)
    if target := _text(route, "default"):
        yield GraphEdge(("nodes", at, "route", "default"), name, target)


def _expressions(at: int, node: Mapping[str, Any]) -> Iterator[tuple[Path, str, Expect]]:
    def found(value: Any, path: Path, expect: Expect) -> Iterator[tuple[Path, str, Expect]]:
        if isinstance(value, str) and value:
            yield ("nodes", at, *path), value, expect

    yield from found(_get(node, "search", "query"), ("search", "query"), "str")
    yield from found(_get(node, "extract", "question"), ("extract", "question"), "str")
    yield from found(_get(node, "extract", "documents"), ("extract", "documents"), "list")
    for case, item in _items(_get(node, "route", "cases")):
        yield from found(item.get("when"), ("route", "cases", case, "when"), "bool")
    assignments = _get(node, "transform", "set")
    for key, text in assignments.items() if isinstance(assignments, Mapping) else ():
        yield from found(text, ("transform", "set", key), "dyn")


def _writes(node: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(search := node.get("search"), Mapping):
        yield search.get("into") or "documents"
    if isinstance(extract := node.get("extract"), Mapping):
        yield extract.get("into") or "answer"
        yield "sources"
    assignments = _get(node, "transform", "set")
    yield from assignments if isinstance(assignments, Mapping) else ()


def _complete(spec: Mapping[str, Any], edges: list[GraphEdge]) -> bool:
    nodes = spec.get("nodes")
    written = spec.get("edges")
    if not isinstance(nodes, list) or not isinstance(written, list):
        return False
    routes = [_get(node, "route") for node in nodes if _get(node, "type") == "Route"]
    cases = [case for route in routes for case in _list(_get(route, "cases")) or [None]]
    return (
        all(_text(node, "name") for node in nodes)
        and all(_text(route, "default") for route in routes)
        and all(_text(case, "to") for case in cases)
        and sum(edge.path[0] == "edges" for edge in edges) == len(written)
    )


def _items(value: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    yield from ((at, item) for at, item in enumerate(_list(value)) if isinstance(item, Mapping))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _get(value: Any, *path: str) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(value: Any, *path: str) -> str:
    found = _get(value, *path)
    return found if isinstance(found, str) else ""
