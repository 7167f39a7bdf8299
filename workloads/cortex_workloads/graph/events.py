"""The events of a run, as messages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from datapunk.cortex import common_pb2
from datapunk.cortex.common_pb2 import RunEvent
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from cortex_workloads.graph.input import to_struct
from cortex_workloads.graph.store import Run


def started(run: Run) -> RunEvent:
    """The run began, or began again."""
    message = common_pb2.RunStarted(thread_id=run.thread, revision=run.revision, attempt=run.attempts)
    return _event(run.id, started=message)


def step_started(run_id: str, node: str, kind: str, step: int) -> RunEvent:
    """A node began."""
    phase = common_pb2.StepEvent.PHASE_STARTED
    return _event(run_id, step=common_pb2.StepEvent(node=node, type=kind, phase=phase, step=step))


def step_ended(
    run_id: str, node: str, kind: str, step: int, seconds: float, *, message: str = "", failed: bool = False
) -> RunEvent:
    """A node ended, well or badly."""
    phase = common_pb2.StepEvent.PHASE_FAILED if failed else common_pb2.StepEvent.PHASE_SUCCEEDED
    ended = common_pb2.StepEvent(
        node=node, type=kind, phase=phase, step=step, took=_duration(seconds), message=message[:1024]
    )
    return _event(run_id, step=ended)


def partial(run_id: str, node: str, update: Mapping[str, Any]) -> RunEvent:
    """What a node wrote."""
    return _event(run_id, partial=common_pb2.PartialResult(node=node, update=to_struct(update)))


def progress(run_id: str, nodes_completed: int, steps: int, limit: int) -> RunEvent:
    """How far the run is."""
    message = common_pb2.RunProgress(nodes_completed=nodes_completed, steps=steps, steps_limit=limit)
    return _event(run_id, progress=message)


def ended(run: Run) -> RunEvent:
    """How a finished run ended, from its row."""
    assert run.finished_at is not None
    took = _duration(run.seconds)
    if run.failure is None:
        output = to_struct(run.output or {})
        event = _event(run.id, completed=common_pb2.RunCompleted(output=output, steps=run.steps, took=took))
    else:
        event = _event(run.id, failed=common_pb2.RunFailed(took=took, **run.failure))
    event.time.FromDatetime(run.finished_at)
    return event


def is_last(event: RunEvent) -> bool:
    """Whether a run's stream ends with the event."""
    return event.WhichOneof("event") in ("completed", "failed")


def _event(run_id: str, **what: Any) -> RunEvent:
    now = Timestamp()
    now.FromNanoseconds(time.time_ns())
    return RunEvent(run_id=run_id, time=now, **what)


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
