"""StateService: what a pod tells of its resource's state, and what it repairs when asked to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final, cast

from datapunk.cortex import common_pb2, state_pb2, state_pb2_grpc

from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.errors import InvalidInput, TooLarge, Unavailable
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.preconditions import check_resource
from cortex_workloads.runtime.state import wire
from cortex_workloads.runtime.state.aggregates import Change, Consistency
from cortex_workloads.runtime.state.manager import StateManager
from cortex_workloads.runtime.state.marks import MARK, Marks, mark
from cortex_workloads.runtime.state.names import named, with_events

_CONSISTENCIES: Final = {
    state_pb2.CONSISTENCY_UNSPECIFIED: Consistency.LATEST,
    state_pb2.CONSISTENCY_DURABLE: Consistency.DURABLE,
    state_pb2.CONSISTENCY_LATEST: Consistency.LATEST,
    state_pb2.CONSISTENCY_BOUNDED: Consistency.BOUNDED,
}
_BOUND_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 3600.0
_LIMIT: Final = 100
_MOST: Final = 500
_PAGE_BYTES: Final = 1024 * 1024


class StateService(state_pb2_grpc.StateServiceServicer):
    """Of one resource. `draining`: the server is to end, and with it every watch."""

    def __init__(self, resource: Resource, state: StateManager, marks: Marks, draining: asyncio.Event) -> None:
        self._resource = resource
        self._state = state
        self._marks = marks
        self._draining = draining
        # Each reads all that there is: two at once would only be slower.
        self._examining = asyncio.Lock()

    async def ReadState(self, request: state_pb2.ReadStateRequest, context: Any) -> state_pb2.ReadStateResponse:
        """One state. Raises InvalidInput, FailedPrecondition, Unavailable, TooLarge."""
        self._check(request.resource)
        aggregate, consistency, bound = named(request.aggregate), _consistency(request), _bound(request)
        reply = await self._state.read(aggregate, consistency, bound)
        # Some kinds of a megabyte take half a second to convert: other calls go on meanwhile.
        response = await asyncio.to_thread(wire.reply, reply)
        if response.HasField("state") and not response.state.HasField("fields"):
            raise TooLarge(
                f"{aggregate} is nested more deeply than a message carries ({wire.LEVELS} levels)",
                remedy="nest it less in the workflow; the Lake has all of it",
            )
        return response

    async def StateHistory(
        self, request: state_pb2.StateHistoryRequest, context: Any
    ) -> state_pb2.StateHistoryResponse:
        """A page of events. Raises InvalidInput, FailedPrecondition, NotFound, Unavailable."""
        self._check(request.resource)
        aggregate = with_events(request.aggregate)
        after = _within("after_version", request.after_version, 0, 2**63 - 1)
        limit = _within("limit", request.limit or _LIMIT, 1, _MOST)
        return await self._page(aggregate, after, limit)

    async def WatchState(
        self, request: state_pb2.WatchStateRequest, context: Any
    ) -> AsyncGenerator[state_pb2.WatchStateResponse, None]:
        """Where it begins, then every change. Raises InvalidInput, FailedPrecondition, StateSyncFailed, Unavailable."""
        self._check(request.resource)
        after = _within("after", request.after, 0, 2**63 - 1) if request.HasField("after") else None
        if request.mark and not (after and MARK.fullmatch(request.mark)):
            raise _invalid("mark", f"is {request.mark[:80]!r}", "send it as it came, with its position")
        position = await self._state.begin(after)
        begun = await self._marks.at(position, request.mark)
        yield state_pb2.WatchStateResponse(position=position, mark=begun)
        async with aclosing(_until(self._draining, self._state.watch(position, begun))) as changes:
            async for change in changes:
                event = wire.event(change)
                yield state_pb2.WatchStateResponse(position=change.position, event=event, mark=mark(change))
        raise Unavailable(
            "this pod is ending", remedy="go on in another one, after the last position", reason="Draining"
        )

    async def ExamineState(
        self, request: state_pb2.ExamineStateRequest, context: Any
    ) -> state_pb2.ExamineStateResponse:
        """The report. Raises FailedPrecondition, NotFound, Unavailable."""
        self._check(request.resource)
        async with self._examining:
            return state_pb2.ExamineStateResponse(report=wire.report(await self._state.examine()))

    async def RebuildState(
        self, request: state_pb2.RebuildStateRequest, context: Any
    ) -> state_pb2.RebuildStateResponse:
        """Repairs, then the report. Raises FailedPrecondition, NotFound, Unavailable."""
        self._check(request.resource)
        async with self._examining:
            return state_pb2.RebuildStateResponse(report=wire.report(await self._state.rebuild()))

    def _check(self, asked: common_pb2.ResourceRef) -> None:
        check_resource(self._resource, asked)
        self._state.check_started()

    async def _page(self, aggregate: str, after: int, limit: int) -> state_pb2.StateHistoryResponse:
        page, room = state_pb2.StateHistoryResponse(), _PAGE_BYTES
        # Of large events fewer come than were asked for.
        while len(page.events) < limit and (
            found := await self._state.history(aggregate, after, limit - len(page.events))
        ):
            for event in await asyncio.to_thread(wire.events, found):
                room -= event.ByteSize()
                if room < 0 and page.events:
                    page.more = True
                    return page
                page.events.append(event)
                after = event.version
        page.more = bool(await self._state.history(aggregate, after, 1))
        return page


def _consistency(request: state_pb2.ReadStateRequest) -> Consistency:
    if request.consistency not in _CONSISTENCIES:
        raise _invalid("consistency", f"{request.consistency} is none that this release knows")
    return _CONSISTENCIES[request.consistency]


def _bound(request: state_pb2.ReadStateRequest) -> float:
    if not request.HasField("bound"):
        return _BOUND_SECONDS
    if request.consistency != state_pb2.CONSISTENCY_BOUNDED:
        raise _invalid("bound", "is of Bounded alone", "leave it out, or ask with Bounded")
    seconds = float(request.bound.seconds + request.bound.nanos / 1e9)
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise _invalid("bound", f"is {seconds:g} s", f"above 0 and at most {_LONGEST_SECONDS:g} s is expected")
    return seconds


def _within(field: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise _invalid(field, f"is {value}", f"{least} to {most} is expected")
    return value


def _invalid(field: str, message: str, remedy: str = "") -> InvalidInput:
    return InvalidInput(f"{field} {message}", remedy=remedy, violations=[(field, f"{message}; {remedy}".rstrip("; "))])


async def _until(over: asyncio.Event, changes: AsyncIterator[Change]) -> AsyncGenerator[Change, None]:
    """The changes, until it is over: who waits for one must not keep a pod from ending."""
    ending = asyncio.create_task(over.wait(), name="watch-until")
    coming: asyncio.Task[Change] | None = None
    try:
        while not over.is_set():
            coming = asyncio.create_task(cast(Any, anext(changes)), name="watch-next")
            await asyncio.wait((coming, ending), return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                yield coming.result()
    finally:
        await tasks.end(coming, ending)
        await cast(Any, changes).aclose()
