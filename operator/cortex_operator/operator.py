"""The composition: engine and reconcilers over a cluster and a data plane, the same wherever those are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from cortex_operator.cluster import Cluster
from cortex_operator.dataplane import DataPlane
from cortex_operator.engine import Engine, Hook, Pace, log_failures, metrics_hook, watch_queue
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Reconciler, Timing, World, sources


async def run_operator(
    cluster: Cluster,
    dataplane: DataPlane,
    release: ReleaseSettings,
    *,
    stop: asyncio.Event,
    timing: Timing | None = None,
    pace: Pace | None = None,
    hooks: Iterable[Hook] = (),
    registry: CollectorRegistry | None = None,
) -> None:
    """Reconciles every CortexIndex and CortexWorkflow until `stop`; passes that have begun are ended.

    `hooks` are told of every pass; with `registry` metrics are kept there. The caller closes `cluster` and `dataplane`.
    """
    reconcile = Reconciler(World(cluster, dataplane, release, timing or Timing()))
    measures = [metrics_hook(registry, lambda key: key.kind)] if registry is not None else []
    engine = Engine(cluster, sources(), reconcile, pace=pace or Pace(), hooks=(log_failures, *measures, *hooks))
    if registry is not None:
        watch_queue(registry, engine.queue)
    await engine.run(stop)
