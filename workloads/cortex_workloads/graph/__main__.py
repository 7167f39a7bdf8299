"""`python -m cortex_workloads.graph`: serves a CortexWorkflow. The composition root of the graph service."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack, suppress
from typing import Final

from datapunk.cortex.control_pb2_grpc import add_ControlServiceServicer_to_server
from datapunk.cortex.graph_pb2_grpc import add_GraphServiceServicer_to_server

from cortex_workloads.graph import checkpoints
from cortex_workloads.graph.attach import Attachment
from cortex_workloads.graph.control import Control
from cortex_workloads.graph.library import Library
from cortex_workloads.graph.model import Model
from cortex_workloads.graph.nodes.base import Tools
from cortex_workloads.graph.runner import Runner
from cortex_workloads.graph.searcher import IndexSearcher
from cortex_workloads.graph.service import GraphService
from cortex_workloads.graph.store import Store
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.health import Health
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.progress import ProgressStream
from cortex_workloads.runtime.server import Server, run
from cortex_workloads.runtime.settings import GraphSettings

_log: Final = logging.getLogger("cortex.graph")
_AGAIN_SECONDS: Final = 0.5


async def serve(settings: GraphSettings) -> None:
    """Serves until SIGTERM, then lets runs end or gives them back."""
    resource = Resource("CortexWorkflow", settings.resource_namespace, settings.resource_name)
    lake = Lake(settings.lake_dsn.get_secret_value(), settings.lake_pool_size, name=settings.pod)
    async with AsyncExitStack() as stack:
        channels = await stack.enter_async_context(Channels(settings))
        progress = await stack.enter_async_context(ProgressStream(settings.state_url.get_secret_value()))
        stack.push_async_callback(lake.close)
        server = await stack.enter_async_context(Server(settings, "graph"))
        model = Model(settings.embedding_threads)
        searcher = IndexSearcher(channels, resource.namespace, settings.indexes)
        tools = Tools(searcher, model.encoder)
        # A new process is a new owner: what the one before left behind is taken over when its lease is over.
        store = Store(lake, resource, f"{settings.pod}/{secrets.token_hex(4)}")
        library = Library(lake, resource, tools)
        runner = Runner(lake, store, library, progress)
        service = GraphService(resource, store, library, runner, Attachment(store, runner, progress))
        server.add(add_GraphServiceServicer_to_server, service)
        control = Control(settings.pod, resource, lake, store, searcher, model, progress, tools)
        server.add(add_ControlServiceServicer_to_server, control, port="control")
        server.health.expect("Lake")
        await server.start()
        await lake.open()
        preparing = asyncio.create_task(_prepare(lake, resource, server.health, runner, library, model), name="prepare")
        await server.wait()
        preparing.cancel()
        await runner.drain(settings.drain_seconds / 2)


async def _prepare(
    lake: Lake, resource: Resource, health: Health, runner: Runner, library: Library, model: Model
) -> None:
    """The schema, the runs that were left, and the model ahead of the first question; then watches the Lake."""
    while not await _tried(lake, health):  # noqa: ASYNC110 - nothing says when a Lake can be used
        await asyncio.sleep(_AGAIN_SECONDS)
    runner.start()
    with suppress(CortexError):
        await _warm(lake, resource, library, model)
    while True:
        await asyncio.sleep(_AGAIN_SECONDS)
        if lake.reachable is not health.checks["Lake"].ok:
            await (health.ok("Lake") if lake.reachable else _say(health, lake.unavailable()))


async def _tried(lake: Lake, health: Health) -> bool:
    try:
        await migrate(lake)
        await checkpoints.migrate(lake)
    except CortexError as error:
        await _say(health, error)
        return False
    await health.ok("Lake")
    return True


async def _say(health: Health, error: CortexError) -> None:
    if health.checks["Lake"].message != str(error):
        _log.warning("the Lake cannot be used: %s", error)
    await health.failing("Lake", error.reason, str(error))


async def _warm(lake: Lake, resource: Resource, library: Library, model: Model) -> None:
    async with lake.connection() as connection:
        current = revisions.current(await revisions.describe(connection, resource))
    if current is not None and (await library.get(current.id)).needs_model:
        await model.encoder()


if __name__ == "__main__":
    run(serve, GraphSettings)
