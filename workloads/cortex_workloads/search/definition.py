"""What an index revision is built from, read from its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cortex_kinds.embedding import Embedding, LocalEmbedding
from cortex_kinds.index import Chunking, Language
from pydantic import BaseModel, ConfigDict, ValidationError

from cortex_workloads.runtime.errors import InvalidInput


class _Definition(BaseModel):
    model_config = ConfigDict(extra="forbid")

    chunking: Chunking
    embedding: Embedding
    language: Language


@dataclass(frozen=True)
class Definition:
    """How documents are split, what embeds them, and which PostgreSQL text search configuration analyses them."""

    chunking: Chunking
    model: LocalEmbedding
    configuration: str


def read(definition: Mapping[str, Any]) -> Definition:
    """Reads `cortex_kinds.revision.index_definition`. Raises InvalidInput for what this build cannot build."""
    try:
        parsed = _Definition.model_validate(definition)
    except ValidationError as error:
        wrong = [(".".join(map(str, line["loc"])) or "definition", line["msg"]) for line in error.errors()]
        raise InvalidInput(
            "the revision's definition is not one that this release can build: "
            + "; ".join(f"{field}: {message}" for field, message in wrong),
            remedy="run the release of the operator that made it",
            violations=[(f"ensure_revision.definition.{field}", message) for field, message in wrong],
        ) from error
    return Definition(parsed.chunking, parsed.embedding.local, parsed.language.value.lower())
