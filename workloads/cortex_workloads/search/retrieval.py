"""Finds documents: one SQL statement per search, whatever the mode.

text    BM25 as Lucene computes it (k1 1.2, b 0.75), terms of the query ORed, over the revision's postings
vector  cosine similarity of the best passage, over the revision's HNSW index
hybrid  both, fused by reciprocal rank (k = 60)

With a filter that few documents pass, and where the index found too few, every passage concerned is compared instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pgvector import HalfVector

from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.search import tables
from cortex_workloads.search.filters import Condition

SESSION: Final = {"hnsw.iterative_scan": "relaxed_order", "hnsw.ef_search": "200", "hnsw.max_scan_tuples": "100000"}
"""Settings that every connection of the search service has."""
DEPTH: Final = 100
"""Documents that each leg gives to the fusion, at least."""
PASSAGE: Final = 600
"""Characters of a passage where no chunk tells which."""
_CHUNKS_PER_DOCUMENT: Final = 4
_FEW: Final = 10_000


class Mode(StrEnum):
    """How to search; as `spec.retrieval.mode`."""

    HYBRID = "Hybrid"
    VECTOR = "Vector"
    TEXT = "Text"


@dataclass(frozen=True)
class Query:
    """What to search, in which revision. `vector` is float32 [dimensions], needed by the modes with a vector leg;
    `exact` compares with every passage that passes the filter."""

    text: str
    mode: Mode
    top_k: int
    resource: int
    revision: int
    configuration: str
    vector: Vectors | None = None
    condition: Condition | None = None
    exact: bool = False


@dataclass(frozen=True)
class Hit:
    """One document. [start, stop) of its content is `passage`; ranks count from 1, None: that leg did not find it."""

    id: str
    title: str
    meta: Mapping[str, Any]
    score: float
    passage: str
    start: int
    stop: int
    vector_rank: int | None
    text_rank: int | None


@dataclass(frozen=True)
class Found:
    """Hits, best first, and what of the index the search could see. `version`: of the content (`tables.version`)."""

    hits: tuple[Hit, ...]
    documents: int
    embedded: int
    version: int | None = None


_SIZE: Final = """size AS MATERIALIZED (
    SELECT coalesce(sum(documents), 0)::bigint AS documents, coalesce(sum(embedded), 0)::bigint AS embedded,
           coalesce(sum(chunks), 0)::bigint AS chunks, coalesce(sum(posted), 0)::float8 AS posted,
           greatest(coalesce(sum(length), 0)::float8 / nullif(sum(posted), 0)::float8, 1) AS average,
           CASE WHEN EXISTS (SELECT FROM revisions WHERE id = %(revision)s AND phase = ANY(%(live)s))
                THEN bit_xor(version) END AS version
    FROM {statistics})"""
_TEXT_LEG: Final = """terms AS MATERIALIZED (
    SELECT lexeme, cardinality(positions) AS weight FROM unnest(to_tsvector(%(configuration)s::regconfig, %(text)s))),
weighted AS MATERIALIZED (
    SELECT t.lexeme, s.average, t.weight * ln(1 + (greatest(s.posted, f.n) - f.n + 0.5) / (f.n + 0.5)) AS idf
    FROM terms t, size s, LATERAL (SELECT count(*)::float8 AS n FROM {postings} p WHERE p.lexeme = t.lexeme) AS f),
scored AS (
    SELECT p.document_id,
           sum(w.idf * p.frequency / (p.frequency + 1.2 * (0.25 + 0.75 * p.length / w.average)))::float8 AS score
    FROM weighted w JOIN {postings} p ON p.lexeme = w.lexeme <WHERE_ALLOWED p> GROUP BY p.document_id),
