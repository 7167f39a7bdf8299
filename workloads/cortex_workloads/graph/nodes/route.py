"""Route: chooses where to go on. The first case that holds wins."""

from __future__ import annotations

from cortex_kinds.nodes import Node

from cortex_workloads.graph.expressions import Expression
from cortex_workloads.graph.nodes.base import Outcome, State, Tools, Work


def build(node: Node, tools: Tools) -> Work:
    """The node's work."""
    assert node.route is not None
    default = node.route.default
    cases = [
        (Expression(case.when, f"route.cases[{position}].when", "bool"), case.to)
        for position, case in enumerate(node.route.cases)
    ]

    async def work(state: State, seconds: float | None) -> Outcome:
        for when, to in cases:
            if when.value(state):
                return Outcome(to=to, message=f"to {to}: {when.text}")
        return Outcome(to=default, message=f"to {default}: no case holds")

    return work


def writes(node: Node) -> tuple[str, ...]:
    """Nothing."""
    return ()
