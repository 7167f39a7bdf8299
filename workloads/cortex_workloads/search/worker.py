"""Empties the queues of an index: the loop of a serving pod, and of an ingest Job.

Shields both from each other: any number of them may work on one queue (see `queue`); a serving pod leaves a long queue
to a Job that works on it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psycopg

from cortex_workloads.runtime.errors import CortexError, FailedPrecondition, Unavailable
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake, cancelled
from cortex_workloads.runtime.lake.revisions import Phase, Resource, Revision
from cortex_workloads.runtime.progress import ProgressStream, index_key
from cortex_workloads.search import definition, queue, reuse, tables
from cortex_workloads.search.embedding import DocumentEmbedder
from cortex_workloads.search.encoders import Source
from cortex_workloads.search.tables import LIVE

MANY: Final = 1_000
"""Waiting documents above which a serving pod leaves the queue to a Job, if one works."""
_PAUSE_SECONDS: Final = 1.0
_PROGRESS_SECONDS: Final = 0.25
_QUIET_SECONDS: Final = 0.25
"""How long a batch lets queries go first, at most: under queries without end, documents still get their turn."""
_COMPACT_ROWS: Final = 64

_log = logging.getLogger("cortex.ingest")


@dataclass(frozen=True)
class Batch:
    """How much is claimed at once."""

    documents: int
    characters: int


SERVING: Final = Batch(8, 16_000)
JOB: Final = Batch(64, 200_000)


class Progress:
    """Tells how far a revision is, at most four times a second."""

    def __init__(self, stream: ProgressStream, resource: Resource) -> None:
        self._stream = stream
        self._key = index_key(resource.namespace, resource.name)
        self._told = 0.0
        self._rate: tuple[str, float, int, float] = ("", 0.0, 0, 0.0)

    async def tell(self, revision: str, counts: tables.Counts, *, idle: bool = False) -> None:
        """Appends an entry; the one that says Idle always."""
        now = time.monotonic()
        if not idle and now - self._told < _PROGRESS_SECONDS:
            return
        self._told = now
        await self._stream.append(
            self._key,
            {
                "revision": revision,
                "documents": counts.documents,
                "embedded": counts.embedded,
                "waiting": counts.waiting,
                "rate": f"{0.0 if idle else self._documents_per_second(revision, counts.embedded, now):.1f}",
                "phase": "Idle" if idle else "Embedding",
            },
        )

    def _documents_per_second(self, revision: str, embedded: int, now: float) -> float:
        """Of all who work on the revision, smoothed over about five seconds."""
        before, since, count, rate = self._rate
        if before != revision or embedded < count:
            self._rate = (revision, now, embedded, 0.0)
            return 0.0
        if now - since >= 1.0:
            fresh = (embedded - count) / (now - since)
            rate = fresh if rate == 0.0 else rate + (fresh - rate) * min(1.0, (now - since) / 5)
            self._rate = (revision, now, embedded, rate)
        return rate


class Worker:
    """Embeds what waits for one index. `quiet` is set when no query is in progress: a batch waits for it a moment;
    `promoted()` is called when a revision became current."""

    def __init__(
        self,
        lake: Lake,
        resource: Resource,
        encoders: Source,
        progress: ProgressStream,
        batch: Batch,
        *,
        quiet: asyncio.Event | None = None,
        promoted: Callable[[], None] = lambda: None,
    ) -> None:
        self._lake = lake
        self._resource = resource
        self._encoders = encoders
        self._progress = Progress(progress, resource)
        self._batch = batch
        self._quiet = quiet
        self._promoted = promoted
        self._woken = asyncio.Event()
        self._embedders: dict[int, DocumentEmbedder] = {}

    def wake(self) -> None:
        """There is something to do."""
        self._woken.set()

    async def serve(self) -> None:
        """The loop of a serving pod; ends by cancellation only."""
        while not cancelled():
            try:
                idle = not await self._round()
            except Unavailable:
                idle = True
            except (psycopg.Error, CortexError):
                _log.exception("ingestion goes on after an error")
                idle = True
            if idle and not cancelled():
                await self._rest()

    async def drain(self, revision: str) -> bool:
        """The loop of a Job: until nothing waits for the revision, and it is promoted when it was Building. False when
        the revision is gone (superseded). Raises Unavailable, FailedPrecondition (its model)."""
        while (found := await self._find(revision)) is not None and found.phase in LIVE:
            async with self._lake.connection() as announced:
                await queue.announce_job(announced, found.row)
                try:
                    while await self.embed_batch(found):
                        pass
                finally:
                    if not announced.closed:
                        await announced.execute("SELECT pg_advisory_unlock_all()")
            if await self._settle(found):
                return True
            # What is left is being embedded by others.
            await asyncio.sleep(_PROGRESS_SECONDS)
        return found is not None

    async def embed_batch(self, revision: Revision) -> int:
        """Embeds one batch; returns how many rows of the queue it dealt with. Raises Unavailable,
        FailedPrecondition (the revision's model)."""
        parsed = definition.read(revision.definition)
        encoder = await self._encoders.documents(revision)
        embedder = self._embedders.setdefault(revision.row, DocumentEmbedder(encoder, parsed.chunking))
        async with self._lake.transaction() as connection:
            claimed = await queue.claim(connection, revision.row, self._batch.documents, self._batch.characters)
            if not claimed:
                return 0
            divided, unread = await encoder.run(embedder.split, claimed.texts)
            digests = {passage.key for one in divided for passage in one.passages}
            known = await reuse.find(connection, revision.row, digests)
            embedded, failed = await encoder.run(embedder.embed, divided, known.keys())
            failed |= unread
            await queue.finish(connection, revision, parsed.configuration, claimed, embedded, failed, known)
        reuse.REUSED.inc(len(known))
        for row, why in failed.items():
            _log.warning("a document could not be embedded", extra={"row": row, "revision": revision.id, "why": why})
        await self._tell(revision)
        return len(claimed.texts) + len(claimed.gone)

    async def _round(self) -> bool:
        """A batch of every revision that has something to do; whether there was anything."""
        self._woken.clear()
        async with self._lake.connection() as connection:
            live = [one for one in await revisions.describe(connection, self._resource) if one.phase in LIVE]
        self._embedders = {one.row: self._embedders[one.row] for one in live if one.row in self._embedders}
        worked = False
        for revision in sorted(live, key=lambda one: one.phase is not Phase.CURRENT):
            await self._yield()
            worked |= await self._work_on(revision)
        if not worked:
            await tables.sweep(self._lake)
        return worked

    async def _work_on(self, revision: Revision) -> bool:
        try:
            if not await self._left_to_a_job(revision) and await self.embed_batch(revision):
                return True
            if revision.row in self._embedders or revision.phase is not Phase.CURRENT:
                await self._settle(revision)
        except psycopg.errors.UndefinedTable:
            _log.info("the revision went away while it was embedded", extra={"revision": revision.id})
        except FailedPrecondition:
            # Of its model, which says so itself: other revisions go on.
            return False
        return False

    async def _left_to_a_job(self, revision: Revision) -> bool:
        async with self._lake.connection() as connection:
            return await queue.waiting(connection, revision.row, MANY + 1) > MANY and await queue.job_works(
                connection, revision.row
            )

    async def _settle(self, revision: Revision) -> bool:
        """When nothing waits any more: promotes, adds up the statistics. False when others still hold some of it."""
        promoted = False
        async with self._lake.transaction() as connection:
            if revision.phase is not Phase.CURRENT:
                # Keeps writers out between the question and the promotion.
                await revisions.lock(connection, revision.resource)
            if await queue.waiting(connection, revision.row, 1):
                return False
            if revision.phase is not Phase.CURRENT and await revisions.promote(connection, revision):
                _log.info("the revision is current", extra={"revision": revision.id})
                promoted = True
            counts = await tables.counts(connection, revision.row)
            if counts.rows > _COMPACT_ROWS:
                await tables.compact(connection, revision.row)
                await tables.prune(connection, revision.row)
        if promoted:
            self._promoted()
        if self._embedders.pop(revision.row, None) is not None:
            await self._progress.tell(revision.id, counts, idle=True)
        await tables.sweep(self._lake)
        return True

    async def _find(self, revision: str) -> Revision | None:
        async with self._lake.connection() as connection:
            every = await revisions.describe(connection, self._resource)
        return next((found for found in every if found.id == revision), None)

    async def _tell(self, revision: Revision) -> None:
        async with self._lake.connection() as connection:
            counts = await tables.counts(connection, revision.row)
        await self._progress.tell(revision.id, counts)

    async def _yield(self) -> None:
        if self._quiet is not None:
            await _until(self._quiet, _QUIET_SECONDS)

    async def _rest(self) -> None:
        await _until(self._woken, _PAUSE_SECONDS)


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