text_leg AS MATERIALIZED (
    SELECT document_id, score, row_number() OVER (ORDER BY (score * 1e9)::bigint DESC, document_id) AS rank
    FROM scored ORDER BY rank LIMIT %(depth)s)"""
_NEAR: Final = """near AS MATERIALIZED (
    SELECT c.document_id, c.ordinal, c.start, c.stop, v.embedding <=> %(vector)s::halfvec AS distance
    FROM {vectors} v JOIN {chunks} c ON c.vector_id = v.id <JOIN_CONDITION>
    ORDER BY v.embedding <=> %(vector)s::halfvec LIMIT %(candidates)s)"""
_NEAR_EXACTLY: Final = """measured AS MATERIALIZED (
    SELECT c.document_id, c.ordinal, c.start, c.stop, v.embedding <=> %(vector)s::halfvec AS distance
    FROM {vectors} v JOIN {chunks} c ON c.vector_id = v.id <WHERE_ALLOWED c>),
near AS MATERIALIZED (SELECT * FROM measured)"""
_VECTOR_LEG: Final = """best AS (
    SELECT DISTINCT ON (document_id) document_id, start, stop, distance FROM near
    ORDER BY document_id, distance, ordinal),
vector_leg AS MATERIALIZED (
    SELECT document_id, start, stop, 1 - distance AS score,
           row_number() OVER (ORDER BY distance, document_id) AS rank
    FROM best ORDER BY rank LIMIT %(depth)s)"""
_FUSED: Final[dict[Mode, str]] = {
    Mode.TEXT: """fused AS MATERIALIZED (
    SELECT document_id, score, NULL::bigint AS vector_rank, rank AS text_rank, NULL::int AS start, NULL::int AS stop,
           rank AS place
    FROM text_leg ORDER BY rank LIMIT %(top_k)s)""",
    Mode.VECTOR: """fused AS MATERIALIZED (
    SELECT document_id, score, rank AS vector_rank, NULL::bigint AS text_rank, start, stop, rank AS place
    FROM vector_leg ORDER BY rank LIMIT %(top_k)s)""",
    Mode.HYBRID: """summed AS (
    SELECT document_id, v.rank AS vector_rank, t.rank AS text_rank, v.start, v.stop,
           coalesce(1.0::float8 / (60 + v.rank), 0) + coalesce(1.0::float8 / (60 + t.rank), 0) AS score
    FROM vector_leg v FULL JOIN text_leg t USING (document_id)),
