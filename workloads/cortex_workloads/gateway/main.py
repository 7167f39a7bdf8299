"""The gateway's composition root: what it is made of, and in which order that starts and ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from datapunk.cortex import api_pb2_grpc

from cortex_workloads.gateway import listen
from cortex_workloads.gateway.api import Api
from cortex_workloads.gateway.app import build
from cortex_workloads.gateway.backend import Backend
from cortex_workloads.gateway.limits import Limits
from cortex_workloads.runtime import answers
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.catalogue import Catalogue, FileCatalogue
from cortex_workloads.runtime.channels import Channels
from cortex_workloads.runtime.health import Health
from cortex_workloads.runtime.progress import ProgressStream, tell_missing
from cortex_workloads.runtime.resilience.live import Live
from cortex_workloads.runtime.server import Server, run
from cortex_workloads.runtime.settings import GatewaySettings

_OF_STATE: Final = "live progress of indexes, stale answers"


@asynccontextmanager
async def gateway(settings: GatewaySettings) -> AsyncIterator[Server]:
    """A gateway that answers while the context is open. Raises StartError, InvalidInput (the state's URL)."""
    hosts = listen.hosts(settings)
    tell_missing(settings.state_url.get_secret_value(), _OF_STATE)
    state = ProgressStream(settings.state_url.get_secret_value())
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server(settings, "gateway", hosts=hosts))
        catalogue = await stack.enter_async_context(_catalogue(settings, server.health))
        policies = await stack.enter_async_context(Live(settings.policies, settings.policies_file))
        channels = await stack.enter_async_context(Channels(settings, catalogue))
        policies.use(lambda now: channels.change(now.breaker, now.retries))
        progress = await stack.enter_async_context(state)
        # It reads what pods kept, and keeps nothing.
        kept = Shared(answers.NAME, settings.state_url.get_secret_value(), 1, 1)
        stack.push_async_callback(kept.close)
        backend = Backend(catalogue, channels, progress, server.health, kept, policies)
        limits = Limits(policies.now.limits)
        policies.use(lambda now: limits.change(now.limits))
        server.add(api_pb2_grpc.add_CortexAPIServicer_to_server, Api(backend, limits))
        sockets = listen.sockets(hosts, settings.port_http)
        app = build(backend, limits, any_host=settings.insecure_listen)
        await stack.enter_async_context(listen.http(app, sockets, settings.drain_seconds))
        await server.start()
        server.ports["http"] = sockets[0].getsockname()[1]
        yield server


def _catalogue(settings: GatewaySettings, health: Health) -> AbstractAsyncContextManager[Catalogue]:
    if settings.catalogue_file is not None:
        return FileCatalogue(settings.catalogue_file)
    # Here, because the Kubernetes client takes memory and time to import, which the local mode need not spend.
    from cortex_workloads.gateway import cluster

    return cluster.followed(settings.watch_namespaces, health)


async def serve(settings: GatewaySettings) -> None:
    """Serves until SIGTERM. Raises StartError, InvalidInput."""
    async with gateway(settings) as server:
        await server.wait()


def main() -> None:
    """The process."""
    run(serve, GatewaySettings)
