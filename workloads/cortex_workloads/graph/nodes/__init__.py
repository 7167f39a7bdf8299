"""The closed catalogue of nodes: one module per type, each with `build(node, tools) -> Work`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cortex_kinds.nodes import Node, NodeType

from cortex_workloads.graph.nodes import extract, route, search, transform
from cortex_workloads.graph.nodes.base import Tools, Work

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


def build(node: Node, tools: Tools) -> Work:
    """What the node does. Raises cortex_kinds.cel.ExpressionError for an expression that does not compile."""
    return _BUILDERS[node.type](node, tools)


def writes(node: Node) -> tuple[str, ...]:
    """The state's keys that the node writes."""
    return _WRITES[node.type](node)