fused AS MATERIALIZED (
    SELECT *, row_number() OVER (ORDER BY score DESC, least(vector_rank, text_rank), document_id) AS place
    FROM summed ORDER BY place LIMIT %(top_k)s)""",
}
# A text hit has no passage of its own: with a vector the nearest one of its document, else the first.
_HITS: Final = """hits AS (
    SELECT f.place, d.document, d.title, d.meta, f.score, f.vector_rank, f.text_rank,
           coalesce(f.start, own.start, 0) AS start,
           f.start IS NULL AND own.start IS NULL AS cut,
           substr(d.content, coalesce(f.start, own.start, 0) + 1,
                  coalesce(f.stop - f.start, own.stop - own.start, <PASSAGE>)) AS passage
    FROM fused f JOIN documents d ON d.id = f.document_id
    LEFT JOIN LATERAL (
        SELECT c.start, c.stop FROM {chunks} c JOIN {vectors} v ON v.id = c.vector_id
        JOIN {indexed} i ON i.document_id = c.document_id AND i.version = d.version
        WHERE c.document_id = d.id AND f.start IS NULL ORDER BY <NEAREST> LIMIT 1) AS own ON true)"""
_REPLY: Final = """SELECT s.documents, s.embedded, s.version, s.chunks, <NEAR_COUNT>, <VECTOR_COUNT>, h.*
FROM size s LEFT JOIN hits h ON true ORDER BY h.place"""
_ALLOWED: Final = "SELECT d.id FROM documents d WHERE d.resource_id = %(resource)s AND "


async def search(connection: Connection, query: Query) -> Found:
    """Runs one search."""
    exactly = query.exact or (query.condition is not None and await _few_pass(connection, query))
    rows = await _run(connection, query, exactly)
    if query.mode is not Mode.TEXT and not exactly and _falls_short(rows[0], query.top_k):
        rows = await _run(connection, query, exactly=True)
    documents, embedded, version = rows[0][:3]
    return Found(tuple(_hit(row[6:]) for row in rows if row[6] is not None), documents, embedded, version)


async def _run(connection: Connection, query: Query, exactly: bool) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement(query, exactly), parameters(query))).fetchall()


def statement(query: Query, exactly: bool) -> str:
    """The statement of a search. `exactly`: compares every passage instead of asking the vector index."""
    condition = query.condition.sql if query.condition is not None else None
    vector, text = query.mode is not Mode.TEXT, query.mode is not Mode.VECTOR
    steps = [_SIZE]
    if condition is not None and exactly:
        steps.append(f"allowed AS MATERIALIZED ({_ALLOWED}<CONDITION>)")
    if text:
        steps.append(_TEXT_LEG)
    if vector:
        steps += [_NEAR_EXACTLY if exactly else _NEAR, _VECTOR_LEG]
    steps += [_FUSED[query.mode], _HITS]
    # The names first: a condition has braces of its own.
    sql = tables.on(query.revision, "WITH " + ",\n".join(steps) + "\n" + _REPLY)
    for mark, replacement in _marks(condition, exactly, vector).items():
        sql = sql.replace(mark, replacement)
    return sql


def parameters(query: Query) -> dict[str, Any]:
    """The parameters of `statement`."""
    depth = max(DEPTH, 2 * query.top_k)
    return {
        "text": query.text,
        "configuration": query.configuration,
        "vector": HalfVector(query.vector).to_text() if query.vector is not None else None,
        "top_k": query.top_k,
        "depth": depth,
        "candidates": depth * _CHUNKS_PER_DOCUMENT,
        "resource": query.resource,
        "revision": query.revision,
        "live": list(tables.LIVE),
        **(query.condition.parameters if query.condition is not None else {}),
    }


def _marks(condition: str | None, exactly: bool, vector: bool) -> dict[str, str]:
    allowed = "SELECT id FROM allowed" if exactly else f"{_ALLOWED}{condition}"
    restrict = "" if condition is None else f"WHERE {{}}.document_id IN ({allowed})"
    join = f"JOIN documents d ON d.id = c.document_id WHERE d.resource_id = %(resource)s AND {condition}"
    return {
        "<CONDITION>": condition or "",
        "<WHERE_ALLOWED p>": restrict.replace("{}", "p", 1),
        "<WHERE_ALLOWED c>": restrict.replace("{}", "c", 1),
        "<JOIN_CONDITION>": "" if condition is None else join,
        "<PASSAGE>": str(PASSAGE),
        # Not the index's own expression: the few chunks of one document are to be sorted.
        "<NEAREST>": "(v.embedding <=> %(vector)s::halfvec) + 0, c.ordinal" if vector else "c.ordinal",
        "<NEAR_COUNT>": "(SELECT count(*) FROM near)" if vector else "0",
        "<VECTOR_COUNT>": "(SELECT count(*) FROM vector_leg)" if vector else "0",
    }


async def _few_pass(connection: Connection, query: Query) -> bool:
    assert query.condition is not None
    probe = await connection.execute(
        f"SELECT count(*) FROM ({_ALLOWED}{query.condition.sql} LIMIT {_FEW + 1}) AS counted",  # noqa: S608
        {"resource": query.resource, **query.condition.parameters},
    )
    count = await probe.fetchone()
    return count is not None and count[0] <= _FEW


def _falls_short(row: tuple[Any, ...], top_k: int) -> bool:
    chunks, near, found = row[3:6]
    return bool(found < top_k and near < chunks)


def _whole_words(text: str) -> str:
    return text.rstrip() if text[-1].isspace() else text.rsplit(maxsplit=1)[0]


def _hit(row: tuple[Any, ...]) -> Hit:
    _, identity, title, meta, score, vector_rank, text_rank, start, cut, passage = row
    if cut and len(passage) == PASSAGE:
        passage = _whole_words(passage)
    return Hit(identity, title, meta, score, passage, start, start + len(passage), vector_rank, text_rank)
