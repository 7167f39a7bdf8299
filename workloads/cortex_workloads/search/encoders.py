"""The embedders of an index's revisions: each model loaded once, when a revision needs it first.

Shields those who embed from where models are, and a revision from vectors of another model: the files that it was begun
with stand in its row, and other ones are refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from cortex_kinds.embedding import LocalEmbedding

from cortex_workloads.runtime.embedding.directory import find_model
from cortex_workloads.runtime.embedding.embedder import Embedder
from cortex_workloads.runtime.embedding.network import load
from cortex_workloads.runtime.errors import FailedPrecondition, Unavailable
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Revision
from cortex_workloads.search import definition

RETRY_SECONDS: Final = 15.0
"""How long a model that could not be loaded is left alone."""
IDLE_SECONDS: Final = 60.0
"""How long a model that no live revision needs is kept after its last use."""
_NICENESS: Final = 10
_RECORD: Final = "UPDATE revisions SET model_files = %s WHERE id = %s AND model_files = '{}'"
_RECORDED: Final = "SELECT model_files FROM revisions WHERE id = %s"

_log = logging.getLogger("cortex.search")


class Source(Protocol):
    """Gives a revision its embedders. Both raise FailedPrecondition, Unavailable."""

    async def queries(self, revision: Revision) -> Embedder:
        """For queries."""
        ...

    async def documents(self, revision: Revision) -> Embedder:
        """For documents."""
        ...


@dataclass
class Loaded:
    """A model in memory. `files`: SHA-256 by name, none for the packaged one; `agreed`: revisions that were begun with
    these files."""

    queries: Embedder
    documents: Embedder
    files: Mapping[str, str]
    agreed: set[int] = field(default_factory=set)
    used: float = 0.0


class Encoders:
    """Models below `directory` and the packaged one. `apart`: documents are embedded on a thread of their own, below
    the queries; else there are none."""

    def __init__(self, lake: Lake, directory: Path | None, threads: int, *, apart: bool) -> None:
        self._lake = lake
        self._directory = directory
        self._threads = threads
        self._apart = apart
        self._tasks: dict[LocalEmbedding, asyncio.Task[Loaded]] = {}
        self._failed: dict[LocalEmbedding, float] = {}
        self._refused: dict[int, tuple[float, FailedPrecondition]] = {}

    async def queries(self, revision: Revision) -> Embedder:
        """For queries."""
        return (await self._of(revision)).queries

    async def documents(self, revision: Revision) -> Embedder:
        """For documents."""
        return (await self._of(revision)).documents

    async def load(self, model: LocalEmbedding, seconds: float | None = None) -> Loaded:
        """The model; loaded in the background while the caller waits, `seconds` at most. Raises FailedPrecondition
        (`ModelMissing`, `ModelInvalid`, `ModelChanged`), Unavailable (`ModelLoading`)."""
        try:
            async with asyncio.timeout(seconds):
                loaded = await asyncio.shield(self._task(model))
        except TimeoutError:
            raise Unavailable(
                f"the model {model.model} is being loaded", remedy="try again in some seconds", reason="ModelLoading"
            ) from None
        loaded.used = time.monotonic()
        return loaded

    async def agree(self, connection: Connection, revision: Revision, loaded: Loaded) -> None:
        """Notes in the revision's row the files that it is begun with. Raises FailedPrecondition (`ModelChanged`) when
        there are others already."""
        if not loaded.files or revision.row in loaded.agreed:
            return
        await connection.execute(_RECORD, (json.dumps(dict(loaded.files)), revision.row))
        row = await (await connection.execute(_RECORDED, (revision.row,))).fetchone()
        if row is not None and row[0] != loaded.files:
            refused = _changed(revision, row[0], loaded.files)
            _log.error("%s", refused)
            self._refused[revision.row] = (time.monotonic() + RETRY_SECONDS, refused)
            # Put back, they are to be found.
            self._tasks.pop(_model(revision), None)
            raise refused
        self._refused.pop(revision.row, None)
        loaded.agreed.add(revision.row)

    def failure(self, revision: Revision) -> str:
        """Why the revision's model cannot be used, as far as it was tried; else empty."""
        if revision.row in self._refused:
            return str(self._refused[revision.row][1])
        task = self._tasks.get(_model(revision))
        if task is None or not task.done() or (error := task.exception()) is None:
            return ""
        return str(error)

    def keep(self, live: Sequence[Revision]) -> None:
        """Lets go of models that no live revision needs and nobody used of late."""
        self._refused = {one.row: self._refused[one.row] for one in live if one.row in self._refused}
        needed, before = {_model(revision) for revision in live}, time.monotonic() - IDLE_SECONDS
        for model, task in list(self._tasks.items()):
            if model not in needed and task.done() and (task.exception() or task.result().used < before):
                self._tasks.pop(model)
                self._failed.pop(model, None)

    def close(self) -> None:
        """Ends the embedders' threads."""
        for task in self._tasks.values():
            if not task.done():
                task.cancel()
            elif task.exception() is None:
                task.result().queries.close()
                task.result().documents.close()

    async def _of(self, revision: Revision) -> Loaded:
        until, refused = self._refused.get(revision.row, (0.0, None))
        if refused is not None and time.monotonic() < until:
            raise refused
        loaded = await self.load(_model(revision))
        if loaded.files and revision.row not in loaded.agreed:
            async with self._lake.transaction() as connection:
                await self.agree(connection, revision, loaded)
        return loaded

    def _task(self, model: LocalEmbedding) -> asyncio.Task[Loaded]:
        task, now = self._tasks.get(model), time.monotonic()
        if task is not None and task.done() and task.exception() and now >= self._failed.get(model, 0.0):
            task = None
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._read, model), name=f"load-{model.model}")
            task.add_done_callback(lambda done: self._loaded(model, done))
            self._tasks[model] = task
        return task

    def _loaded(self, model: LocalEmbedding, task: asyncio.Task[Loaded]) -> None:
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._failed[model] = time.monotonic() + RETRY_SECONDS
            _log.error("the model cannot be used: %s", error, extra={"model": model.model})
        elif not model.is_packaged:
            _log.info("the model is loaded", extra={"model": model.model, "files": task.result().files})

    def _read(self, model: LocalEmbedding) -> Loaded:
        if model.is_packaged:
            first = Embedder(self._threads)
            return Loaded(first, Embedder(1, niceness=_NICENESS) if self._apart else first, {})
        found = find_model(model, self._directory)
        network = load(model.model, found, self._threads)
        first = Embedder(loaded=network)
        if not self._apart:
            return Loaded(first, first, found.files)
        # With one thread the network runs on that of the caller: both share what may be large.
        beside = network if self._threads == 1 else load(model.model, found, 1)
        return Loaded(first, Embedder(niceness=_NICENESS, loaded=beside), found.files)


def _model(revision: Revision) -> LocalEmbedding:
    return definition.read(revision.definition).model


def _changed(revision: Revision, before: Mapping[str, Any], now: Mapping[str, str]) -> FailedPrecondition:
    differ = ", ".join(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
    model = _model(revision).model
    return FailedPrecondition(
        f"the files of the model {model} are not those that revision {revision.id} was begun with: {differ} changed",
        remedy="put the former files back; or give the new ones a directory of their own and name that in "
        "spec.embedding.local.model, which makes a new revision",
        reason="ModelChanged",
    )
