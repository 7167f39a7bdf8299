"""States, changes and reports as messages of the protocol."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from datapunk.cortex import state_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from cortex_workloads.runtime.state.aggregates import Change, Reply, Source, State
from cortex_workloads.runtime.state.copies import Standing
from cortex_workloads.runtime.state.history import Difference
from cortex_workloads.runtime.state.manager import Report

LEVELS: Final = 32
"""How deeply objects may be nested: protobuf reads a hundred messages in each other, and a Struct has three a level."""
_SOURCES: Final = {Source.LAKE: state_pb2.STATE_SOURCE_LAKE, Source.COPY: state_pb2.STATE_SOURCE_COPY}


def reply(found: Reply) -> state_pb2.ReadStateResponse:
    """An answer to a read; of what is nested too deeply the state is without its fields."""
    there = None if found.state is None else state(found.state)
    return state_pb2.ReadStateResponse(state=there, source=_SOURCES[found.source], age=_duration(found.age))


def state(there: State) -> state_pb2.AggregateState:
    """A state."""
    return state_pb2.AggregateState(aggregate=there.aggregate, version=there.version, fields=_struct(there.fields))


def event(change: Change) -> state_pb2.StateEvent:
    """A change; without its data when that is nested too deeply."""
    at = Timestamp()
    at.FromDatetime(change.at)
    return state_pb2.StateEvent(
        position=change.position,
        aggregate=change.aggregate,
        version=change.version,
        type=change.type,
        data=_struct(change.data),
        at=at,
        by=change.by,
    )


def events(changes: Iterable[Change]) -> list[state_pb2.StateEvent]:
    """Some changes."""
    return list(map(event, changes))


def report(found: Report) -> state_pb2.StateReport:
    """A report."""
    return state_pb2.StateReport(
        position=found.position,
        copy=None if found.standing is None else _copy(found.standing),
        problem=found.problem,
        rows=_differences(found.rows),
        copies=_differences(found.copies),
        replicas=map(state, found.replicas),
    )


def _copy(standing: Standing) -> state_pb2.StateCopy:
    # A watermark ahead of the clock is of a clock that was set back since.
    known = 0 < standing.watermark <= standing.now
    lag = _duration((standing.now - standing.watermark + 1) / 1000) if known else None
    return state_pb2.StateCopy(epoch=standing.epoch, position=standing.position, lag=lag)


def _differences(found: Iterable[Difference]) -> list[state_pb2.StateDifference]:
    return [state_pb2.StateDifference(aggregate=one.aggregate, message=one.message) for one in found]


def _struct(value: Any) -> Struct | None:
    if not _fits(value, LEVELS):
        return None
    struct = Struct()
    struct.update(value)
    return struct


def _fits(value: Any, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_fits(child, levels - 1) for child in children if isinstance(child, dict | list))


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=max(0.0, seconds)))
    return duration
