"""Results of nodes, kept where the manifest says so (`cache`): who gives a node the same again is written the same.

Around a node's work, inside its retries and its timeout. LangGraph's own cache of nodes is asked by the whole state,
once for a super-step: every other key of the state would be another entry, and equal nodes would all be run at once.
"""

from __future__ import annotations

import hashlib
from typing import Final

import orjson
from cortex_kinds.base import parse_duration
from cortex_kinds.nodes import Cache, Node

from cortex_workloads.graph.nodes.base import Outcome, Parted, State, Work
from cortex_workloads.runtime.cache.layers import Layers, Life
from cortex_workloads.runtime.lake.revisions import Resource

NAME: Final = "node_results"
"""The cache, in /metrics."""


class KeptResults:
    """Of one workflow."""

    def __init__(self, resource: Resource, layers: Layers) -> None:
        self._keys = keys(resource.namespace, resource.name)
        self._layers = layers

    def around(self, revision: str, node: Node, cache: Cache, parted: Parted) -> Work:
        """The node's work, which is done where no result is kept of what it reads."""
        beginning, life = f"{self._keys}{revision}:{node.name}:", _life(cache)

        async def work(state: State, seconds: float | None) -> Outcome:
            given = parted.reads(state)

            async def load() -> bytes:
                return orjson.dumps((await parted.does(given, seconds)).update)

            told = orjson.dumps(given, option=orjson.OPT_SORT_KEYS)
            value, age = await self._layers.get(beginning + hashlib.sha256(told).hexdigest(), life, load)
            return Outcome(orjson.loads(value), message="" if age is None else f"from the cache, {age:.0f} s old")

        return work


def keys(namespace: str, name: str) -> str:
    """What the keys of all results of a workflow's nodes begin with in the shared state."""
    return f"cortex:{{workflow:{namespace}/{name}}}:node:"


def _life(cache: Cache) -> Life:
    grace = cache.stale_while_revalidate
    return Life(parse_duration(cache.ttl).total_seconds(), parse_duration(grace).total_seconds() if grace else 0.0)
