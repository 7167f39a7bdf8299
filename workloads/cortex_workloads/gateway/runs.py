"""Runs of workflows: started, followed over lost pods, waited for. Called by REST and by CortexAPI."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from cortex_kinds.base import parse_duration
from cortex_kinds.workflow import CortexWorkflow
from datapunk.cortex.common_pb2 import RunEvent
from datapunk.cortex.graph_pb2 import WorkflowRequest

from cortex_workloads.gateway import inputs, render, state
from cortex_workloads.gateway.backend import Backend, ref
from cortex_workloads.gateway.body import to_struct
from cortex_workloads.gateway.schemas import Run
from cortex_workloads.runtime.catalogue import Resource
from cortex_workloads.runtime.errors import (
    CortexError,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    RunFailed,
    RunInterrupted,
    RunRefused,
    RunUnserved,
    Unavailable,
)
from cortex_workloads.runtime.resilience.retries import What, again

_log: Final = logging.getLogger("cortex.runs")
_LOST_SECONDS: Final = 30.0
"""How long a run whose pod is gone is looked for in other pods."""
_PAUSE_SECONDS: Final = (0.1, 0.2, 0.5, 1.0)
_LEAST_SECONDS: Final = 0.5
"""What a run that is not waited for has to be heard of, before the Lake is asked how it is."""
_ENDED_SECONDS: Final = 15.0
"""What a run that has ended, as the Lake says, has to tell its end."""
_GRACE_SECONDS: Final = 15.0
"""Beyond the workflow's own limit, for the service to say that the limit was reached."""
_NO_RUN: Final = "see the run id, or start a run by POST .../runs"
_FAILURES: Final[dict[str, type[CortexError]]] = {
    "DeadlineExceeded": DeadlineExceeded,
    "Interrupted": RunInterrupted,
    "NodeFailed": RunRefused,
    "NodeUnavailable": RunUnserved,
    "ExpressionFailed": RunRefused,
    "StepsExceeded": RunRefused,
    "StateTooLarge": RunRefused,
}
"""By the run's code; any other is a defect."""
_EVENT_ID: Final = re.compile(r"^[0-9]{1,20}-[0-9]{1,20}$")
_RUN_ID: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


def start(
    backend: Backend, namespace: str, name: str, run: Run, *, after: str = "", timeout: float | None = None
) -> AsyncIterator[RunEvent]:
    """Starts a run, or goes on with the one that `run.run_id` names; its events until it ends. Raises NotFound,
    InvalidInput (every violation of the workflow's schema) before there is any event."""
    workflow = backend.workflow(namespace, name)
    if not run.run_id:
        inputs.check(workflow, run.input)
    request = WorkflowRequest(
        workflow=ref(workflow),
        run_id=_run_id(run.run_id) if run.run_id else str(uuid.uuid4()),
        thread_id=run.thread_id,
        input=to_struct(run.input),
        after_event_id=_event_id(after),
    )
    return _follow(backend, workflow, request, timeout)


def attach(backend: Backend, namespace: str, name: str, run_id: str, *, after: str = "") -> AsyncIterator[RunEvent]:
    """The events of a run that exists, after one of them. Raises NotFound."""
    workflow = backend.workflow(namespace, name)
    request = WorkflowRequest(
        workflow=ref(workflow), run_id=_run_id(run_id), after_event_id=_event_id(after), attach_only=True
    )
    return _follow(backend, workflow, request, None)


async def known(backend: Backend, namespace: str, name: str, run_id: str, wait: float) -> dict[str, Any]:
    """schemas.RunResult: of the whole run, or of what is known `wait` seconds later. Raises NotFound, and Unavailable
    or DeadlineExceeded when nobody says how the run is."""
    result = await outcome(attach(backend, namespace, name, run_id), max(wait, _LEAST_SECONDS))
    if result["runId"]:
        return result
    # Silence says nothing: so is a run of another pod without live progress, and so is a Lake that hangs.
    workflow = backend.workflow(namespace, name)
    try:
        read = await state.read(backend, workflow, f"run/{run_id}", "Durable", None)
    except DeadlineExceeded as error:
        raise _untold(workflow, run_id) from error
    except NotFound as error:
        if error.reason == "AggregateNotFound":
            raise NotFound(f"workflow {name!r} has no run {run_id}", remedy=_NO_RUN) from error
        raise
    fields = read["fields"]
    if fields["status"] == "Running":
        result |= {"runId": run_id, "threadId": fields["thread"], "revision": fields["revision"]}
        return {**result, "steps": int(fields["steps"])}
    result = await outcome(attach(backend, namespace, name, run_id), _ENDED_SECONDS)
    if result["status"] == "Running":
        raise _untold(workflow, run_id)
    return result


