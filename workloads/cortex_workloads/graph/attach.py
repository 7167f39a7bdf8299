"""The events of a run that somebody already began: what happened, then what happens, to the end, without a gap.

They come from the shared state; without it from this pod's memory, if the run is here; and the last one from the Lake
when it is nowhere else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, cast

from datapunk.cortex.common_pb2 import RunEvent

from cortex_workloads.graph import events
from cortex_workloads.graph.runner import Runner
from cortex_workloads.graph.store import Run, Store
from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.errors import InvalidInput, Unavailable
from cortex_workloads.runtime.progress import Fields, ProgressStream, run_key
from cortex_workloads.runtime.state.aggregates import Consistency
from cortex_workloads.runtime.state.manager import StateManager

_EVENT_ID: Final = re.compile(r"^(\d{1,20})-(\d{1,20})$")
_SILENCE_SECONDS: Final = 1.0
"""After so long without an event, it is asked whether the run has ended."""
_BOUND_SECONDS: Final = 2.0
"""How old that answer may be: the copy gives it, so that who follows a long run costs the Lake nothing."""


class Attachment:
    """Follows runs for callers."""

    def __init__(self, store: Store, runner: Runner, progress: ProgressStream, state: StateManager) -> None:
        self._store = store
        self._runner = runner
        self._progress = progress
        self._state = state

    async def follow(self, run: Run, after: str) -> AsyncGenerator[RunEvent, None]:
        """Events after the id `after` (all when empty). Raises InvalidInput for what is no id, Unavailable."""
        check_event_id(after)
        try:
            if run.finished:
                replayed = self._replay(run, after)
            else:
                await self._progress.last(run_key(run.id))
                replayed = self._live(run, after)
            async with aclosing(replayed) as found:
                async for event in found:
                    yield event
                    if events.is_last(event):
                        return
        except Unavailable as error:
            if error.reason != "StateUnreachable":
                raise
            async with aclosing(self._here(run)) as found:
                async for event in found:
                    yield event
                    if events.is_last(event):
                        return
        yield events.ended(await self._ended(run))

    async def _replay(self, run: Run, after: str) -> AsyncGenerator[RunEvent, None]:
        """What is left of a finished run's stream."""
        last = await self._progress.last(run_key(run.id))
        if last is None:
            return
        if _position(after) >= _position(last[0]):
            yield _parse(*last)
            return
        async with aclosing(self._entries(run, after)) as entries:
            async for entry in entries:
                yield _parse(*entry)
                if _position(entry[0]) >= _position(last[0]):
                    return

    async def _live(self, run: Run, after: str) -> AsyncGenerator[RunEvent, None]:
        """The stream of a run under way, until the Lake says that the run has ended and nothing more comes."""
        async with aclosing(self._entries(run, after)) as entries:
            upcoming: asyncio.Task[tuple[str, Fields]] | None = None
            silent_since_end = False
            try:
                while True:
                    upcoming = upcoming or asyncio.ensure_future(anext(entries))
                    done, _ = await asyncio.wait([upcoming], timeout=_SILENCE_SECONDS)
                    if done:
                        yield _parse(*upcoming.result())
                        upcoming = None
                    elif silent_since_end:
                        return
                    else:
                        silent_since_end = await self._finished(run)
            finally:
                await tasks.end(upcoming)

    def _entries(self, run: Run, after: str) -> AsyncGenerator[tuple[str, Fields], None]:
        return cast(AsyncGenerator[tuple[str, Fields], None], self._progress.read(run_key(run.id), after))

    async def _here(self, run: Run) -> AsyncGenerator[RunEvent, None]:
        live = self._runner.live(run.id)
        if live is not None:
            async for event in live.journal.follow():
                yield event

    async def _ended(self, run: Run) -> Run:
        if run.finished:
            return run
        while not await self._finished(run):  # noqa: ASYNC110 - other pods do
            await asyncio.sleep(_SILENCE_SECONDS)
        return await self._store.get(run.id)

    async def _finished(self, run: Run) -> bool:
        found = (await self._state.read(f"run/{run.id}", Consistency.BOUNDED, _BOUND_SECONDS)).state
        return found is None or found.fields["status"] != "Running"


def check_event_id(after: str) -> None:
    """Raises InvalidInput for what is no id of an event."""
    if after and not _EVENT_ID.match(after):
        raise InvalidInput(
            f"{after!r} is not the id of an event",
            remedy="send an event_id as it came, or none",
            violations=[("after_event_id", "not the id of an event")],
        )


def _position(event_id: str) -> tuple[int, int]:
    match = _EVENT_ID.match(event_id)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _parse(entry_id: str, fields: Fields) -> RunEvent:
    event = RunEvent.FromString(fields["event"])
    event.event_id = entry_id
    return event
