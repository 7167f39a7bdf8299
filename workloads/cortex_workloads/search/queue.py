"""The queue of a revision: documents that wait to be embedded.

A batch is one transaction from `claim` to `finish`: its rows are locked meanwhile, so that others skip them, and what
a killed process had claimed is free at once. Writers never wait for it: they leave a claimed row as it is, and
`finish` sees that its document is another one by now, or gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pgvector import HalfVector

from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.runtime.lake.revisions import Revision
from cortex_workloads.search import postings, tables
from cortex_workloads.search.passages import Passage
from cortex_workloads.search.postings import Text

ATTEMPTS: Final = 3
"""How often a document is tried."""
_JOB_LOCKS: Final = 0x696E6772

# Not more text at once than embeds in reasonable time, so that no transaction grows old; at least one document.
_CLAIM: Final = """
WITH taken AS MATERIALIZED (
    SELECT document_id, attempts, large FROM {queue} WHERE attempts < %(attempts)s
    ORDER BY attempts, large, document_id LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
sized AS (
    SELECT t.document_id, coalesce(sum(length(d.content)) OVER (ORDER BY t.attempts, t.large, t.document_id
           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM taken t LEFT JOIN documents d ON d.id = t.document_id)
SELECT s.document_id, d.version, d.title, d.content FROM sized s LEFT JOIN documents d ON d.id = s.document_id
WHERE s.before < %(characters)s ORDER BY s.document_id
"""
_SHARE: Final = "SELECT id, version FROM documents WHERE id = ANY(%s) ORDER BY document FOR SHARE"
_UNPOSTED: Final = """
SELECT t.id FROM unnest(%(ids)s::bigint[]) AS t(id)
WHERE NOT EXISTS (SELECT FROM {indexed} i WHERE i.document_id = t.id)
"""
_DONE: Final = """
WITH done AS (DELETE FROM {queue} WHERE document_id = ANY(%(done)s)),
     gone AS (DELETE FROM {queue} WHERE document_id = ANY(%(gone)s)),
     changed AS (UPDATE {queue} SET attempts = 0, message = '' WHERE document_id = ANY(%(changed)s) AND attempts > 0),
     added AS (
        INSERT INTO {chunks} (document_id, ordinal, start, stop, vector_id)
        SELECT * FROM unnest(%(owners)s::bigint[], %(ordinals)s::int[], %(starts)s::int[], %(stops)s::int[],
                             %(vectors)s::bigint[])
        RETURNING 1)
INSERT INTO {statistics} (embedded, chunks) SELECT cardinality(%(done)s::bigint[]), count(*) FROM added
"""
_NEW_VECTORS: Final = """
INSERT INTO {vectors} (digest, embedding)
SELECT digest, embedding FROM (
    SELECT * FROM unnest(%(digests)s::bytea[], %(embeddings)s::halfvec[]) AS n(digest, embedding)<COPIED>) AS every
ORDER BY digest ON CONFLICT (digest) DO NOTHING
"""
_COPIED: Final = " UNION ALL SELECT digest, embedding FROM {vectors} WHERE digest = ANY(%s)"
# The lock keeps them from being pruned before the chunks are there.
_VECTORS: Final = "SELECT digest, id FROM {vectors} WHERE digest = ANY(%s) ORDER BY digest FOR KEY SHARE"
_FAILED: Final = """
UPDATE {queue} SET attempts = attempts + 1, message = %(message)s WHERE document_id = %(document)s
"""
_WAITING: Final = """
SELECT count(*) FROM (SELECT FROM {queue} WHERE attempts < %(attempts)s LIMIT %(most)s) AS counted
"""
_POISON: Final = """
SELECT count(*) OVER (), d.document, q.message FROM {queue} q JOIN documents d ON d.id = q.document_id
WHERE q.attempts >= %(attempts)s ORDER BY q.document_id LIMIT 1
"""


@dataclass(frozen=True)
class Claimed:
    """Rows of the queue that this transaction holds: texts to embed, and those whose document is gone."""

    texts: Sequence[Text]
    gone: Sequence[int]

    def __bool__(self) -> bool:
        return bool(self.texts or self.gone)


@dataclass(frozen=True)
class Divided:
    """One text and its passages."""

    text: Text
    passages: Sequence[Passage]


@dataclass(frozen=True)
class Embedded(Divided):
    """`vectors`: [dimensions] by the passage's key, of those that the Lake did not have, and perhaps of others."""

    vectors: Mapping[bytes, Vectors]


async def claim(connection: Connection, row: int, limit: int, characters: int) -> Claimed:
    """Takes the oldest documents that nobody holds, those that failed before last."""
    found = await connection.execute(
        tables.on(row, _CLAIM), {"attempts": ATTEMPTS, "limit": limit, "characters": characters}
    )
    rows = await found.fetchall()
    return Claimed([Text(*one) for one in rows if one[1] is not None], [one[0] for one in rows if one[1] is None])


async def finish(
    connection: Connection,
    revision: Revision,
    configuration: str,
    claimed: Claimed,
    embedded: Sequence[Embedded],
    failed: Mapping[int, str],
    known: Mapping[bytes, int],
) -> int:
    """Writes what was embedded and what failed (row -> why); the caller commits. `known`: as `reuse.find` found it in
    this transaction. Returns how many documents it did."""
    row = revision.row
    # As every writer does: one that takes documents in two steps holds this lock alone.
    await revisions.lock(connection, revision.resource, shared=True)
    shared = await connection.execute(_SHARE, ([text.row for text in claimed.texts],))
    versions = {one[0]: one[1] for one in await shared.fetchall()}
    done = [item for item in embedded if versions.get(item.text.row) == item.text.version]
    gone = [*claimed.gone, *(text.row for text in claimed.texts if text.row not in versions)]
    changed = [text.row for text in claimed.texts if versions.get(text.row, text.version) != text.version]
    await _post(connection, row, configuration, [item.text for item in done])
    vectors = await _vectors(connection, row, done, known)
    await connection.execute(tables.on(row, _DONE), _parameters(done, gone, changed, vectors))
    for document, message in failed.items():
        if document not in changed and document not in gone:
            await connection.execute(tables.on(row, _FAILED), {"document": document, "message": message[:500]})
    return len(done)


async def waiting(connection: Connection, row: int, most: int = 2**31) -> int:
    """Documents that wait and may still be tried, whoever holds them; counts no further than `most`."""
    found = await connection.execute(tables.on(row, _WAITING), {"attempts": ATTEMPTS, "most": most})
    count = await found.fetchone()
    return int(count[0]) if count is not None else 0


async def poison(connection: Connection, row: int) -> str:
    """What a revision's message says of the documents that could not be embedded; empty when there are none."""
    found = await (await connection.execute(tables.on(row, _POISON), {"attempts": ATTEMPTS})).fetchone()
    if found is None:
        return ""
    count, document, message = found
    return (
        f"{count} document{'s' if count > 1 else ''} could not be embedded after {ATTEMPTS} attempts"
        f" (for example {document!r}: {message}); write it again, or delete it"
    )


async def announce_job(connection: Connection, row: int) -> None:
    """Says, for as long as this connection lives, that an ingest Job works on the revision."""
    await connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", (_JOB_LOCKS, row % 2**31))


async def job_works(connection: Connection, row: int) -> bool:
    """Whether an ingest Job works on the revision."""
    free = await connection.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", (_JOB_LOCKS, row % 2**31))
    found = await free.fetchone()
    return found is not None and not found[0]


async def _post(connection: Connection, row: int, configuration: str, texts: Sequence[Text]) -> None:
    # A revision that was made after its documents has no postings of them yet.
    found = await connection.execute(tables.on(row, _UNPOSTED), {"ids": [text.row for text in texts]})
    unposted = {one[0] for one in await found.fetchall()}
    if missing := [text for text in texts if text.row in unposted]:
        await postings.add(connection, row, configuration, missing, created=0)


async def _vectors(
    connection: Connection, row: int, done: Sequence[Embedded], known: Mapping[bytes, int]
) -> dict[bytes, int]:
    """The keys of the vectors of all passages, by digest; those that are not there yet are written or copied."""
    new = {passage.key: item.vectors.get(passage.key) for item in done for passage in item.passages}
    found: dict[bytes, int] = {}
    while missing := sorted(new.keys() - found.keys()):
        made = {key: HalfVector(vector).to_text() for key in missing if (vector := new[key]) is not None}
        sources = {known[key] for key in missing if key not in made} - {row}
        parameters: dict[str, Any] = {"digests": list(made), "embeddings": list(made.values())}
        for source in sources:
            parameters[f"of_{source}"] = [key for key in missing if key not in made and known[key] == source]
        copied = "".join(tables.on(source, _COPIED).replace("%s", f"%(of_{source})s") for source in sorted(sources))
        await connection.execute(tables.on(row, _NEW_VECTORS).replace("<COPIED>", copied), parameters)
        keys = await connection.execute(tables.on(row, _VECTORS), (missing,))
        found |= {bytes(one[0]): one[1] for one in await keys.fetchall()}
    return found


def _parameters(
    done: Sequence[Embedded], gone: Sequence[int], changed: Sequence[int], vectors: Mapping[bytes, int]
) -> dict[str, Any]:
    rows = [
        (item.text.row, ordinal, passage.start, passage.stop, vectors[passage.key])
        for item in done
        for ordinal, passage in enumerate(item.passages)
    ]
    owners, ordinals, starts, stops, keys = (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 5
    return {
        "done": [item.text.row for item in done],
        "gone": list(gone),
        "changed": list(changed),
        "owners": owners,
        "ordinals": ordinals,
        "starts": starts,
        "stops": stops,
        "vectors": keys,
    }
