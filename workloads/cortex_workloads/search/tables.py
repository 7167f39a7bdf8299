"""The tables of one index revision. Shields the rest from their names, their making and their removal.

Each revision has its own set, so that it has a vector index of its own and goes away at once:

    postings    the text leg: a word of a document, how often, and how long the document is
    indexed     documents with postings, and the version of the text that they are of
    queue       documents that are not embedded yet (taken with SKIP LOCKED)
    chunks      embedded passages; [start, stop) are code points of documents.content
    vectors     their vectors, each distinct text once: equal vectors would cut the HNSW graph into islands
    statistics  sums, as differences that writers append (no row that all of them update); `compact` adds them up

Every transaction that changes what a search of the revision can return appends to the statistics, and each row there
has a random number as its `version`. All of them XORed are the content version of a snapshot: as the rows are the
differences that it sees, it is the same again only where the content is, in whatever order writers commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import psycopg

from cortex_workloads.runtime.embedding.model import DIMENSIONS
from cortex_workloads.runtime.lake.pool import Connection, Lake
from cortex_workloads.runtime.lake.revisions import Phase, Revision

LIVE: Final = (Phase.CURRENT, Phase.READY, Phase.BUILDING)
"""Revisions that take what is written."""
_NAMES: Final = ("postings", "indexed", "queue", "chunks", "vectors", "statistics")

_CREATE: Final = """
CREATE TABLE {postings} (
    lexeme text COLLATE "C" NOT NULL, document_id bigint NOT NULL, frequency int NOT NULL, length int NOT NULL,
    PRIMARY KEY (lexeme, document_id) INCLUDE (frequency, length));
CREATE INDEX ON {postings} (document_id);
CREATE TABLE {indexed} (document_id bigint PRIMARY KEY, version bigint NOT NULL, length int NOT NULL);
CREATE TABLE {queue} (
    document_id bigint PRIMARY KEY, large boolean NOT NULL, attempts int NOT NULL DEFAULT 0,
    message text NOT NULL DEFAULT '');
CREATE INDEX ON {queue} (attempts, large, document_id);
CREATE TABLE {vectors} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, digest bytea NOT NULL UNIQUE,
    embedding halfvec({dimensions}) NOT NULL);
CREATE INDEX ON {vectors} USING hnsw (embedding halfvec_cosine_ops) WITH (m = 16, ef_construction = 64);
CREATE TABLE {chunks} (
    document_id bigint NOT NULL, ordinal int NOT NULL, start int NOT NULL, stop int NOT NULL,
    vector_id bigint NOT NULL REFERENCES {vectors}, PRIMARY KEY (document_id, ordinal));
CREATE INDEX ON {chunks} (vector_id);
CREATE TABLE {statistics} (
    documents bigint NOT NULL DEFAULT 0, posted bigint NOT NULL DEFAULT 0, length bigint NOT NULL DEFAULT 0,
    embedded bigint NOT NULL DEFAULT 0, chunks bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT random(-9223372036854775808, 9223372036854775807));
"""

# What a revision lacks of the documents as they are now; what it has of documents that are gone or were changed.
_FORGET: Final = """
WITH stale AS MATERIALIZED (
    SELECT i.document_id FROM {indexed} i LEFT JOIN documents d ON d.id = i.document_id
    WHERE d.version IS DISTINCT FROM i.version
), postings AS (DELETE FROM {postings} WHERE document_id IN (SELECT document_id FROM stale)
), chunks AS (DELETE FROM {chunks} WHERE document_id IN (SELECT document_id FROM stale))
DELETE FROM {indexed} WHERE document_id IN (SELECT document_id FROM stale)
"""
# A large document takes minutes: the others go first.
ENQUEUE: Final = """
INSERT INTO {queue} (document_id, large)
SELECT id, length(content) >= 100000 FROM documents WHERE id = ANY(%(ids)s) ORDER BY id
ON CONFLICT (document_id) DO NOTHING
"""
_ENQUEUE_ALL: Final = """
INSERT INTO {queue} (document_id, large)
SELECT d.id, length(d.content) >= 100000 FROM documents d LEFT JOIN {indexed} i ON i.document_id = d.id
WHERE d.resource_id = %(resource)s AND i.document_id IS NULL ORDER BY d.id
ON CONFLICT (document_id) DO NOTHING
"""
# Rows that an embedder still holds are its own affair: waiting for it, with writers kept out, could wait for ever.
_RETRY: Final = """
UPDATE {queue} SET attempts = 0, message = '' WHERE document_id IN (
    SELECT document_id FROM {queue} WHERE attempts > 0 FOR UPDATE SKIP LOCKED)
"""
_COUNT: Final = """
WITH gone AS (DELETE FROM {statistics})
INSERT INTO {statistics} (documents, posted, length, embedded, chunks)
SELECT (SELECT count(*) FROM documents WHERE resource_id = %(resource)s), count(*), coalesce(sum(i.length), 0),
       count(*) FILTER (WHERE q.document_id IS NULL), (SELECT count(*) FROM {chunks})
FROM {indexed} i LEFT JOIN {queue} q USING (document_id)
"""
_COMPACT: Final = """
WITH gone AS (
    DELETE FROM {statistics} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {statistics} FOR UPDATE SKIP LOCKED))
    RETURNING documents, posted, length, embedded, chunks, version)
