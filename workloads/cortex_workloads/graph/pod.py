"""The composition root of the graph service: what a pod is made of, how it begins and how it ends."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Final, Self

from datapunk.cortex.control_pb2_grpc import add_ControlServiceServicer_to_server
from datapunk.cortex.graph_pb2_grpc import add_GraphServiceServicer_to_server
from datapunk.cortex.state_pb2_grpc import add_StateServiceServicer_to_server

from cortex_workloads.graph import checkpoints, results
from cortex_workloads.graph.attach import Attachment
from cortex_workloads.graph.control import Control
from cortex_workloads.graph.library import Library
from cortex_workloads.graph.model import Model
from cortex_workloads.graph.nodes.base import Tools
from cortex_workloads.graph.results import KeptResults
from cortex_workloads.graph.runner import Runner
from cortex_workloads.graph.searcher import IndexSearcher
from cortex_workloads.graph.service import GraphService
from cortex_workloads.graph.store import Store
from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.cache.layers import Layers
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.progress import ProgressStream, tell_missing
from cortex_workloads.runtime.resilience.live import Live
from cortex_workloads.runtime.server import Server
from cortex_workloads.runtime.settings import GraphSettings
from cortex_workloads.runtime.state.manager import StateManager
from cortex_workloads.runtime.state.marks import Marks
from cortex_workloads.runtime.state.service import StateService

_log: Final = logging.getLogger("cortex.graph")
_WATCH_SECONDS: Final = 0.5
_OF_STATE: Final = (
    "events of runs of other pods but the last one, results of nodes for other pods, replicas and their load"
)


class Pod:
    """Serves while its context is open; leaving it lets runs end, or gives them to another pod."""

    def __init__(self, settings: GraphSettings) -> None:
        self._settings = settings
        self._resource = Resource("CortexWorkflow", settings.resource_namespace, settings.resource_name)
        self._stack = AsyncExitStack()
        self._preparing: asyncio.Task[None] | None = None
        self.server = Server(settings, "graph")
        self.lake = Lake(settings.lake_dsn.get_secret_value(), settings.lake_pool_size, name=settings.pod)
        self._progress = ProgressStream(settings.state_url.get_secret_value())
        self.state = StateManager(self.lake, settings.state_url.get_secret_value(), self._resource)
        # A new process is a new owner: what the one before left behind is taken over when its lease is over.
        owner = f"{settings.pod}/{secrets.token_hex(4)}"
        self.store = Store(self.lake, self._resource, owner, self.state.committed)
        self.model = Model(settings.embedding_threads)

    async def __aenter__(self) -> Self:
        """Listens; not ready before the Lake is."""
        tell_missing(self._settings.state_url.get_secret_value(), _OF_STATE)
        policies = await self._stack.enter_async_context(Live(self._settings.policies, self._settings.policies_file))
        channels = await self._stack.enter_async_context(Channels(self._settings))
        policies.use(lambda now: channels.change(now.breaker))
        progress = await self._stack.enter_async_context(self._progress)
        self._stack.push_async_callback(self.lake.close)
        self._stack.push_async_callback(self.state.close)
        self._stack.push_async_callback(self.model.close)
        await self._stack.enter_async_context(self.server)
        settings = self._settings
        searcher = IndexSearcher(
            channels, self._resource.namespace, settings.indexes, elsewhere=settings.index_namespaces
        )
        url, limit = settings.state_url.get_secret_value(), settings.node_cache_shared_entry_bytes
        layers = Layers(results.NAME, settings.node_cache_bytes, Shared(results.NAME, url, limit, 1.0))
        self._stack.push_async_callback(layers.close)
        tools = Tools(searcher, self.model.encoder, KeptResults(self._resource, layers))
        self.library = Library(self.lake, self._resource, tools)
        self.runner = Runner(self.lake, self.store, self.library, progress)
        quarter = self._settings.drain_seconds / 4
        self._stack.push_async_callback(self.runner.drain, self._settings.run_drain_seconds + quarter, quarter)
        attachment = Attachment(self.store, self.runner, progress, self.state)
        service = GraphService(self._resource, self.store, self.library, self.runner, attachment)
        control = Control(
            self._settings.pod, self._resource, self.lake, self.store, searcher, self.model, progress, tools
        )
        self.server.add(add_GraphServiceServicer_to_server, service)
        self.server.add(add_ControlServiceServicer_to_server, control, port="control")
        told = StateService(self._resource, self.state, Marks(self.lake, self._resource), self.server.draining)
        self.server.add(add_StateServiceServicer_to_server, told, port="control")
        self.server.health.expect("Lake")
        await self.server.start()
        await self.lake.open()
        self._preparing = asyncio.create_task(self._prepare(), name="prepare")
        return self

    async def wait(self) -> None:
        """Returns at SIGTERM. Raises Unavailable when the Lake is another one than the pod began with."""
        told = asyncio.create_task(self.server.wait(), name="told")
        changed = asyncio.create_task(self.lake.identity.changed(), name="lake-changed")
        try:
            await asyncio.wait((told, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await tasks.end(told, changed)
        if not changed.cancelled():
            await changed

    async def __aexit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        await tasks.end(self._preparing)
        await self._stack.aclose()

    async def _prepare(self) -> None:
        """The schema, the runs that were left, and the model ahead of the first question; then watches the Lake."""
        while not await self._schema():  # noqa: ASYNC110 - nothing says when a Lake can be used
            await asyncio.sleep(_WATCH_SECONDS)
        self.store.prepared = True
        self.runner.start()
        self.state.start(self._settings.pod, self.runner.load)
        await self.server.health.ok("Lake")
        with suppress(CortexError):
            await self._warm()
        health = self.server.health
        while True:
            if self.lake.reachable is not health.checks["Lake"].ok:
                await (health.ok("Lake") if self.lake.reachable else self._say(self.lake.unavailable()))
            await asyncio.sleep(_WATCH_SECONDS)

    async def _schema(self) -> bool:
        try:
            await migrate(self.lake)
            await checkpoints.migrate(self.lake)
        except CortexError as error:
            await self._say(error)
            return False
        return True

    async def _say(self, error: CortexError) -> None:
        if self.server.health.checks["Lake"].message != str(error):
            _log.warning("the Lake cannot be used: %s", error)
        await self.server.health.failing("Lake", error.reason, str(error))

    async def _warm(self) -> None:
        async with self.lake.connection() as connection:
            current = revisions.current(await revisions.describe(connection, self._resource))
        if current is not None and (await self.library.get(current.id)).needs_model:
            self.model.load()
