"""The composition: engine and reconcilers over a cluster and a data plane, the same wherever those are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Final

from cortex_kinds.base import API_VERSION
from prometheus_client import CollectorRegistry

from cortex_operator.cluster import Cache, Cluster, Event, Recorder, Selection, log_notices
from cortex_operator.dataplane import DataPlane, ResourceKey
from cortex_operator.engine import Engine, FailureLog, Hook, Pace, Source, metrics_hook, watch_feed, watch_queue
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.questions import Questions
from cortex_operator.reconcile import Reconciler, Timing, Uses, World, sources
from cortex_operator.reconcile.fleet import Fleet, WorkloadUpdates
from cortex_operator.reconcile.fleet_metrics import watch_fleet
from cortex_operator.reconcile.named import Named
from cortex_operator.reconcile.reload import reload_sources

OWNED_LABELS: Final[Mapping[str, str]] = {"app.kubernetes.io/managed-by": "cortex-operator"}
"""What every object that the operator makes carries; of the others it wants to hear nothing."""


def make_engine(
    cluster: Cluster,
    dataplane: DataPlane,
    release: ReleaseSettings,
    *,
    timing: Timing | None = None,
    pace: Pace | None = None,
    hooks: Iterable[Hook] = (),
    registry: CollectorRegistry | None = None,
    cache: Cache | None = None,
    record: Recorder = log_notices,
    updates: WorkloadUpdates = WorkloadUpdates.ONE_AT_A_TIME,
    reload_key: bytes = b"",
) -> Engine[ResourceKey]:
    """The engine that reconciles every CortexIndex and CortexWorkflow.

    `hooks` are told of every pass; with `registry` metrics are kept there. `cache` hears what the engine is told; it is
    the one that `cluster` reads from, if it has one. `record` tells Events. `updates`: how resources move from an
    earlier release to this one. `reload_key`: of the digests by which pods are reloaded; without it they are not. The
    caller closes `cluster` and `dataplane`.
    """
    uses, fleet, named = Uses(), Fleet(release.id, updates), Named(secret=reload_key)
    questions = Questions(dataplane, lambda key: engine.queue.add(key))
    world = World(cluster, questions, release, timing or Timing(), uses=uses, record=record, fleet=fleet, named=named)
    reconcile = Reconciler(world)
    measures = [metrics_hook(registry, lambda key: key.kind)] if registry is not None else []
    told: tuple[Hook, ...] = (FailureLog(), *measures, *hooks)
    watched = [_followed(_selected(source), fleet) for source in sources(release.served, uses)]
    watched += reload_sources(named) if reload_key else []
    engine = Engine(cluster, watched, reconcile, pace=pace or Pace(), hooks=told, cache=cache)
    if registry is not None:
        watch_queue(registry, engine.queue)
        watch_fleet(registry, fleet)
    return engine


def make_cache(release: ReleaseSettings) -> Cache:
    """A cache of what the engine is told of."""
    watched = map(_selected, sources(release.served))
    return Cache({(each.api_version, each.kind): Selection(each.labels, each.listed_by) for each in watched})


async def run_operator(
    cluster: Cluster,
    dataplane: DataPlane,
    release: ReleaseSettings,
    *,
    stop: asyncio.Event,
    timing: Timing | None = None,
    hooks: Iterable[Hook] = (),
) -> None:
    """Reconciles until `stop`, fed by the cluster's own watches; passes that have begun are ended."""
    engine = make_engine(cluster, dataplane, release, timing=timing, hooks=hooks)
    await engine.run(stop, watch_feed(cluster))


def _selected(source: Source[ResourceKey]) -> Source[ResourceKey]:
    return source if source.api_version == API_VERSION else replace(source, labels=OWNED_LABELS)


def _followed(source: Source[ResourceKey], fleet: Fleet) -> Source[ResourceKey]:
    """The fleet hears of Deployments and resources, also what the operator itself wrote."""
    if source.kind != "Deployment" and source.api_version != API_VERSION:
        return source

    def also(keys: Callable[[Event], Iterable[ResourceKey]]) -> Callable[[Event], Iterable[ResourceKey]]:
        return lambda event: chain(keys(event), fleet.hear(event))

    return replace(source, keys=also(source.keys), echo=also(source.echo))
