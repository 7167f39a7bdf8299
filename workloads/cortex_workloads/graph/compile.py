"""From a revision's definition to a LangGraph graph. Nothing of the definition is code: nodes come from the closed
catalogue, expressions are CEL.

One channel per key of the state; the last write wins, and two nodes that write one key in the same super-step are an
error. A node leads on by itself (`Command(goto=...)`) to all that follow it; when a node with several predecessors
runs, `joins` says. `run.active` holds the nodes of the super-step, so that this decision is part of every checkpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypedDict

from cortex_kinds.base import parse_duration, parse_quantity
from cortex_kinds.nodes import Node
from cortex_kinds.workflow import CortexWorkflowSpec
from langgraph.channels import Topic
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, RetryPolicy

from cortex_workloads.graph import nodes
from cortex_workloads.graph.failures import is_transient
from cortex_workloads.graph.input import InputSchema
from cortex_workloads.graph.joins import Joins
from cortex_workloads.graph.nodes.base import Tools, Work
from cortex_workloads.runtime.errors import InvalidInput
from cortex_workloads.runtime.resilience.retries import What, again

# Names with a point: neither a key of the state nor a node can be called so.
ACTIVE: Final = "run.active"
EXTRA: Final = "run.input"
_KEY: Final = "state."
STATE_BYTES: Final = 8 * 2**20
"""The largest `limits.stateBytes`: an event with the whole state has to fit into one message."""


@dataclass(frozen=True)
class RunContext:
    """What a node knows of its run. `deadline`: the event loop's time."""

    deadline: float

    def seconds(self, timeout: float | None) -> float:
        """What is left for one try of a node."""
        left = max(0.0, self.deadline - asyncio.get_running_loop().time())
        return left if timeout is None else min(timeout, left)


@dataclass(frozen=True)
class Workflow:
    """A revision, ready to run."""

    revision: str
    spec: CortexWorkflowSpec
    graph: CompiledStateGraph[Any, RunContext, Any, Any]
    joins: Joins
    entries: tuple[str, ...]
    keys: frozenset[str]
    input: InputSchema
    seconds: float
    state_bytes: int

    def values(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The graph's first values, for a state."""
        extra = {key: value for key, value in state.items() if key not in self.keys}
        known = {_KEY + key: value for key, value in state.items() if key in self.keys}
        return known | {EXTRA: extra, ACTIVE: list(self.entries)}

    def node(self, name: str) -> Node:
        """A node of the manifest."""
        return next(node for node in self.spec.nodes if node.name == name)

    def writers(self, key: str) -> list[str]:
        """The nodes that write a key."""
        return [node.name for node in self.spec.nodes if key in nodes.writes(node)]

    @property
    def needs_model(self) -> bool:
        """Whether a node uses the embedder."""
        return any(node.extract is not None for node in self.spec.nodes)


def state_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The state as expressions and callers see it, of the graph's values."""
    known = {key.removeprefix(_KEY): value for key, value in values.items() if key.startswith(_KEY)}
    return {**values.get(EXTRA, {}), **known}


def compile_workflow(revision: str, definition: Mapping[str, Any], tools: Tools) -> Workflow:
    """Builds the graph.

    Raises pydantic.ValidationError, cortex_kinds.cel.ExpressionError or InvalidInput; `check.problems` says all of a
    definition's mistakes.
    """
    spec = CortexWorkflowSpec.model_validate(definition)
    successors = _successors(spec)
    joins = Joins(successors)
    keys = _keys(spec)
    # Typed loosely: its overloads want the state's class, which is made just now.
    graph: Any = StateGraph(_schema(keys), RunContext)
    for node in spec.nodes:
        graph.add_node(
            node.name,
            _task(node, nodes.build(node, tools, revision), joins, tuple(successors[node.name])),
            retry_policy=_retry(node),
            timeout=_seconds(node),
            destinations=(*successors[node.name], *((node.name,) if node.name in joins.nodes else ())),
        )
    for entry in successors[START]:
        graph.add_edge(START, entry)
    state_bytes = _state_bytes(spec)
    return Workflow(
        revision=revision,
        spec=spec,
        graph=graph.compile(),
        joins=joins,
        entries=tuple(successors[START]),
        keys=frozenset(keys),
        input=InputSchema(spec.input.schema_, state_bytes),
        seconds=parse_duration(spec.limits.duration).total_seconds(),
        state_bytes=state_bytes,
    )


def _task(
    node: Node, work: Work, joins: Joins, successors: tuple[str, ...]
) -> Callable[[dict[str, Any], Runtime[RunContext]], Awaitable[Command[Any]]]:
    timeout = _seconds(node)

    async def run(values: dict[str, Any], runtime: Runtime[RunContext]) -> Command[Any]:
        if joins.waits(node.name, values[ACTIVE]):
            return Command(update={ACTIVE: [node.name]}, goto=[node.name])
        if runtime.execution_info is not None and runtime.execution_info.node_attempt > 1:
            again(What.NODE)
        outcome = await work(state_of(values), runtime.context.seconds(timeout))
        if outcome.message:
            runtime.stream_writer({"node": node.name, "message": outcome.message})
        after = successors if outcome.to is None else () if outcome.to == "END" else (outcome.to,)
        update = {_KEY + key: value for key, value in outcome.update.items()}
        return Command(update={**update, ACTIVE: list(after)}, goto=list(after))

    return run


def _successors(spec: CortexWorkflowSpec) -> dict[str, list[str]]:
    after: dict[str, list[str]] = {START: [], **{node.name: [] for node in spec.nodes}}
    for edge in spec.edges:
        after[START if edge.from_ == "START" else edge.from_].append(edge.to)
    for node in spec.nodes:
        if node.route is not None:
            after[node.name] = [*(case.to for case in node.route.cases), node.route.default]
    return {node: [to for to in dict.fromkeys(targets) if to != "END"] for node, targets in after.items()}


def _keys(spec: CortexWorkflowSpec) -> list[str]:
    given = spec.input.schema_.get("properties", {})
    return list(dict.fromkeys([*given, *(key for node in spec.nodes for key in nodes.writes(node))]))


def _schema(keys: list[str]) -> Any:
    fields: dict[str, Any] = {_KEY + key: Any for key in keys}
    return TypedDict(  # type: ignore[operator]
        "State", {**fields, EXTRA: dict[str, Any], ACTIVE: Annotated[list[str], Topic(str)]}, total=False
    )


def _retry(node: Node) -> RetryPolicy | None:
    if node.retry.attempts == 1:
        return None
    return RetryPolicy(
        max_attempts=node.retry.attempts, initial_interval=0.1, max_interval=5.0, jitter=True, retry_on=is_transient
    )


def _seconds(node: Node) -> float | None:
    return parse_duration(node.timeout).total_seconds() if node.timeout is not None else None


def _state_bytes(spec: CortexWorkflowSpec) -> int:
    size = int(parse_quantity(spec.limits.state_bytes))
    if not 1 <= size <= STATE_BYTES:
        raise InvalidInput(
            f"limits.stateBytes is {spec.limits.state_bytes}", remedy="set it to at most 8Mi and at least 1"
        )
    return size
