"""The engine's metrics for Prometheus: a hook over its passes and gauges over its queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cortex_operator.engine.hooks import Hook, Pass
from cortex_operator.engine.queue import WorkQueue

_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


def metrics_hook(registry: CollectorRegistry, kind_of: Callable[[Any], str]) -> Hook:
    """The hook that counts passes and their times by the kind of their key, in `registry`."""
    passes = Counter("cortex_operator_passes", "Passes over a resource.", ["kind", "outcome"], registry=registry)
    took = Histogram(
        "cortex_operator_pass_seconds", "How long passes take.", ["kind"], buckets=_BUCKETS, registry=registry
    )
    waited = Histogram(
        "cortex_operator_queue_wait_seconds", "From due to begun.", ["kind"], buckets=_BUCKETS, registry=registry
    )

    def record(done: Pass) -> None:
        kind = kind_of(done.key)
        passes.labels(kind, done.outcome.value).inc()
        took.labels(kind).observe(done.took)
        waited.labels(kind).observe(done.waited)

    return record


def watch_queue(registry: CollectorRegistry, queue: WorkQueue[Any]) -> None:
    """Gauges of the queue's depth and of the age of its oldest key."""
    depth = Gauge("cortex_operator_queue_depth", "Keys that wait for a worker.", registry=registry)
    oldest = Gauge("cortex_operator_queue_oldest_seconds", "Age of the oldest due key.", registry=registry)
    depth.set_function(lambda: queue.depth)
    oldest.set_function(lambda: queue.oldest)
