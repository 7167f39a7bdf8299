"""The cache's metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cortex_operator.cluster.cache import Cache


def watch_cache(registry: CollectorRegistry, cache: Cache) -> None:
    """Objects and bytes that are kept, and reads by who answered them, by kind."""
    registry.register(_CacheCollector(cache))


class _CacheCollector(Collector):
    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        objects = GaugeMetricFamily("cortex_operator_cache_objects", "Objects kept.", labels=["kind"])
        size = GaugeMetricFamily("cortex_operator_cache_bytes", "What they take, packed.", labels=["kind"])
        for kind, (count, length) in self._cache.sizes().items():
            objects.add_metric([kind], count)
            size.add_metric([kind], length)
        reads = CounterMetricFamily(
            "cortex_operator_reads", "Reads of objects, by who answered.", labels=["kind", "answered_by"]
        )
        for (kind, here), count in sorted(self._cache.reads.items()):
            reads.add_metric([kind, "cache" if here else "server"], count)
        yield from (objects, size, reads)
