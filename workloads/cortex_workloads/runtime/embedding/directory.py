"""A model of one's own: a directory with `model.onnx`, `tokenizer.json` and perhaps `cortex.json`.

Shields the embedder from what people put there: whatever is wrong is one FailedPrecondition that names the file, the
reason and the remedy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from cortex_kinds.embedding import LocalEmbedding
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from cortex_workloads.runtime.errors import FailedPrecondition

NETWORK: Final = "model.onnx"
TOKENIZER: Final = "tokenizer.json"
USE: Final = "cortex.json"
MOST_USE_BYTES: Final = 64 * 2**10


class Pooling(StrEnum):
    """How the vectors of a text's tokens become one."""

    MEAN = "Mean"
    CLS = "CLS"


class Use(BaseModel):
    """`cortex.json`: how the network wants to be used. Without the file it is used as the defaults say."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    max_tokens: Annotated[int, Field(ge=16, le=8192, strict=True)] = 512
    """The longest text that the network reads, the tokenizer's own tokens included."""
    pooling: Pooling = Pooling.MEAN
    """How the vectors of a text's tokens become one."""
    normalize: bool = True
    """Whether vectors are made to have length 1."""
    query_prefix: Annotated[str, Field(max_length=512)] = ""
    """Stands before every query."""
    passage_prefix: Annotated[str, Field(max_length=512)] = ""
    """Stands before every passage."""


@dataclass(frozen=True)
class ModelDirectory:
    """A model's files. `files`: name -> SHA-256 of each that its vectors depend on."""

    path: Path
    use: Use
    files: Mapping[str, str]

    @property
    def network(self) -> Path:
        """The network, in ONNX."""
        return self.path / NETWORK

    @property
    def tokenizer(self) -> Path:
        """The tokenizer, as the library `tokenizers` writes it."""
        return self.path / TOKENIZER


def find_model(local: LocalEmbedding, directory: Path | None) -> ModelDirectory:
    """The files of a model, read once from end to end for their digests. Raises FailedPrecondition (`ModelMissing`,
    `ModelInvalid`, `ModelChanged`)."""
    if directory is None:
        raise FailedPrecondition(
            f"the model {local.model} is in a volume, and this pod has none with models",
            remedy=f"name the claim in spec.storage.models, and keep it there while revisions need {local.model}",
            reason="ModelMissing",
        )
    path = directory / local.model
    missing = [name for name in (NETWORK, TOKENIZER) if not (path / name).is_file()]
    if missing:
        raise FailedPrecondition(
            f"the model {local.model} has no {' and no '.join(missing)} in the volume of spec.storage.models",
            remedy=f"put {'them' if len(missing) > 1 else 'it'} into the directory {local.model} of the volume",
            reason="ModelMissing",
        )
    try:
        return _checked(local, ModelDirectory(path, _use(local.model, path / USE), _digests(path)))
    except OSError as error:
        raise FailedPrecondition(
            f"the model {local.model} cannot be read: {error.strerror or error}: {error.filename}",
            remedy="let the user 65532 read it (chmod -R a+rX)",
            reason="ModelInvalid",
        ) from error


def unusable(model: str, why: object) -> FailedPrecondition:
    """What is said of a model whose files do not do what they should."""
    return FailedPrecondition(
        f"the model {model} cannot be used: {' '.join(str(why).split())[:400]}",
        remedy="see docs/indexes.md, Your own embedding model, for what its files must be",
        reason="ModelInvalid",
    )


def _checked(local: LocalEmbedding, found: ModelDirectory) -> ModelDirectory:
    digest = found.files[NETWORK]
    if local.sha256 is not None and digest != local.sha256:
        raise FailedPrecondition(
            f"the {NETWORK} of the model {local.model} has SHA-256 {digest}, not {local.sha256}",
            remedy="put that file into the volume, or say the digest of this one in spec.embedding.local.sha256",
            reason="ModelChanged",
        )
    return found


def _digests(path: Path) -> dict[str, str]:
    # Weights of large networks stand beside them: model.onnx_data, model.onnx.data.
    names = (
        {file.name for file in path.glob(f"{NETWORK}*")} | {TOKENIZER} | ({USE} if (path / USE).is_file() else set())
    )
    digests = {}
    for name in sorted(names):
        with (path / name).open("rb") as content:
            digests[name] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests


def _use(model: str, file: Path) -> Use:
    if not file.is_file():
        return Use()
    if file.stat().st_size > MOST_USE_BYTES:
        raise unusable(model, f"{USE} is over {MOST_USE_BYTES // 2**10} KiB")
    try:
        return Use.model_validate_json(file.read_bytes())
    except ValidationError as error:
        said = (f"{'.'.join(map(str, line['loc'])) or 'the file'}: {line['msg']}" for line in error.errors())
        raise unusable(model, f"{USE}: {'; '.join(said)}") from error
