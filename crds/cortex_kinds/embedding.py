"""`spec.embedding` of a CortexIndex: what turns text into vectors. Part of the revision."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from cortex_kinds.base import Model
from cortex_kinds.cel import Rule

PACKAGED_MODEL: Final = "all-MiniLM-L6-v2"
"""The model that every image has."""


class LocalEmbedding(Model):
    """An embedder that runs in the service's own pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.sha256) || self.model != '{PACKAGED_MODEL}'",
            f"sha256 is for a model of your own: the release knows the files of {PACKAGED_MODEL}",
            ".sha256",
        ),
    )

    model: Annotated[
        str, Field(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9]([-._a-zA-Z0-9]*[a-zA-Z0-9])?$")
    ] = PACKAGED_MODEL
    """all-MiniLM-L6-v2 (384 dimensions, 256 tokens), which every image has; or a directory of `spec.storage.models`
    with `model.onnx` and `tokenizer.json`."""
    sha256: Annotated[str, Field(min_length=64, max_length=64, pattern="^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the `model.onnx` that pods must find. Unset: a revision takes the files that it is begun with."""

    @property
    def is_packaged(self) -> bool:
        """Whether every image has the model."""
        return self.model == PACKAGED_MODEL


class Embedding(Model):
    """What turns text into vectors. Part of the revision."""

    type: Literal["Local"] = "Local"
    """Which member is set."""
    local: LocalEmbedding = LocalEmbedding()
    """An embedder that runs in the service's own pods."""
