"""The way in for events where nothing else watches: the store's own watches, one per source.

Shields the engine from watches that break. In a cluster kopf feeds the engine instead (handlers.py).
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from typing import Final, TypeVar

from cortex_operator.cluster import Cluster
from cortex_operator.engine.backoff import Backoff
from cortex_operator.engine.engine import Engine, Feed, Source

K = TypeVar("K")

log = logging.getLogger(__name__)
_AGAIN: Final = Backoff(0.1, 30.0)


def watch_feed(cluster: Cluster) -> Feed[K]:
    """The feed that watches every source of the engine in `cluster`; it never ends by itself."""

    async def feed(engine: Engine[K]) -> None:
        async with asyncio.TaskGroup() as group:
            for source in engine.sources:
                group.create_task(_watch(cluster, engine, source))

    return feed


async def _watch(cluster: Cluster, engine: Engine[K], source: Source[K]) -> None:
    rng, attempt = random.Random(), 0  # noqa: S311 - jitter
    while True:
        try:
            async with aclosing(cluster.watch(source.api_version, source.kind)) as events:
                async for event in events:
                    attempt = 0
                    engine.tell(source, event)
        except Exception as error:
            log.warning("the watch of %s broke: %s", source.kind, error)
        attempt += 1
        await asyncio.sleep(_AGAIN.delay(attempt, rng))
