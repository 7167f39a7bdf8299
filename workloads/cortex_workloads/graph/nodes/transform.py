"""Transform: computes values over the state as it was before the node."""

from __future__ import annotations

from typing import Any

import orjson
from cortex_kinds.nodes import Node

from cortex_workloads.graph.expressions import Expression
from cortex_workloads.graph.nodes.base import Outcome, State, Tools, Work


def build(node: Node, tools: Tools) -> Work:
    """The node's work."""
    assert node.transform is not None
    values = {key: Expression(text, f"transform.set.{key}") for key, text in node.transform.set.items()}

    async def work(state: State, seconds: float | None) -> Outcome:
        return Outcome({key: _storable(expression, state) for key, expression in values.items()})

    return work


def writes(node: Node) -> tuple[str, ...]:
    """Every key of `set`."""
    assert node.transform is not None
    return tuple(node.transform.set)


def _storable(expression: Expression, state: State) -> Any:
    value = expression.value(state)
    if b"\\u0000" in orjson.dumps(value):
        raise expression.problem("gives the character U+0000, which the Lake cannot store")
    return value
