"""Messages as JSON: camelCase, plain numbers for durations (seconds) and counts, CamelCase for enums."""

from __future__ import annotations

from typing import Any, Final

from datapunk.cortex.common_pb2 import Fallback, Hit, RunEvent, SearchMode, SearchResult, StepEvent
from datapunk.cortex.search_pb2 import UpdateResponse
from datapunk.cortex.state_pb2 import AggregateState, ReadStateResponse, StateEvent, StateReport, StateSource
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

_MODES: Final = {
    SearchMode.SEARCH_MODE_HYBRID: "Hybrid",
    SearchMode.SEARCH_MODE_VECTOR: "Vector",
    SearchMode.SEARCH_MODE_TEXT: "Text",
}
_FALLBACKS: Final = {Fallback.FALLBACK_TEXT_ONLY: "TextOnly", Fallback.FALLBACK_STALE_ANSWER: "StaleAnswer"}
_PHASES: Final = {
    StepEvent.PHASE_STARTED: "Started",
    StepEvent.PHASE_SUCCEEDED: "Succeeded",
    StepEvent.PHASE_FAILED: "Failed",
}
_SOURCES: Final = {StateSource.STATE_SOURCE_LAKE: "Lake", StateSource.STATE_SOURCE_COPY: "Copy"}
TERMINAL: Final = ("completed", "failed")


def search_result(result: SearchResult) -> dict[str, Any]:
    """schemas.SearchResult."""
    body: dict[str, Any] = {
        "hits": [_hit(hit) for hit in result.hits],
        "revision": result.revision,
        "mode": _MODES.get(result.mode, ""),
        "coverage": {"documents": result.coverage.documents, "embedded": result.coverage.embedded},
        "tookSeconds": _seconds(result.took),
    }
    if result.fallback:
        body["fallback"] = _FALLBACKS.get(result.fallback, "")
    if result.HasField("age"):
        body["ageSeconds"] = _seconds(result.age)
    return body


def written(response: UpdateResponse) -> dict[str, int]:
    """schemas.Written."""
    return {name: getattr(response, name) for name in ("written", "unchanged", "deleted", "waiting")}


def event(message: RunEvent) -> tuple[str, dict[str, Any]]:
    """A run's event: its name, and runId, time and its own fields in one object."""
    name = message.WhichOneof("event") or "unknown"
    body: dict[str, Any] = {"runId": message.run_id, "time": message.time.ToJsonString()}
    match name:
        case "started":
            started = message.started
            body |= {"threadId": started.thread_id, "revision": started.revision, "attempt": started.attempt}
        case "step":
            body |= _step(message.step)
        case "progress":
            now = message.progress
            body |= {"nodesCompleted": now.nodes_completed, "steps": now.steps, "stepsLimit": now.steps_limit}
        case "partial":
            body |= {"node": message.partial.node, "update": struct(message.partial.update)}
        case "completed":
            done = message.completed
            body |= {"output": struct(done.output), "steps": done.steps, "tookSeconds": _seconds(done.took)}
        case "failed":
            failed = message.failed
            body |= {"code": failed.code, "message": failed.message, "node": failed.node}
            body["tookSeconds"] = _seconds(failed.took)
    return name, body


def state_reply(response: ReadStateResponse) -> dict[str, Any]:
    """schemas.StateReply."""
    where = {"source": _SOURCES.get(response.source, ""), "ageSeconds": _seconds(response.age)}
    return {**_state(response.state), **where}


def change(event: StateEvent) -> dict[str, Any]:
    """schemas.Change."""
    body: dict[str, Any] = {name: getattr(event, name) for name in ("position", "aggregate", "version", "type")}
    if event.HasField("data"):
        body["data"] = struct(event.data)
    return {**body, "at": event.at.ToJsonString(), "by": event.by}


def report(message: StateReport) -> dict[str, Any]:
    """schemas.StateReport."""
    body: dict[str, Any] = {"position": message.position}
    if message.HasField("copy"):
        body["copy"] = {"epoch": message.copy.epoch, "position": message.copy.position}
        if message.copy.HasField("lag"):
            body["copy"]["lagSeconds"] = _seconds(message.copy.lag)
    else:
        body["problem"] = message.problem
    for name, found in (("rows", message.rows), ("copies", message.copies)):
        body[name] = [{"aggregate": one.aggregate, "message": one.message} for one in found]
    return {**body, "replicas": [*map(_state, message.replicas)]}


def struct(value: Struct) -> dict[str, Any]:
    """A Struct as JSON; whole numbers without a point."""
    return {key: _whole(item) for key, item in MessageToDict(value).items()}


def _state(state: AggregateState) -> dict[str, Any]:
    return {"aggregate": state.aggregate, "version": state.version, "fields": struct(state.fields)}


def _hit(hit: Hit) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": hit.id,
        "title": hit.title,
        "passage": hit.passage,
        "score": hit.score,
        "meta": struct(hit.meta) if hit.HasField("meta") else {},
        "passageStart": hit.passage_start,
        "passageEnd": hit.passage_end,
    }
    if hit.HasField("vector_rank"):
        body["vectorRank"] = hit.vector_rank
    if hit.HasField("text_rank"):
        body["textRank"] = hit.text_rank
    return body


def _step(step: StepEvent) -> dict[str, Any]:
    body = {"node": step.node, "type": step.type, "phase": _PHASES.get(step.phase, ""), "step": step.step}
    if step.message:
        body["message"] = step.message
    if step.HasField("took"):
        body["tookSeconds"] = _seconds(step.took)
    return body


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def _whole(value: Any) -> Any:
    match value:
        # Beyond, a float is no exact integer, and JSON writers refuse an int of more than 64 bits.
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case dict():
            return {key: _whole(item) for key, item in value.items()}
        case list():
            return [_whole(item) for item in value]
    return value
