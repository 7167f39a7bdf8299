"""Writes documents into the Lake: documents, their postings and their place in the queues, in one transaction.

Locks are taken in one order by everybody: the resource's (shared), then documents by id in one statement. A request
that both writes and deletes needs two such statements, and takes the resource's lock alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Resource, Revision
from cortex_workloads.search import definition, postings, tables
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.postings import Text


@dataclass(frozen=True)
class Written:
    """What a request did. `waiting`: documents that the current revision has not embedded."""

    written: int
    unchanged: int
    deleted: int
    waiting: int


@dataclass(frozen=True)
class _Change:
    text: Text
    created: bool
    text_changed: bool


_UPSERT: Final = """
INSERT INTO documents AS d (resource_id, document, title, content, meta, digest)
SELECT %(resource)s, n.document, n.title, n.content, n.meta::jsonb, n.digest
FROM unnest(%(ids)s::text[], %(titles)s::text[], %(contents)s::text[], %(metas)s::text[], %(digests)s::bytea[])
     AS n(document, title, content, meta, digest)
ORDER BY n.document COLLATE "C"
ON CONFLICT (resource_id, document) DO UPDATE SET
    title = excluded.title, content = excluded.content, meta = excluded.meta, digest = excluded.digest,
    version = d.version + (d.digest <> excluded.digest)::int, written_at = now()
WHERE d.digest <> excluded.digest OR d.meta <> excluded.meta
RETURNING new.id, new.document, new.version, old.id IS NULL, old.digest IS DISTINCT FROM new.digest
"""
_DELETE: Final = """
DELETE FROM documents WHERE id IN (
    SELECT id FROM documents WHERE resource_id = %s AND document = ANY(%s) ORDER BY document FOR UPDATE)
RETURNING id
"""
_FORGET: Final = """
WITH gone AS (DELETE FROM {indexed} WHERE document_id = ANY(%(ids)s) RETURNING document_id, length),
     words AS (DELETE FROM {postings} WHERE document_id = ANY(%(ids)s)),
     passages AS (DELETE FROM {chunks} WHERE document_id = ANY(%(ids)s) RETURNING 1)
INSERT INTO {statistics} (documents, posted, length, embedded, chunks)
SELECT -%(deleted)s, -count(*), -coalesce(sum(length), 0),
       -count(*) FILTER (WHERE NOT EXISTS (SELECT FROM {queue} q WHERE q.document_id = gone.document_id)),
       -(SELECT count(*) FROM passages)
FROM gone
"""
# An embedder that holds a row of the queue sees by itself that its document is another one, or gone.
_UNQUEUE: Final = """
DELETE FROM {queue} WHERE document_id IN (
    SELECT document_id FROM {queue} WHERE document_id = ANY(%(ids)s) ORDER BY document_id FOR UPDATE SKIP LOCKED)
"""


async def write(lake: Lake, resource: Resource, documents: Sequence[NewDocument], delete_ids: Sequence[str]) -> Written:
    """Writes and deletes, all or none; returns once it is committed. Raises Unavailable (`LakeUnreachable`,
    `NoRevision`)."""
    async with lake.transaction() as connection:
        row = await revisions.resource_row(connection, resource)
        if row is None:
            raise no_revision(resource)
        await revisions.lock(connection, row, shared=not (documents and delete_ids))
        live = [
            revision for revision in await revisions.describe(connection, resource) if revision.phase in tables.LIVE
        ]
        current = revisions.current(live)
        if current is None:
            raise no_revision(resource)
        deleted = await _delete(connection, row, delete_ids)
        changes = await _upsert(connection, row, documents)
        for revision in sorted(live, key=lambda revision: revision.row):
            await _feed(connection, revision, deleted, changes)
        waiting = (await tables.counts(connection, current.row)).waiting
    return Written(len(changes), len(documents) - len(changes), len(deleted), waiting)


def no_revision(resource: Resource) -> Unavailable:
    """The error of an index that the operator has not given a revision yet."""
    return Unavailable(
        f"the index {resource.namespace}/{resource.name} has no revision yet",
        remedy="the operator makes one as soon as it sees the CortexIndex and a pod of it: try again in some seconds",
        reason="NoRevision",
    )


async def _delete(connection: Connection, resource: int, ids: Sequence[str]) -> list[int]:
    if not ids:
        return []
    gone = await connection.execute(_DELETE, (resource, sorted(set(ids))))
    return [row[0] for row in await gone.fetchall()]


async def _upsert(connection: Connection, resource: int, documents: Sequence[NewDocument]) -> list[_Change]:
    if not documents:
        return []
    parameters: dict[str, Any] = {
        "resource": resource,
        "ids": [document.id for document in documents],
        "titles": [document.title for document in documents],
        "contents": [document.content for document in documents],
        "metas": [document.meta_json for document in documents],
        "digests": [document.digest for document in documents],
    }
    by_id = {document.id: document for document in documents}
    changed = await connection.execute(_UPSERT, parameters)
    return [
        _Change(Text(row[0], row[2], by_id[row[1]].title, by_id[row[1]].content), row[3], row[4])
        for row in await changed.fetchall()
    ]


async def _feed(
    connection: Connection, revision: Revision, deleted: Collection[int], changes: Sequence[_Change]
) -> None:
    rewritten = [change.text.row for change in changes if change.text_changed and not change.created]
    texts = [change.text for change in changes if change.text_changed]
    if deleted or rewritten:
        stale = {"ids": [*deleted, *rewritten], "deleted": len(deleted)}
        await connection.execute(tables.on(revision.row, _FORGET), stale)
        await connection.execute(tables.on(revision.row, _UNQUEUE), stale)
    if texts:
        created = sum(change.created for change in changes)
        await postings.add(connection, revision.row, definition.read(revision.definition).configuration, texts, created)
        await connection.execute(tables.on(revision.row, tables.ENQUEUE), {"ids": [text.row for text in texts]})
    elif changes:
        await connection.execute(tables.on(revision.row, tables.CHANGED))
