"""Why a run ends badly: one exception, whose code is what the reference of errors names."""

from __future__ import annotations

from enum import StrEnum

from cortex_workloads.runtime.errors import CortexError, DeadlineExceeded, Overloaded, RateLimited, Unavailable
from cortex_workloads.runtime.redaction import redacted


class Code(StrEnum):
    """The codes of `RunFailed`."""

    NODE_FAILED = "NodeFailed"
    NODE_UNAVAILABLE = "NodeUnavailable"
    EXPRESSION_FAILED = "ExpressionFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    STEPS_EXCEEDED = "StepsExceeded"
    STATE_TOO_LARGE = "StateTooLarge"
    INTERRUPTED = "Interrupted"
    INTERNAL = "Internal"


class RunFailure(Exception):
    """Ends a run. `message` says what happened and what to do; `node` is empty when it was not a node."""

    def __init__(self, code: Code, message: str, node: str = "") -> None:
        self.message = redacted(message)
        super().__init__(self.message)
        self.code = code
        self.node = node


class NodeProblem(Exception):
    """Raised by a node: what it met, and the remedy."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")


class ExpressionProblem(NodeProblem):
    """Raised by a node whose expression cannot be evaluated, or gives a value of the wrong type."""


def is_transient(error: BaseException) -> bool:
    """Whether the same try may succeed a moment later."""
    return isinstance(error, Unavailable | Overloaded | RateLimited)


def of_node(node: str, error: BaseException, attempts: int = 1) -> RunFailure:
    """The end of a run whose node raised."""
    tries = f" after {attempts} tries" if attempts > 1 and is_transient(error) else ""
    text = str(error) if isinstance(error, NodeProblem | CortexError) else f"{type(error).__name__}: {error}"
    return RunFailure(_code(error), f"node {node!r} failed{tries}: {text}", node)


def _code(error: BaseException) -> Code:
    if isinstance(error, ExpressionProblem):
        return Code.EXPRESSION_FAILED
    if is_transient(error) or isinstance(error, DeadlineExceeded):
        return Code.NODE_UNAVAILABLE
    return Code.NODE_FAILED
