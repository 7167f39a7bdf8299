"""How far an index is with embedding: as it stands, and as it goes on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Final

from datapunk.cortex.control_pb2 import REVISION_PHASE_BUILDING, DescribeRequest, DescribeResponse, Revision

from cortex_workloads.gateway.backend import Backend, ref
from cortex_workloads.gateway.replies import Event
from cortex_workloads.runtime.catalogue import Resource
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.progress import Fields, index_key

_SECONDS: Final = 5.0
_FRESH_SECONDS: Final = 10.0
_NUMBERS: Final = {"documents": int, "embedded": int, "waiting": int, "rate": float}


async def snapshot(backend: Backend, namespace: str, name: str) -> dict[str, Any]:
    """schemas.Progress as the Lake has it now (asked of a pod), with the rate that was told last. Raises NotFound,
    Unavailable when neither the Lake nor the shared state answers."""
    index = backend.index(namespace, name)
    try:
        described = await backend.control(index).Describe(DescribeRequest(resource=ref(index)), timeout=_SECONDS)
    except Unavailable:
        described = None
    told = await _told(backend, index)
    if described is not None and described.lake_read:
        return _described(described, told)
    if told is not None:
        return _event(told[1])
    raise Unavailable(f"{index} does not say how far it is: no pod answers, or the Lake does not answer the pod")


async def events(backend: Backend, namespace: str, name: str, after: str) -> AsyncIterator[Event]:
    """The progress after an event id; without one, as it stands and then what follows. Raises as `snapshot`."""
    index = backend.index(namespace, name)
    key = index_key(namespace, name)
    if not after:
        last = await backend.progress.last(key)
        after = last[0] if last else "0-0"
        yield (after if last else "", "progress", await snapshot(backend, index.namespace, index.name))
    async for event_id, fields in backend.progress.read(key, after):
        yield event_id, "progress", _event(fields)


async def _told(backend: Backend, index: Resource) -> tuple[str, Fields] | None:
    try:
        return await backend.progress.last(index_key(index.namespace, index.name))
    except Unavailable:
        return None


def _described(described: DescribeResponse, told: tuple[str, Fields] | None) -> dict[str, Any]:
    revision = _moving(described)
    embedding = revision.waiting > 0 or revision.phase == REVISION_PHASE_BUILDING
    return {
        "revision": revision.id,
        "documents": described.documents,
        "embedded": revision.documents,
        "waiting": revision.waiting,
        "rate": _rate(revision.id, told) if embedding else 0.0,
        "phase": "Embedding" if embedding else "Idle",
    }


def _moving(described: DescribeResponse) -> Revision:
    """The newest revision that is being built; without one, the current one."""
    building = [r for r in described.revisions if r.phase == REVISION_PHASE_BUILDING]
    if building:
        return max(building, key=lambda r: r.created_at.ToNanoseconds())
    current = described.current_revision
    return next((r for r in described.revisions if r.id == current), Revision(id=current))


def _rate(revision: str, told: tuple[str, Fields] | None) -> float:
    if told is None or time.time() - int(told[0].partition("-")[0]) / 1000 >= _FRESH_SECONDS:
        return 0.0
    event = _event(told[1])
    return float(event["rate"]) if event["revision"] == revision else 0.0


def _event(fields: Fields) -> dict[str, Any]:
    texts = {key: value.decode() for key, value in fields.items()}
    numbers = {key: kind(texts.get(key, 0)) for key, kind in _NUMBERS.items()}
    return {"revision": texts.get("revision", ""), **numbers, "phase": texts.get("phase", "Idle")}
