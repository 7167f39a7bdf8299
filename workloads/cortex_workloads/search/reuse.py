"""L3: vectors that the Lake has already, of the same index and the same model, so that no passage is embedded twice.

Shields ingestion from which revision has them: an older one with other chunking or other language, or this one, of
another document or of a former version.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Final

import psycopg
from prometheus_client import Counter

from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.runtime.telemetry import REGISTRY
from cortex_workloads.search import tables

REUSED: Final = Counter(
    "cortex_embeddings_reused_total",
    "Distinct passages whose vectors the Lake had",
    registry=REGISTRY,
)
# This revision first. `model_files` are empty for a model that the release knows by itself.
_ALIKE: Final = """
SELECT o.id FROM revisions r JOIN revisions o ON o.resource_id = r.resource_id
WHERE r.id = %s AND o.phase <> 'Failed' AND to_regclass('vectors_' || o.id) IS NOT NULL
  AND o.definition -> 'embedding' = r.definition -> 'embedding' AND o.model_files = r.model_files
ORDER BY o.id <> r.id, o.id DESC
"""
# The lock keeps them from being pruned before they are copied, and their table from being dropped.
_THERE: Final = "SELECT digest FROM {vectors} WHERE digest = ANY(%s) ORDER BY digest FOR KEY SHARE"


async def find(connection: Connection, row: int, digests: Collection[bytes]) -> dict[bytes, int]:
    """Of the passages with these digests those that have a vector: digest -> the row of the revision that has it. It
    stays there until the caller's transaction ends."""
    known: dict[bytes, int] = {}
    for one in await (await connection.execute(_ALIKE, (row,))).fetchall():
        if not (missing := sorted(set(digests) - known.keys())):
            break
        # A revision that goes away meanwhile has nothing to give.
        with suppress(psycopg.errors.UndefinedTable):
            async with connection.transaction():
                there = await connection.execute(tables.on(one[0], _THERE), (missing,))
                known |= {bytes(digest): one[0] for (digest,) in await there.fetchall()}
    return known
