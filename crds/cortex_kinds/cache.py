"""`spec.cache`: how much pods keep so that they need not compute it again, and for how long.

The defaults are those of the processes too: `cortex_workloads.runtime.settings` takes them from here.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from cortex_kinds.base import Duration, Model, Quantity, Whole, parse_duration, parse_quantity
from cortex_kinds.cel import Rule
from cortex_kinds.common import Resources

MOST_WARMED: Final = 1000
_MEMORY: Final = Rule(
    "self.memory.matches('^([0-9]{1,10}|[0-9]{1,7}(k|Ki)|[0-9]{1,4}(M|Mi)|[0-9](G|Gi))$')",
    "memory is a whole quantity up to 9999Mi or 9Gi, such as 0, 512Ki, 64Mi",
    ".memory",
)
_SHARED_ENTRY: Final = Rule(
    "self.sharedEntry.matches('^([0-9]{1,6}|[0-9]{1,3}(k|Ki)|[01](M|Mi))$')",
    "sharedEntry is a whole quantity up to 999Ki or 1Mi, such as 0, 64Ki",
    ".sharedEntry",
)
_TTL: Final = Rule("duration(self.ttl) <= duration('24h')", "ttl is at most 24h", ".ttl")


class MemoryCache(Model):
    """What each pod keeps in its memory."""

    rules: ClassVar[tuple[Rule, ...]] = (_MEMORY,)

    memory: Quantity = "64Mi"
    """What it takes of each pod's memory, at most; `"0"`: nothing is kept in the pod. Whole, at most 9Gi or 9999Mi."""

    @property
    def memory_bytes(self) -> int:
        """`memory`."""
        return int(parse_quantity(self.memory))


class SharedCache(MemoryCache):
    """What is kept in the shared state too, for the other pods."""

    rules: ClassVar[tuple[Rule, ...]] = (*MemoryCache.rules, _SHARED_ENTRY)

    shared_entry: Quantity = "256Ki"
    """The largest entry that is kept in the shared state, compressed; `"0"`: none is. Whole, at most 1Mi."""

    @property
    def shared_entry_bytes(self) -> int:
        """`sharedEntry`."""
        return int(parse_quantity(self.shared_entry))


class QueryCache(MemoryCache):
    """The vectors of queries that were asked before, about 2 kB each."""

    rules: ClassVar[tuple[Rule, ...]] = (*MemoryCache.rules, _TTL)

    ttl: Duration = "1h"
    """How long a vector is kept, at most; at most 24h."""

    @property
    def ttl_seconds(self) -> float:
        """`ttl`."""
        return parse_duration(self.ttl).total_seconds()


class AnswerCache(SharedCache):
    """Answers of searches, some kB each."""

    rules: ClassVar[tuple[Rule, ...]] = (*SharedCache.rules, _TTL)

    ttl: Duration = "1h"
    """How long an answer is kept, at most; it is given only while nothing has changed that it depends on. At most
    24h."""

    @property
    def ttl_seconds(self) -> float:
        """`ttl`."""
        return parse_duration(self.ttl).total_seconds()


class CacheWarming(Model):
    """What pods ask themselves ahead, when they begin and when another revision answers."""

    requests: Annotated[int, Field(ge=0, le=MOST_WARMED), Whole] = 64
    """How many of the most-used requests; 0: none, and none are counted or told to the shared state."""


class NodeResultCache(SharedCache):
    """Results of nodes with `cache`; each lives as long as its node says."""


class IndexCache(Model):
    """What the pods of an index keep. A change replaces them, one after the other, as `update` says."""

    queries: QueryCache = QueryCache()
    """The vectors of queries that were asked before."""
    answers: AnswerCache = AnswerCache()
    """Answers of searches."""
    warming: CacheWarming = CacheWarming()
    """What pods ask themselves ahead, when they begin and when another revision answers."""


class WorkflowCache(Model):
    """What the pods of a workflow keep. A change replaces them, one after the other, as `update` says."""

    node_results: NodeResultCache = NodeResultCache()
    """Results of nodes with `cache`."""


def check_fit(resources: Resources, **memory: str) -> None:
    """Raises ValueError when caches of these sizes, by their field, leave nothing of the container's memory limit. Only
    a limit of the resource's own counts: the release's is not known here."""
    limit = resources.limits.get("memory", "0")
    if 0 < parse_quantity(limit) <= sum(map(parse_quantity, memory.values())):
        sizes = " and ".join(f"cache.{field}.memory {size}" for field, size in memory.items())
        raise ValueError(f"resources.limits.memory {limit} is used up by {sizes}: lower them or raise the limit")