async def outcome(events: AsyncIterator[RunEvent], wait: float | None = None) -> dict[str, Any]:
    """schemas.RunResult: of the whole run, or of what was heard `wait` seconds later; `runId` is empty when that is
    nothing."""
    seen = _Seen()
    try:
        async with asyncio.timeout(wait), aclosing(events):  # type: ignore[type-var]
            async for event in events:
                seen.add(event)
    except TimeoutError:
        pass
    except asyncio.CancelledError as error:
        if not (run_id := seen.result["runId"]):
            raise
        raise Unavailable(
            f"the gateway is being stopped; run {run_id} goes on",
            remedy=f"ask how it is by GET .../runs/{run_id}",
            reason="Draining",
        ) from error
    return seen.result


def failed(event: RunEvent) -> CortexError | None:
    """The error of an event that ends a run badly."""
    if event.WhichOneof("event") != "failed":
        return None
    return failure(event.run_id, event.failed.code, event.failed.message)


def failure(run_id: str, code: str, message: str) -> CortexError:
    """A run that ended badly, as an error; what its message says after the last `; ` is the remedy."""
    what, _, remedy = message.rpartition("; ") if "; " in message else (message, "", "")
    return _FAILURES.get(code, RunFailed)(f"run {run_id} failed: {what}", remedy=remedy, reason=code)


@dataclass
class _Seen:
    result: dict[str, Any] = field(
        default_factory=lambda: {"runId": "", "threadId": "", "revision": "", "status": "Running", "steps": 0}
    )

    def add(self, message: RunEvent) -> None:
        name, event = render.event(message)
        self.result["runId"] = event["runId"]
        match name:
            case "started":
                self.result |= {"threadId": event["threadId"], "revision": event["revision"]}
            case "progress":
                self.result["steps"] = event["steps"]
            case "completed":
                self.result |= {"status": "Completed", "output": event["output"], "steps": event["steps"]}
                self.result["tookSeconds"] = event["tookSeconds"]
            case "failed":
                error = {key: event[key] for key in ("code", "message", "node")}
                self.result |= {"status": "Failed", "error": error, "tookSeconds": event["tookSeconds"]}


async def _follow(
    backend: Backend, workflow: Resource, request: WorkflowRequest, timeout: float | None
) -> AsyncIterator[RunEvent]:
    """The run's events, once each and in order. When the pod that streams them goes away, another one is asked to go
    on after the last event; without ids (no shared state) only the end can follow then."""
    limit = _limit(workflow) if timeout is None else timeout
    deadline, lost_at, tries = time.monotonic() + limit, 0.0, 0
    last, heard, reattached = request.after_event_id, False, False
    while True:
        try:
            stream = backend.graph(workflow).ExecuteWorkflow(request, timeout=max(0.001, deadline - time.monotonic()))
            async with aclosing(stream):  # type: ignore[type-var]
                async for response in stream:
                    event, lost_at, tries = response.event, 0.0, 0
                    ends = event.WhichOneof("event") in render.TERMINAL
                    if not ends and (_seen_before(event.event_id, last) or (reattached and not event.event_id)):
                        continue
                    last, heard = event.event_id or last, True
                    yield event
                    if ends:
                        return
            raise Unavailable(f"the stream of run {request.run_id} ended before the run did", reason="StreamBroken")
        except NotFound as error:
            if request.attach_only:
                error.remedy = _NO_RUN
            raise
        except Unavailable as error:
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > _LOST_SECONDS or error.reason.endswith("NotFound"):
                raise
            _log.info("looking for the run again", extra={"run": request.run_id, "after": last, "why": str(error)})
        await asyncio.sleep(_PAUSE_SECONDS[min(tries, len(_PAUSE_SECONDS) - 1)])
        tries, reattached = tries + 1, heard
        again(What.STREAM)
        request.after_event_id = last


def _untold(workflow: Resource, run_id: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"{workflow} does not say in time how run {run_id} is",
        remedy="ask again; when that does not help, see that PostgreSQL and the workflow's pods answer",
        retry_after=1.0,
    )


def _limit(workflow: Resource) -> float:
    assert isinstance(workflow.model, CortexWorkflow)
    return parse_duration(workflow.model.spec.limits.duration).total_seconds() + _GRACE_SECONDS


def _seen_before(event_id: str, last: str) -> bool:
    return bool(event_id and last) and _order(event_id) <= _order(last)


def _order(event_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = event_id.partition("-")
    return int(milliseconds), int(sequence or 0)


def _event_id(after: str) -> str:
    if after and not _EVENT_ID.match(after):
        raise InvalidInput(f"{after[:80]!r} is not the id of an event", remedy="send an id as it came, or none")
    return after


def _run_id(run_id: str) -> str:
    if not _RUN_ID.match(run_id):
        raise InvalidInput(
            f"{run_id[:80]!r} is not the id of a run", violations=[("/runId", "letters, digits and . _ - only")]
        )
    return run_id
