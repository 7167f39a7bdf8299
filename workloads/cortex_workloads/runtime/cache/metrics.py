"""What /metrics says of caches, per cache and level: hits, misses, size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge

from cortex_workloads.runtime.telemetry import REGISTRY

_REQUESTS: Final = Counter(
    "cortex_cache_requests_total",
    "Questions to a cache; joined: waited for the load of another; outdated: what was kept is not true any more;"
    " stale: given while a new one is made",
    ("cache", "level", "result"),
    registry=REGISTRY,
)
_BYTES: Final = Gauge("cortex_cache_bytes", "Bytes that a cache holds", ("cache", "level"), registry=REGISTRY)
_LIMIT: Final = Gauge("cortex_cache_limit_bytes", "Bytes that a cache may hold", ("cache", "level"), registry=REGISTRY)
_ENTRIES: Final = Gauge("cortex_cache_entries", "Entries that a cache holds", ("cache", "level"), registry=REGISTRY)


class Requests:
    """What one level of one cache was asked."""

    def __init__(self, cache: str, level: str) -> None:
        self.hits = _REQUESTS.labels(cache, level, "hit")
        self.misses = _REQUESTS.labels(cache, level, "miss")
        self.joined = _REQUESTS.labels(cache, level, "joined")
        self.outdated = _REQUESTS.labels(cache, level, "outdated")
        self.stale = _REQUESTS.labels(cache, level, "stale")


def measure(cache: str, level: str, limit: int, size: Callable[[], float], entries: Callable[[], float]) -> None:
    """Tells what a level holds: `size` (bytes) and `entries` are asked for when somebody looks."""
    _BYTES.labels(cache, level).set_function(size)
    _ENTRIES.labels(cache, level).set_function(entries)
    _LIMIT.labels(cache, level).set(limit)
