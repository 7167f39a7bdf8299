"""Puts the search service together: what is made in which order, and what readiness waits for."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from operator import attrgetter
from typing import Final

import psycopg
from cortex_kinds.embedding import LocalEmbedding
from datapunk.cortex.control_pb2_grpc import add_ControlServiceServicer_to_server
from datapunk.cortex.search_pb2_grpc import add_HaystackServiceServicer_to_server
from datapunk.cortex.state_pb2_grpc import add_StateServiceServicer_to_server

from cortex_workloads.runtime import answers
from cortex_workloads.runtime.cache.memory import Memory
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition, InvalidInput, Unavailable
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Revision
from cortex_workloads.runtime.progress import ProgressStream, tell_missing
from cortex_workloads.runtime.resilience.live import Live
from cortex_workloads.runtime.resilience.shedding import Gate
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import SearchSettings
from cortex_workloads.runtime.state.manager import StateManager
from cortex_workloads.runtime.state.marks import Marks
from cortex_workloads.runtime.state.service import StateService
from cortex_workloads.search import retrieval, switches
from cortex_workloads.search.answers import Answers, size
from cortex_workloads.search.control import Control
from cortex_workloads.search.encoders import Encoders
from cortex_workloads.search.pipelines import Pipelines
from cortex_workloads.search.quiet import Quiet
from cortex_workloads.search.retrieval import Mode
from cortex_workloads.search.service import Haystack
from cortex_workloads.search.store import LakeDocumentStore
from cortex_workloads.search.tables import LIVE
from cortex_workloads.search.warming import Warming
from cortex_workloads.search.worker import SERVING, Worker

_WATCH_SECONDS: Final = 0.25
_MODELS_SECONDS: Final = 2.0
_OF_STATE: Final = (
    "live progress of ingestion, kept answers for other pods and the gateway, warming at the start, "
    "replicas and their load"
)

_log = logging.getLogger("cortex.search")


class Search:
    """One pod's parts. `run` brings them up and keeps health true; it ends by cancellation, or by an error that no
    waiting repairs (FailedPrecondition: the packaged model's files, the Lake's schema; Unavailable: another Lake)."""

    def __init__(self, settings: SearchSettings, server: Server) -> None:
        self._settings = settings
        self._health = server.health
        self._health.expect("Lake", "Model")
        self._lake = Lake(
            settings.lake_dsn.get_secret_value(),
            settings.lake_pool_size,
            name=f"cortex-search {settings.pod}",
            session=retrieval.SESSION,
        )
        self._store = LakeDocumentStore(settings.resource_namespace, settings.resource_name, lake=self._lake)
        self._progress = ProgressStream(settings.state_url.get_secret_value())
        self._state = StateManager(self._lake, settings.state_url.get_secret_value(), self._store.resource)
        self._quiet = Quiet()
        self._policies = Live(settings.policies, settings.policies_file)
        limits = self._policies.now.limits
        self._searches, self._writes = (
            Gate("Search", "searches", limits.search),
            Gate("Writing", "writes", limits.writing),
        )
        self._encoders = Encoders(self._lake, settings.models_directory, settings.embedding_threads, apart=True)
        known = Memory[Vectors](
            "query_embeddings", settings.query_cache_bytes, settings.query_cache_seconds, attrgetter("nbytes")
        )
        self._answers = self._kept_answers()
        self._pipelines = Pipelines(self._store, self._encoders, known, self._model_loaded)
        self._migrated = False
        self._model_ready = False
        self._worker: Worker | None = None
        self._looked_for = asyncio.Event()
        self._warming = Warming(
            self._store.resource,
            settings.state_url.get_secret_value(),
            settings.warming_requests,
            self._quiet,
            lambda request: self._haystack.ahead(request),
        )
        self._haystack = self._serving()
        self._add_to(server)

    async def run(self) -> None:
        """Lake and model in parallel, then the loop of ingestion."""
        tell_missing(self._settings.state_url.get_secret_value(), _OF_STATE)
        await self._lake.open()
        async with self._policies, asyncio.TaskGroup() as parts:
            parts.create_task(self._watch())
            parts.create_task(self._lake.identity.changed())
            migrated = parts.create_task(self._migrate())
            if self._settings.models_directory is None:
                await self._encoders.load(LocalEmbedding())
                await self._model_found()
            await migrated
            self._state.start(self._settings.pod, self._load)
            url = self._settings.state_url.get_secret_value()
            parts.create_task(switches.follow(url, self._store.resource, self._switched))
            self._worker = Worker(
                self._lake,
                self._store.resource,
                self._encoders,
                self._progress,
                SERVING,
                quiet=self._quiet.event,
                promoted=self._state.committed,
            )
            parts.create_task(self._watch_models())
            parts.create_task(self._worker.serve())
            parts.create_task(self._warming.serve())

    async def close(self) -> None:
        """Closes connections."""
        self._encoders.close()
        await self._warming.close()
        await self._answers.close()
        await self._state.close()
        await self._progress.close()
        await self._lake.close()

    def _serving(self) -> Haystack:
        return Haystack(
            self._store,
            self._answers,
            self._ready,
            self._quiet,
            self._wake,
            default_mode=Mode(self._settings.default_mode),
            default_top_k=self._settings.default_top_k,
            answered=self._warming.asked,
        )

    def _add_to(self, server: Server) -> None:
        control = Control(
            self._lake,
            self._store.resource,
            self._settings.pod,
            self._health,
            self._progress,
            self._lake_ready,
            self._ordered,
            self._encoders,
        )
        self._policies.use(lambda now: self._searches.change(now.limits.search))
        self._policies.use(lambda now: self._writes.change(now.limits.writing))
        gates = {"Search": self._searches, "UpdateIndex": self._writes}
        server.add(add_HaystackServiceServicer_to_server, self._haystack, gates=gates)
        server.add(add_ControlServiceServicer_to_server, control, port="control")
        resource = self._store.resource
        told = StateService(resource, self._state, Marks(self._lake, resource), server.draining)
        server.add(add_StateServiceServicer_to_server, told, port="control")

    def _kept_answers(self) -> Answers:
        settings, seconds = self._settings, self._settings.answer_cache_seconds
        memory = Memory(answers.NAME, settings.answer_cache_bytes, seconds, size)
        url, limit = settings.state_url.get_secret_value(), settings.answer_cache_shared_entry_bytes
        return Answers(self._store, memory, Shared(answers.NAME, url, limit, seconds))

    def _lake_ready(self) -> None:
        if not self._migrated:
            raise self._lake.unavailable()

    def _ready(self) -> Pipelines:
        self._lake_ready()
        return self._pipelines

    def _model_loaded(self) -> None:
        if not self._model_ready:
            raise Unavailable("the model is being loaded", remedy="try again in some seconds", reason="ModelLoading")

    def _load(self) -> dict[str, int]:
        """What this pod is busy with, for others to see."""
        searches, writes = self._searches.bulkhead, self._writes.bulkhead
        return {"searches": searches.running, "waiting": searches.waiting, "writes": writes.running}

    def _ordered(self) -> None:
        self._state.committed()
        self._wake()

    def _switched(self) -> None:
        self._store.forget()
        self._looked_for.set()

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.wake()

    async def _watch_models(self) -> None:
        """Sees that the models of live revisions are there; Model is about the one that answers. What is wrong with a
        file of one's own is told and looked at again: another start would meet the same."""
        while True:
            self._looked_for.clear()
            try:
                async with self._lake.connection() as connection:
                    every = await revisions.describe(connection, self._store.resource)
                live = [one for one in every if one.phase in LIVE]
                await self._look_at(revisions.current(every))
                self._encoders.keep(live)
            except (psycopg.Error, CortexError):
                _log.debug("the models are looked at again", exc_info=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(_MODELS_SECONDS):
                    await self._looked_for.wait()

    async def _look_at(self, current: Revision | None) -> None:
        try:
            if current is not None:
                await self._encoders.queries(current)
        except (FailedPrecondition, InvalidInput) as error:
            await self._health.failing("Model", error.reason, str(error))
        else:
            await self._model_found()
            if current is not None:
                self._warming.answers(current.id)

    async def _model_found(self) -> None:
        if not self._health.checks["Model"].ok:
            self._model_ready = True
            await self._health.ok("Model")

    async def _migrate(self) -> None:
        while not self._migrated:
            await self._lake.answered()
            with suppress(Unavailable):
                if applied := await migrate(self._lake):
                    _log.info("the Lake's schema was migrated", extra={"migrations": applied})
                self._migrated = True
                continue
            await asyncio.sleep(_WATCH_SECONDS)

    async def _watch(self) -> None:
        told: bool | None = None
        while True:
            stands = self._lake.reachable and self._migrated
            if stands is not told:
                told = stands
                if stands:
                    await self._health.ok("Lake")
                else:
                    error = self._lake.unavailable()
                    await self._health.failing("Lake", error.reason, str(error))
            await asyncio.sleep(_WATCH_SECONDS)
