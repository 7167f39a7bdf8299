"""Data sets in BEIR layout: corpus.jsonl, queries.jsonl and qrels, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

Judgements = dict[str, dict[str, int]]
"""Query id -> document id -> grade; only grades above 0 are relevant."""


class BeirError(ValueError):
    """The folder is not a data set in BEIR layout; the message names file, line and reason."""


@dataclass(frozen=True)
class DataSet:
    """A data set; documents are read when they are needed."""

    folder: Path
    queries: dict[str, str]
    judgements: Judgements

    def documents(self) -> Iterator[dict[str, Any]]:
        """{id, title, content}, in the file's order; those without any text are left out: nothing finds them."""
        for line in _json_lines(_find(self.folder, "corpus.jsonl")):
            title, content = line.get("title") or "", line.get("text") or ""
            if title.strip() or content.strip():
                yield {"id": str(line["_id"]), "title": title, "content": content}


def load(folder: Path) -> DataSet:
    """Loads a data set; the queries are those with at least one relevant document. Raises BeirError."""
    judgements = _judgements(_find(folder, "qrels.tsv", "qrels/test.tsv"))
    texts = {str(line["_id"]): str(line["text"]) for line in _json_lines(_find(folder, "queries.jsonl"))}
    _find(folder, "corpus.jsonl")
    missing = sorted(set(judgements) - set(texts))
    if missing:
        raise BeirError(f"{folder}: the judgements name queries that queries.jsonl lacks: {', '.join(missing[:5])}")
    return DataSet(folder, {query: texts[query] for query in judgements}, judgements)


def _judgements(file: Path) -> Judgements:
    judgements: Judgements = {}
    with _open(file) as lines:
        for number, row in enumerate(csv.reader(lines, delimiter="\t"), 1):
            if number == 1 and row[:1] == ["query-id"]:
                continue
            try:
                query, document, grade = row[0], row[1], int(row[2])
            except (IndexError, ValueError) as error:
                raise BeirError(
                    f"{file}:{number}: wanted query-id, corpus-id and score by tabs, found {row}"
                ) from error
            if grade > 0:
                judgements.setdefault(query, {})[document] = grade
    return judgements


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                return file
    raise BeirError(f"{folder} has no {' or '.join(names)} (plain or .gz): it is not a data set in BEIR layout")


def _json_lines(file: Path) -> Iterator[dict[str, Any]]:
    with _open(file) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise BeirError(f"{file}:{number}: not JSON: {error}") from error


def _open(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return cast("IO[str]", gzip.open(file, "rt", encoding="utf-8"))
    return file.open(encoding="utf-8")
