"""The composition root: settings, election, cluster, data plane, engine, kopf's watches and the HTTP port of one
operator."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from cortex_kube.client import Api, ConfigError
from prometheus_client import CollectorRegistry, Gauge, GCCollector, PlatformCollector, ProcessCollector
from pydantic import ValidationError
from pydantic_settings import SettingsError

from cortex_operator import logs, preflight
from cortex_operator.cluster.cache_metrics import watch_cache
from cortex_operator.cluster.events import EventRecorder
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.cluster.leases import LeaseStore
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.discovery import Discovery
from cortex_operator.engine import Election, Lease, Pace, Terms
from cortex_operator.handlers import KopfFeed, WatchLost
from cortex_operator.health import CannotListen, Health
from cortex_operator.operator import make_cache, make_engine
from cortex_operator.reconcile import Timing
from cortex_operator.reload_key import ReloadKey
from cortex_operator.settings import OperatorSettings, mistakes
from cortex_operator.watched import Watched
from cortex_operator.watches import Watches

log = logging.getLogger(__name__)

_CODES = {WatchLost: 1, ConfigError: 2, CannotListen: 2, preflight.MissingRights: 3}
"""Exit codes; 0 after SIGTERM, 4 when the Lease was lost (engine/election.py)."""


def main() -> None:
    """Runs until SIGTERM or SIGINT. What keeps the operator from its work is one line of the log and an exit code."""
    try:
        settings = OperatorSettings()
    except (ValidationError, SettingsError) as error:
        print(f"operator: {mistakes(error)}", file=sys.stderr)
        sys.exit(2)
    logs.configure(settings.log_level, settings.pod)
    _tune()
    try:
        asyncio.run(_operate(settings))
    except tuple(_CODES) as error:
        log.error("%s", error)
        sys.exit(next(code for kind, code in _CODES.items() if isinstance(error, kind)))


def _tune() -> None:
    """Sets the interpreter up for two threads that read many objects."""
    # Packing an object lets go of the GIL, and the other thread would keep it for 5 ms each time.
    sys.setswitchinterval(0.0005)
    # What is read are trees of dicts without cycles: with the defaults the collector takes a third of a start's CPU.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _operate(settings: OperatorSettings) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = _registry()
    health = Health(registry)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(health.close)
        port = await health.serve(settings.listen_host, settings.port_metrics)
        log.info("listening on port %d", port, extra={"port": port})
        api = await stack.enter_async_context(await Api.connect(user_agent="cortex-operator"))
        watched = Watched(api, settings.watch_namespaces, settings.reload, settings.discovery_seconds)
        if await _ends_before(stop, watched.begin((settings.namespace, settings.lease), health.wait_for)):
            await _Operator(settings, api, watched, health, registry, stop).lead()
        log.info("stopped")


@dataclass(frozen=True)
class _Operator:
    """One operator that has its rights: it waits for the Lease, works, and gives the Lease away when `stop` is set."""

    settings: OperatorSettings
    api: Api
    watched: Watched
    health: Health
    registry: CollectorRegistry
    stop: asyncio.Event

    async def lead(self) -> None:
        """Returns once `stop` is set. Raises what keeps it from its work (`_CODES`)."""
        settings, health = self.settings, self.health
        terms = Terms(settings.lease_seconds)
        store = LeaseStore(self.api, settings.namespace, settings.lease, timeout=2 * terms.renewal)
        election = Election(Lease(store, f"{settings.pod}_{secrets.token_hex(8)}", terms), terms)
        leader = Gauge("cortex_operator_leader", "1 while this operator is the leader, else 0.", registry=self.registry)
        leader.set_function(election.lease.held)
        health.stuck, health.follows = (election.stuck,), election.follows
        health.unready = lambda: "" if election.follows() else "waiting for the watches"
        discovery = Discovery(KubernetesCluster(self.api), settings.discovery_seconds)
        key = ReloadKey(self.api, settings.namespace, settings.reload_secret)
        if settings.reload and not await _ends_before(self.stop, key.begin()):
            return
        # When it is stopped while it waits, the Lease may have been written in that very moment.
        if await _ends_before(self.stop, election.win()) and await _ends_before(self.stop, discovery.begin()):
            await self._work(election, discovery, key.value)
        else:
            await election.resign()

    async def _work(self, election: Election, discovery: Discovery, key: bytes) -> None:
        settings, watched, registry, stop = self.settings, self.watched, self.registry, self.stop
        release = replace(settings.release, served=discovery.served)
        cache = make_cache(release)
        watch_cache(registry, cache)
        cluster = KubernetesCluster(self.api, watched.served, cache, election.fence)
        dataplane = GrpcDataPlane(cluster, election.fence)
        events = EventRecorder(self.api, settings.pod, election.fence, registry)
        engine = make_engine(
            cluster,
            dataplane,
            release,
            timing=Timing(cleanup=settings.cleanup_seconds),
            pace=Pace(workers=settings.workers),
            registry=registry,
            cache=cache,
            record=events.record,
            updates=settings.workload_updates,
            reload_key=key,
        )
        watches = Watches(len(engine.sources) * max(1, len(watched.served)) + 1, 2.0 * settings.lease_seconds)
        echo = Gauge(
            "cortex_operator_echo_age_seconds", "Age of the newest renewal seen by a watch.", registry=registry
        )
        echo.set_function(lambda: watches.echo_age)
        self.health.stuck = (election.stuck, engine.stuck, watches.stuck)
        self.health.unready = lambda: watches.unready() or engine.unready()
        where = ", ".join(watched.served) or "all namespaces"
        log.info("operating in %s of %s", where, self.api.server, extra={"workers": settings.workers})
        feed = KopfFeed(watched.served, watches, election.lease)
        events.start()
        following = [asyncio.create_task(each.follow(stop)) for each in (discovery, watched)]
        try:
            await engine.run(stop, feed)
        except WatchLost:
            # Of a kind that went, or where rights went, a watch ends for good, and sooner than anybody asks.
            if not await discovery.explains() and not await watched.explains():
                raise
        finally:
            for each in following:
                each.cancel()
            # While it still leads: Events are writes.
            await events.close()
            # Before the watches, which take their time to end: others wait for it.
            await election.resign()
            await feed.close()
            await dataplane.close()


async def _ends_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Whether the work came to its end before `stop`; raises what it raises. Else it has been ended."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait([working])
        return False
    await working
    return True


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
