"""CEL for nodes: compiled once, and a failure says which field of the node it was and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cortex_kinds.cel import Expect, ExpressionError, compile_expression, found_type

from cortex_workloads.graph.failures import ExpressionProblem


class Expression:
    """One expression of a node. `field` is where it stands in the node. Raises ExpressionError."""

    def __init__(self, text: str, field: str, expect: Expect = "dyn") -> None:
        self.text = text
        self._field = field
        self._compiled = compile_expression(text, expect)

    def value(self, state: Mapping[str, Any]) -> Any:
        """The value, JSON, of the expected type. Raises ExpressionProblem."""
        try:
            return self._compiled.evaluate(state)
        except ExpressionError as error:
            raise self.problem(error.reason, error.remedy) from error

    def objects(self, state: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The value, a list of objects. Raises ExpressionProblem."""
        value: list[dict[str, Any]] = self.value(state)
        for position, item in enumerate(value):
            if not isinstance(item, dict):
                raise self.problem(
                    f"item {position} is {found_type(item)}, not a document", "give it what a Search node wrote"
                )
        return value

    def problem(self, reason: str, remedy: str = "") -> ExpressionProblem:
        """What to raise when the value is of no use."""
        return ExpressionProblem(f"{self._field} ({self.text}): {reason}", remedy or "correct the expression")
