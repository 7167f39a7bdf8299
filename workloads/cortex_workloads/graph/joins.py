"""When a node with several predecessors runs: once, as soon as nothing that is active can still lead to it.

That is what an author of a graph expects of every shape. After a fan-out the node waits for the slowest branch; after
a Route it waits for the branch that was taken and for no other; in a loop it waits anew each time round. LangGraph's
list edge would wait for ever for a branch that a Route did not take.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from langgraph.graph import START


class Joins:
    """Decides for one graph. `successors`: node (or START) -> the nodes that may follow it, END left out."""

    def __init__(self, successors: Mapping[str, Iterable[str]]) -> None:
        self._successors = {node: frozenset(after) for node, after in successors.items()}
        self.nodes = frozenset(node for node in self._successors if self._predecessors(node) > 1)
        self._leading = {join: self._that_lead_to(join) for join in self.nodes}

    def waits(self, node: str, active: Iterable[str]) -> bool:
        """Whether `node` has to wait, when `active` are the nodes of this super-step (it is one of them)."""
        together = frozenset(active)
        # Joins that wait for each other, with nobody else about, would do so for ever: then all of them run.
        return self._held(node, together) and not all(self._held(other, together) for other in together)

    def _held(self, node: str, together: frozenset[str]) -> bool:
        return node in self.nodes and not self._leading[node].isdisjoint(together)

    def _predecessors(self, node: str) -> int:
        return sum(node in after for after in self._successors.values())

    def _that_lead_to(self, join: str) -> frozenset[str]:
        """Nodes with a path to `join`; the join itself is no way through."""
        found: frozenset[str] = frozenset()
        frontier = frozenset({join})
        while frontier:
            frontier = frozenset(n for n, after in self._successors.items() if after & frontier) - found - {join, START}
            found |= frontier
        return found
