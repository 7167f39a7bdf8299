"""Analyses texts into postings: which words a document has, how often, and how many in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cortex_workloads.runtime.lake.pool import Connection
from cortex_workloads.search import tables

# A tsvector holds at most 1 MB and 256 positions of a word: long texts are analysed in pieces and added up.
_PIECE: Final = 8_000

_ADD: Final = """
WITH texts AS (SELECT * FROM unnest(%(rows)s::bigint[], %(versions)s::bigint[]) AS t(document_id, version)),
words AS MATERIALIZED (
    SELECT p.document_id, w.lexeme, sum(cardinality(w.positions))::int AS frequency
    FROM unnest(%(owners)s::bigint[], %(pieces)s::text[]) AS p(document_id, piece),
         unnest(to_tsvector(%(configuration)s::regconfig, p.piece)) AS w
    GROUP BY p.document_id, w.lexeme),
lengths AS MATERIALIZED (
    SELECT t.document_id, t.version, coalesce(sum(w.frequency), 0)::int AS length
    FROM texts t LEFT JOIN words w USING (document_id) GROUP BY t.document_id, t.version),
posted AS (
    INSERT INTO {postings} (lexeme, document_id, frequency, length)
    SELECT w.lexeme, w.document_id, w.frequency, l.length FROM words w JOIN lengths l USING (document_id)
    ORDER BY w.lexeme COLLATE "C", w.document_id),
noted AS (INSERT INTO {indexed} (document_id, version, length) SELECT document_id, version, length FROM lengths)
INSERT INTO {statistics} (documents, posted, length) SELECT %(created)s, count(*), sum(length) FROM lengths
"""


class Text(NamedTuple):
    """A document's row and version, and its text."""

    row: int
    version: int
    title: str
    content: str


async def add(
    connection: Connection, revision_row: int, configuration: str, texts: Sequence[Text], created: int
) -> None:
    """Adds the postings of texts that have none. `created`: how many of the documents the revision did not know."""
    pieces = [(text.row, piece) for text in texts for piece in _pieces(f"{text.title} {text.content}")]
    await connection.execute(
        tables.on(revision_row, _ADD),
        {
            "rows": [text.row for text in texts],
            "versions": [text.version for text in texts],
            "owners": [row for row, _ in pieces],
            "pieces": [piece for _, piece in pieces],
            "configuration": configuration,
            "created": created,
        },
    )


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE:
        # A word is not cut, unless it alone is longer than a piece.
        stop = max(text.rfind(separator, start + 1, start + _PIECE) for separator in " \n\t") + 1
        stop = stop or start + _PIECE
        yield text[start:stop]
        start = stop
    yield text[start:]
