"""The state of resources, asked of their pods: read, followed, examined, made again."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final

from datapunk.cortex.state_pb2 import (
    Consistency,
    ExamineStateRequest,
    ReadStateRequest,
    RebuildStateRequest,
    StateHistoryRequest,
    WatchStateRequest,
)

from cortex_workloads.gateway import render
from cortex_workloads.gateway.backend import Backend, ref
from cortex_workloads.gateway.replies import Event
from cortex_workloads.runtime.catalogue import Resource
from cortex_workloads.runtime.errors import InvalidInput, NotFound, Unavailable, Unimplemented
from cortex_workloads.runtime.resilience.retries import What, again

_log: Final = logging.getLogger("cortex.state")
_READ_SECONDS: Final = 15.0
_EXAMINE_SECONDS: Final = 120.0
_REBUILD_SECONDS: Final = 600.0
_LOST_SECONDS: Final = 30.0
"""How long a watch whose pod is gone looks for another one."""
_LONGEST_PAUSE: Final = 1.0
_PLACE: Final = re.compile(r"([0-9]{1,18})(?:-([0-9a-f]{8}))?")

Place = tuple[int, str]
"""A position, and the mark of the event there; without it (empty) any event may be there."""


async def read(
    backend: Backend, resource: Resource, aggregate: str, consistency: str, bound_ms: int | None
) -> dict[str, Any]:
    """schemas.StateReply. Raises NotFound, InvalidInput, Unavailable."""
    request = ReadStateRequest(
        resource=ref(resource), aggregate=aggregate, consistency=Consistency.Value(f"CONSISTENCY_{consistency.upper()}")
    )
    if bound_ms is not None:
        if consistency != "Bounded":
            message, remedy = "is of Bounded alone", "leave it out, or ask with consistency=Bounded"
            violations = [("/query/boundMs", f"{message}; {remedy}")]
            raise InvalidInput(f"boundMs {message}", remedy=remedy, violations=violations)
        request.bound.FromMilliseconds(bound_ms)
    with _known(resource):
        response = await backend.state(resource).ReadState(request, timeout=_READ_SECONDS)
    if not response.HasField("state"):
        raise _nothing(resource, aggregate)
    return render.state_reply(response)


async def history(backend: Backend, resource: Resource, aggregate: str, after: int, limit: int) -> dict[str, Any]:
    """schemas.History. Raises NotFound, InvalidInput, Unavailable."""
    request = StateHistoryRequest(resource=ref(resource), aggregate=aggregate, after_version=after, limit=limit)
    with _known(resource):
        page = await backend.state(resource).StateHistory(request, timeout=_READ_SECONDS)
    if not page.events and not after:
        raise _nothing(resource, aggregate)
    return {"events": [render.change(event) for event in page.events], "more": page.more}


async def report(backend: Backend, resource: Resource) -> dict[str, Any]:
    """schemas.StateReport. Raises NotFound, Unavailable, DeadlineExceeded."""
    with _known(resource):
        request = ExamineStateRequest(resource=ref(resource))
        return render.report((await backend.state(resource).ExamineState(request, timeout=_EXAMINE_SECONDS)).report)


async def rebuild(backend: Backend, resource: Resource) -> dict[str, Any]:
    """schemas.StateReport, after repairs. Raises as `report`."""
    with _known(resource):
        request = RebuildStateRequest(resource=ref(resource))
        return render.report((await backend.state(resource).RebuildState(request, timeout=_REBUILD_SECONDS)).report)


async def changes(backend: Backend, resource: Resource, begin: Place | None) -> AsyncIterator[Event]:
    """`position`, where it begins, then each `change` behind it (None: from now on), once and in order, over lost pods.
    Raises NotFound, StateSyncFailed, Unavailable."""
    after, mark = begin or (None, "")
    begun, lost_at, pause = False, 0.0, 0.0
    while True:
        request = WatchStateRequest(resource=ref(resource), after=after, mark=mark)
        try:
            with _known(resource):
                # Until it has begun gRPC tries again, then this loop, which knows the last event.
                stream = backend.state(resource, retries=not begun).WatchState(request)
                async with aclosing(stream):  # type: ignore[type-var]
                    async for step in stream:
                        after, mark, lost_at, pause = step.position, step.mark, 0.0, 0.0
                        event_id, marked = "-".join(filter(None, (str(after), mark))), {"mark": mark} if mark else {}
                        if step.HasField("event"):
                            yield event_id, "change", {**render.change(step.event), **marked}
                        elif not begun:
                            yield event_id, "position", {"position": after, **marked}
                        begun = True
            raise Unavailable(f"the watch of {resource} ended", reason="StreamBroken")
        except Unavailable as error:
            lost_at = lost_at or time.monotonic()
            if not begun or time.monotonic() - lost_at > _LOST_SECONDS or error.reason.endswith("NotFound"):
                raise
            _log.info("following in another pod", extra={"resource": str(resource), "after": after, "why": str(error)})
        await asyncio.sleep(pause)
        again(What.STREAM)
        pause = min(_LONGEST_PAUSE, pause * 2 or 0.1)


def place(event_id: str | None, field: str) -> Place | None:
    """Where the id of a `change` or `position` stands, or a position alone; None for none. `field`: where it was
    given. Raises InvalidInput."""
    if event_id is None:
        return None
    if (match := _PLACE.fullmatch(event_id)) is None:
        message, remedy = f"{event_id[:80]!r} is not the id of a change", "send an id as it came, a position, or none"
        raise InvalidInput(message, remedy=remedy, violations=[(field, f"{message}; {remedy}")])
    return int(match[1]), match[2] or ""


@contextmanager
def _known(resource: Resource) -> Iterator[None]:
    """While a release is rolled out, pods of the one before do not know the question."""
    try:
        yield
    except Unimplemented:
        raise Unimplemented(
            f"the pods of {resource} are of a release that does not tell its state",
            remedy="wait until they are replaced, or update the resource's image",
        ) from None


def _nothing(resource: Resource, aggregate: str) -> NotFound:
    return NotFound(
        f"{resource} has no {aggregate}", remedy="check its name; runs and threads are of one resource alone",
        reason="AggregateNotFound",
    )  # fmt: skip
