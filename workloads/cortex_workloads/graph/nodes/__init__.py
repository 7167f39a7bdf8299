"""The closed catalogue of nodes: one module per type, each with `build(node, tools) -> Work`, of those whose
results may be kept a Parted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cortex_kinds.nodes import Node, NodeType

from cortex_workloads.graph.nodes import extract, route, search, transform
from cortex_workloads.graph.nodes.base import Parted, Tools, Work

_BUILDERS: Final[dict[NodeType, Callable[[Node, Tools], Work]]] = {
    NodeType.SEARCH: search.build,
    NodeType.ROUTE: route.build,
    NodeType.TRANSFORM: transform.build,
    NodeType.EXTRACT: extract.build,
}
_WRITES: Final[dict[NodeType, Callable[[Node], tuple[str, ...]]]] = {
    NodeType.SEARCH: search.writes,
    NodeType.ROUTE: route.writes,
    NodeType.TRANSFORM: transform.writes,
    NodeType.EXTRACT: extract.writes,
}


def build(node: Node, tools: Tools, revision: str) -> Work:
    """What the node of a revision does. Raises cortex_kinds.cel.ExpressionError for an expression that does not
    compile."""
    work = _BUILDERS[node.type](node, tools)
    if node.cache is None:
        return work
    # The kinds refuse `cache` on other nodes.
    assert isinstance(work, Parted)
    return tools.results.around(revision, node, node.cache, work)


def writes(node: Node) -> tuple[str, ...]:
    """The state's keys that the node writes."""
    return _WRITES[node.type](node)
