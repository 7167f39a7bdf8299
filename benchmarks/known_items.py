"""A retrieval task that every machine can make: find a docstring by its own first sentence, which was taken away."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cortex_cli.demo.corpus import python_documents

DOCUMENTS = 2750
QUERIES = 300
_FIRST = re.compile(r"^(.{20,200}?[.!?])\s+(.{80,})$", re.DOTALL)


def write(folder: Path) -> None:
    """Writes the task in BEIR layout; the same Python gives the same task."""
    documents = python_documents(DOCUMENTS)
    asked = [item for document in documents if (item := _ask(document["content"])) is not None]
    step = max(1, len(asked) // QUERIES)
    chosen = {content: question for content, question, _ in asked[::step]}
    with (
        (folder / "corpus.jsonl").open("w") as corpus,
        (folder / "queries.jsonl").open("w") as queries,
        (folder / "qrels.tsv").open("w") as qrels,
    ):
        qrels.write("query-id\tcorpus-id\tscore\n")
        for number, document in enumerate(documents):
            content = document["content"]
            if content in chosen:
                queries.write(json.dumps({"_id": f"q{number}", "text": chosen[content]}) + "\n")
                qrels.write(f"q{number}\t{number}\t1\n")
                content = next(rest for whole, _, rest in asked if whole == content)
            corpus.write(json.dumps({"_id": str(number), "title": "", "text": content}) + "\n")


def _ask(content: str) -> tuple[str, str, str] | None:
    """(content, first sentence, the rest), when both say enough."""
    match = _FIRST.match(content)
    return (content, " ".join(match[1].split()), match[2]) if match else None
