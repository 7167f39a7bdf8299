"""Events of resources, written in the background.

Shields a pass from them: telling takes no time and never fails. What cannot be written is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from cortex_kinds.events import Notice
from cortex_kube.client import Api, fenced
from cortex_kube.resources import path
from prometheus_client import CollectorRegistry, Counter, Gauge

from cortex_operator.cluster.port import Conflict, NamespaceTerminating, NotFound, Object, Unavailable
from cortex_operator.cluster.refusals import translated
from cortex_operator.cluster.series import API_VERSION, EventBook, EventWrite, identity

log = logging.getLogger(__name__)

Recorder = Callable[[Object, Sequence[Notice]], None]
"""Tells Events about an object; returns at once and never fails."""

_QUEUE: Final = 1000
_TIMEOUT: Final = 5.0
_WAITS: Final = (1.0, 3.0, 10.0)
"""Seconds between the tries of one Event while the API server does not answer."""
_LAST_SECONDS: Final = 0.5
_MERGE: Final = "application/merge-patch+json"

_Entry = tuple[Object, Notice, datetime]


def log_notices(regarding: Object, notices: Sequence[Notice]) -> None:
    """Tells them to the log alone."""
    meta = regarding["metadata"]
    for notice in notices:
        name = f"{meta.get('namespace', 'default')}/{meta['name']}"
        log.info("%s %s: %s: %s", regarding["kind"], name, notice.reason.value, notice.note)


class EventRecorder:
    """Tells them to the log and writes them as Events. `fence` is called just before each write and does not return
    when this process may not write. Metrics are kept in `registry`. The caller closes `api`."""

    def __init__(self, api: Api, reporter: str, fence: Callable[[], object], registry: CollectorRegistry) -> None:
        self._api, self._fence = api, fence
        self._book = EventBook(reporter)
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue(_QUEUE)
        self._work: asyncio.Task[None] | None = None
        self._losing = False
        self._told = Counter("cortex_operator_events", "Events written, also repeated ones.", registry=registry)
        self._dropped = Counter(
            "cortex_operator_events_dropped", "Events that were not written.", ["cause"], registry=registry
        )
        self._waiting = Gauge("cortex_operator_events_waiting", "Events that are not written yet.", registry=registry)

    def record(self, regarding: Object, notices: Sequence[Notice]) -> None:
        """Queues them, of which 1,000 may wait."""
        log_notices(regarding, notices)
        about = identity(regarding)  # a thousand whole ones would be 10 MB
        for notice in notices:
            try:
                self._queue.put_nowait((about, notice, datetime.now(UTC)))
                self._waiting.inc()
            except asyncio.QueueFull:
                self._dropped.labels("QueueFull").inc()

    def start(self) -> None:
        """Begins to write."""
        self._work = asyncio.create_task(self._write_all())

    async def close(self) -> None:
        """Writes what waits, within half a second."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._queue.join()
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])

    async def _write_all(self) -> None:
        while True:
            entry = await self._queue.get()
            try:
                await self._write(*entry)
            except Exception as error:
                self._lost(entry[1], error)
            finally:
                self._queue.task_done()
                self._waiting.dec()

    async def _write(self, regarding: Object, notice: Notice, at: datetime) -> None:
        write = self._book.enter(regarding, notice, at)
        if write is not None and write.repeats:
            try:
                return await self._send(write)
            except NotFound:  # Events are kept for an hour
                self._book.forget(regarding, notice)
                write = self._book.enter(regarding, notice, at)
        if write is None:
            self._dropped.labels("TooMany").inc()
            return
        await self._send(write)

    async def _send(self, write: EventWrite) -> None:
        for wait in _WAITS:
            try:
                return await self._request(write)
            except Conflict:
                return None  # the try before has arrived
            except Unavailable as error:
                await asyncio.sleep(max(wait, error.retry_after or 0.0))
        return await self._request(write)

    async def _request(self, write: EventWrite) -> None:
        name = write.name if write.repeats else None
        method, form = ("PATCH", _MERGE) if write.repeats else ("POST", "application/json")
        where = path(API_VERSION, "Event", write.namespace, name)
        with translated(f"an Event in {write.namespace}"), fenced(self._fence):
            await self._api.request(method, where, body=write.body, content_type=form, timeout=_TIMEOUT)
        self._told.inc()
        self._losing = False

    def _lost(self, notice: Notice, error: Exception) -> None:
        ending = isinstance(error, NamespaceTerminating)
        self._dropped.labels("NamespaceEnds" if ending else "Refused").inc()
        if not ending and not self._losing:
            self._losing = True
            log.warning("the Event %s is not written, nor are others while this lasts: %s", notice.reason.value, error)
