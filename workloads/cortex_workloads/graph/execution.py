"""One run of a compiled graph, from its first or its last checkpoint to its end: what LangGraph streams, as events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

import orjson
from datapunk.cortex.common_pb2 import RunEvent
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.errors import GraphRecursionError, InvalidUpdateError, NodeTimeoutError
from langgraph.runtime import RunControl
from langgraph.types import Durability

from cortex_workloads.graph import checkpoints, events
from cortex_workloads.graph.compile import ACTIVE, EXTRA, RunContext, Workflow, state_of
from cortex_workloads.graph.failures import Code, NodeProblem, RunFailure, of_node
from cortex_workloads.graph.store import Run
from cortex_workloads.runtime.errors import DeadlineExceeded

Publish = Callable[[RunEvent], Awaitable[None]]
_MARGIN: Final = 0.05
"""Seconds: a call that ends this close to the run's end ended because of it."""


class Execution:
    """Runs `run` on `workflow`; `control` drains it at the end of a super-step (GraphDrained)."""

    def __init__(
        self, workflow: Workflow, run: Run, saver: AsyncPostgresSaver, control: RunControl, publish: Publish
    ) -> None:
        self._workflow = workflow
        self._run = run
        self._saver = saver
        self._control = control
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + max(0.0, workflow.seconds - run.seconds)
        self._begun: dict[str, float] = {}
        self._messages: dict[str, str] = {}
        self._failed: RunFailure | None = None
        self._writers: dict[str, list[str]] = {}
        self._active: list[str] = []
        self._nodes_completed = 0
        self._first = True
        self.steps = 0
        """Super-steps taken so far."""
        self.state: dict[str, Any] = {}
        """As after the last super-step."""

    async def finish(self) -> dict[str, Any]:
        """The final state. Raises RunFailure; GraphDrained; whatever the Lake raises when it is lost."""
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._stream()
        except TimeoutError:
            if self._loop.time() < self._deadline:
                raise
            raise self._out_of_time() from None
        except RunFailure:
            raise
        except GraphRecursionError:
            # Raised after the last step that is allowed, even when nothing is left to do.
            if self._active:
                raise self._out_of_steps() from None
        except InvalidUpdateError as error:
            raise self._conflict(str(error)) from error
        except Exception:
            if self._failed is None:
                raise
            raise self._failed from None
        return self.state

    async def _stream(self) -> None:
        given, config = await self._start()
        graph = self._workflow.graph.copy({"checkpointer": self._saver})
        parts = graph.astream(
            given,
            cast(Any, config),
            context=RunContext(self._deadline),
            stream_mode=["values", "tasks", "custom"],
            durability=cast(Durability, self._workflow.spec.execution.durability.value.lower()),
            control=self._control,
            version="v2",
        )
        async with aclosing(cast(Any, parts)) as stream:
            async for part in stream:
                await self._part(part["type"], part["data"])

    async def _start(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """What to give to the graph: nothing when it goes on from a checkpoint."""
        limits = self._workflow.spec.limits
        found = await checkpoints.latest(self._saver, self._run.id) if self._run.attempts > 1 else None
        if found is not None:
            self.steps = max(0, found.metadata.get("step", 0))
            if self.steps >= limits.steps and found.checkpoint["channel_values"].get(ACTIVE):
                raise self._out_of_steps()
        config = {
            **checkpoints.config(self._run.id),
            "recursion_limit": max(1, limits.steps - self.steps),
            "max_concurrency": limits.parallelism,
        }
        given = None if found is not None else self._workflow.values({**self._run.state, **self._run.input})
        return given, config

    async def _part(self, kind: str, data: Any) -> None:
        match kind:
            case "values":
                await self._values(data)
            case "custom":
                self._messages[data["node"]] = data["message"]
            case "tasks" if "result" in data:
                await self._task_ended(data)
            case "tasks":
                await self._task_started(data)

    async def _values(self, values: Mapping[str, Any]) -> None:
        self.state, self._active = state_of(values), values.get(ACTIVE, [])
        size = len(orjson.dumps(self.state))
        if size > self._workflow.state_bytes:
            raise RunFailure(
                Code.STATE_TOO_LARGE,
                f"the state has {size:,} bytes as JSON, more than limits.stateBytes ({self._workflow.state_bytes:,});"
                " write less to it, or raise the limit",
            )
        if not self._first:
            self.steps += 1
            limit = self._workflow.spec.limits.steps
            await self._publish(events.progress(self._run.id, self._nodes_completed, self.steps, limit))
        self._first = False
        self._writers.clear()

    async def _task_started(self, task: Mapping[str, Any]) -> None:
        name = task["name"]
        if self._workflow.joins.waits(name, task["input"].get(ACTIVE, ())):
            return
        self._begun[task["id"]] = self._loop.time()
        await self._publish(events.step_started(self._run.id, name, self._type(name), self.steps + 1))

    async def _task_ended(self, task: Mapping[str, Any]) -> None:
        name, begun = task["name"], self._begun.pop(task["id"], None)
        if begun is None:
            return
        failure = self._failure(name, task["error"]) if task["error"] is not None else None
        message = failure.message if failure is not None else self._messages.pop(name, "")
        took = self._loop.time() - begun
        await self._publish(
            events.step_ended(
                self._run.id,
                name,
                self._type(name),
                self.steps + 1,
                took,
                message=message,
                failed=failure is not None,
            )
        )
        if failure is None:
            await self._wrote(name, state_of({k: v for k, v in task["result"].items() if k != EXTRA}))
        else:
            self._failed = self._failed or failure

    async def _wrote(self, node: str, update: dict[str, Any]) -> None:
        self._nodes_completed += 1
        for key in update:
            self._writers.setdefault(key, []).append(node)
        if update:
            await self._publish(events.partial(self._run.id, node, update))

    def _failure(self, name: str, error: BaseException) -> RunFailure:
        node = self._workflow.node(name)
        out_of_time = isinstance(error, DeadlineExceeded | NodeTimeoutError | TimeoutError)
        if out_of_time and self._loop.time() >= self._deadline - _MARGIN:
            return self._out_of_time()
        if out_of_time and node.timeout is not None:
            error = NodeProblem(f"it did not end within its timeout of {node.timeout}", "allow it more time")
        return of_node(name, error, node.retry.attempts)

    def _conflict(self, said: str) -> RunFailure:
        key, writers = next(((k, names) for k, names in self._writers.items() if len(names) > 1), ("", []))
        if not key:
            return RunFailure(Code.NODE_FAILED, f"two nodes wrote the same key in one super-step: {said}")
        return RunFailure(
            Code.NODE_FAILED,
            f"nodes {' and '.join(map(repr, writers))} wrote state.{key} in the same super-step;"
            " let each write a key of its own, and join them in a Transform",
            writers[-1],
        )

    def _out_of_time(self) -> RunFailure:
        return RunFailure(
            Code.DEADLINE_EXCEEDED,
            f"the run did not end within limits.duration ({self._workflow.spec.limits.duration});"
            " raise it, or bound its nodes by `timeout`",
        )

    def _out_of_steps(self) -> RunFailure:
        return RunFailure(
            Code.STEPS_EXCEEDED,
            f"the run did not end within limits.steps ({self._workflow.spec.limits.steps} super-steps);"
            " raise it, or see that every loop is left through a Route",
        )

    def _type(self, name: str) -> str:
        return self._workflow.node(name).type.value