INSERT INTO {statistics} (documents, posted, length, embedded, chunks, version)
SELECT sum(documents), sum(posted), sum(length), sum(embedded), sum(chunks), bit_xor(version) FROM gone
HAVING count(*) > 0
"""
CHANGED: Final = "INSERT INTO {statistics} DEFAULT VALUES"
"""Tells of a change of what searches return that no sum shows."""
_VERSION: Final = """
SELECT bit_xor(version) FROM {statistics}
WHERE EXISTS (SELECT FROM revisions WHERE id = %(revision)s AND phase = ANY(%(live)s))
"""
# Of a set of tables that a pod of a release made that knew no content versions.
_LACKS_VERSION: Final = """
SELECT NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'version')
"""
_ADD_VERSION: Final = """
ALTER TABLE {statistics} ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT
    random(-9223372036854775808, 9223372036854775807)
"""
_UNUSED: Final = """
SELECT v.id FROM {vectors} v WHERE NOT EXISTS (SELECT FROM {chunks} c WHERE c.vector_id = v.id)
FOR UPDATE OF v SKIP LOCKED
"""
_PRUNE: Final = """
DELETE FROM {vectors} v WHERE v.id = ANY(%s) AND NOT EXISTS (SELECT FROM {chunks} c WHERE c.vector_id = v.id)
"""
_ORPHANS: Final = """
SELECT substring(c.relname FROM '[0-9]+$')::bigint FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname ~ '^queue_[0-9]+$'
  AND NOT EXISTS (SELECT FROM revisions r WHERE r.id = substring(c.relname FROM '[0-9]+$')::bigint)
"""


@dataclass(frozen=True)
class Counts:
    """Sums of a revision: documents of the index, those embedded, chunks, and how many rows the sums are in."""

    documents: int
    embedded: int
    chunks: int
    rows: int

    @property
    def waiting(self) -> int:
        """Documents that are not embedded."""
        return max(self.documents - self.embedded, 0)


@lru_cache(maxsize=1024)
def on(row: int, template: str) -> str:
    """A statement with the names of a revision's tables in the place of {postings}, {queue}, ..."""
    return template.format_map({name: f"{name}_{row:d}" for name in _NAMES})


def _create(row: int, dimensions: int) -> str:
    return on(row, _CREATE.replace("{dimensions}", f"{dimensions:d}"))


async def prepare(connection: Connection, revision: Revision, dimensions: int = DIMENSIONS) -> None:
    """Makes what a revision with vectors of so many dimensions needs and queues what it lacks, when its phase changed
    in this very transaction. To be called right after `revisions.ensure`, whose lock keeps writers out meanwhile."""
    now = await (await connection.execute("SELECT now()")).fetchone()
    if now is None or revision.changed_at != now[0]:
        return
    there = await (await connection.execute("SELECT to_regclass(%s)", (f"queue_{revision.row}",))).fetchone()
    if there is None or there[0] is None:
        await connection.execute(_create(revision.row, dimensions))
    else:
        await connection.execute(on(revision.row, _FORGET))
    for statement in (_ENQUEUE_ALL, _RETRY, _COUNT):
        await connection.execute(on(revision.row, statement), {"resource": revision.resource})


async def counts(connection: Connection, row: int) -> Counts:
    """The sums of a revision."""
    found = await connection.execute(
        on(
            row,
            "SELECT coalesce(sum(documents), 0)::bigint, coalesce(sum(embedded), 0)::bigint,"
            " coalesce(sum(chunks), 0)::bigint, count(*) FROM {statistics}",
        )
    )
    sums = await found.fetchone()
    assert sums is not None
    return Counts(*sums)


async def version(connection: Connection, row: int) -> int | None:
    """The content version of a revision; None of one that takes no writes, whose documents change past it."""
    asked = {"revision": row, "live": list(LIVE)}
    found = await (await connection.execute(on(row, _VERSION), asked)).fetchone()
    return None if found is None else found[0]


async def complete(connection: Connection, row: int) -> None:
    """Adds what the tables lack when a pod of an earlier release made them while this one was rolled out."""
    found = await (await connection.execute(_LACKS_VERSION, (f"statistics_{row:d}",))).fetchone()
    if found is not None and found[0]:
        await connection.execute(on(row, _ADD_VERSION))


async def compact(connection: Connection, row: int) -> None:
    """Adds up the differences that no transaction in progress holds."""
    await complete(connection, row)
    await connection.execute(on(row, _COMPACT))


async def prune(connection: Connection, row: int) -> None:
    """Removes vectors that no chunk has any more; those that an embedder is about to use are left."""
    found = await connection.execute(on(row, _UNUSED))
    if unused := [one[0] for one in await found.fetchall()]:
        # A statement of its own: it sees what was committed until the rows were locked.
        await connection.execute(on(row, _PRUNE), (unused,))


async def drop(connection: Connection, row: int) -> None:
    """Drops the tables of a revision, those that are there. Waits for who uses them."""
    names = ", ".join(f"{name}_{row:d}" for name in _NAMES)
    await connection.execute(f"DROP TABLE IF EXISTS {names}")


async def sweep(lake: Lake) -> int:
    """Drops the tables of revisions that are gone; those in use are left for the next time. Returns how many went."""
    async with lake.connection() as connection:
        orphans = [row[0] for row in await (await connection.execute(_ORPHANS)).fetchall()]
    dropped = 0
    for row in orphans:
        try:
            async with lake.transaction() as connection:
                await connection.execute("SET LOCAL lock_timeout = '200ms'")
                await drop(connection, row)
                dropped += 1
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            continue
    return dropped
