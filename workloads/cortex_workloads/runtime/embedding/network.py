"""A loaded network with its tokenizer: batches of texts to vectors. Shields the embedder from onnxruntime, from tokens,
and from what tells one network from another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cortex_workloads.runtime.embedding.directory import ModelDirectory, Pooling, Use, unusable
from cortex_workloads.runtime.embedding.model import DIMENSIONS, MAX_TOKENS, SPECIAL_TOKENS, ModelFile, digest_of

# Before tokenizers is imported: its own threads would compete with those asked for.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Vectors = NDArray[np.float32]

MOST_DIMENSIONS: Final = 4000
"""Of a vector that pgvector can index with half precision."""
_BATCH: Final = 16
_FEWEST: Final = 8
_INPUTS: Final = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_NEEDED: Final = frozenset({"input_ids", "attention_mask"})


@dataclass(frozen=True)
class Network:
    """A loaded network and tokenizer, and how they are used. `digest`: of the files; `dimensions`: of a vector;
    `special`: tokens that the tokenizer puts around every text; `cased`: whether texts that differ in case have vectors
    that differ."""

    session: Any
    tokenizer: Any
    truncating: Any
    use: Use
    digest: bytes
    dimensions: int
    special: int
    cased: bool
    pad: int = 0

    @property
    def reads(self) -> int:
        """Tokens of a passage that have room, its prefix not counted."""
        prefix = len(self.tokenizer.encode(self.use.passage_prefix, add_special_tokens=False).ids)
        return self.use.max_tokens - self.special - prefix

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), dimensions]."""
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        encodings = [self.truncating.encode(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index].ids))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            vectors[batch] = self.encode_tokens([encodings[index].ids for index in batch])
        return vectors

    def encode_tokens(self, rows: Sequence[Sequence[int]]) -> Vectors:
        """One batch of texts, each as the numbers of its tokens."""
        ids = np.full((len(rows), max(map(len, rows))), self.pad, np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        wanted = {one.name: inputs[one.name] for one in self.session.get_inputs()}
        (hidden,) = self.session.run([self.session.get_outputs()[0].name], wanted)
        pooled = _mean(hidden, mask) if self.use.pooling is Pooling.MEAN else hidden[:, 0]
        return _normalised(pooled) if self.use.normalize else pooled.astype(np.float32)


def load(model: str, found: ModelDirectory, threads: int) -> Network:
    """Loads a model of one's own and tries it with as many tokens as it is said to read. Raises FailedPrecondition
    (`ModelInvalid`)."""
    try:
        return _tried(_loaded(found, threads))
    except Exception as error:
        # onnxruntime and tokenizers have exceptions of their own for whatever a file may hold.
        raise unusable(model, error) from error


def _loaded(found: ModelDirectory, threads: int) -> Network:
    tokenizer, truncating, padding = _tokenizer(found.tokenizer, found.use.max_tokens)
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    session = _session(found.network, threads)
    taken = {one.name for one in session.get_inputs()}
    if unknown := taken - _INPUTS or _NEEDED - taken:
        raise ValueError(
            f"model.onnx takes {', '.join(sorted(taken))}; input_ids and attention_mask are needed, token_type_ids may "
            f"be ({', '.join(sorted(unknown))})"
        )
    digest = digest_of(found.files)
    return Network(session, tokenizer, truncating, found.use, digest, 0, special, cased=True, pad=padding)


def _tried(network: Network) -> Network:
    """With the dimensions that it turns out to have."""
    most = network.use.max_tokens
    if network.reads < _FEWEST:
        raise ValueError(f"maxTokens {most} leaves room for {network.reads} tokens of a passage: {_FEWEST} are needed")
    ids = network.truncating.encode("a " * most).ids
    try:
        vectors = network.encode_tokens([ids, ids[:_FEWEST]])
    except Exception as error:
        raise ValueError(f"it fails on a text of {len(ids)} tokens (is maxTokens right?): {error}") from error
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"its first output gives vectors of shape {list(vectors.shape)}, or not finite ones")
    if vectors.shape[1] > MOST_DIMENSIONS:
        raise ValueError(f"it has {vectors.shape[1]} dimensions; the Lake's index takes {MOST_DIMENSIONS} at most")
    return replace(network, dimensions=vectors.shape[1])


def packaged(network: ModelFile, tokenizer: ModelFile, threads: int) -> Network:
    """The model that every image has. Raises FailedPrecondition (`ModelMissing`, `ModelChanged`)."""
    session = _session(network.find(), threads)
    plain, truncating, padding = _tokenizer(tokenizer.find(), MAX_TOKENS)
    use = Use(max_tokens=MAX_TOKENS)
    digest = digest_of({one.path: one.sha256 for one in (network, tokenizer)})
    return Network(session, plain, truncating, use, digest, DIMENSIONS, SPECIAL_TOKENS, cased=False, pad=padding)


def _mean(hidden: Vectors, mask: NDArray[np.int64]) -> Vectors:
    weights = mask[:, :, None].astype(np.float32)
    mean: Vectors = (hidden * weights).sum(1) / np.maximum(weights.sum(1), np.float32(1))
    return mean


def _normalised(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)


def _session(file: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Spinning threads take the CPU from the other pods of this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # It plans memory for each shape of batch that it meets, and keeps it: here every batch has another shape.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _tokenizer(file: Path, max_tokens: int) -> tuple[Any, Any, int]:
    """As it is, cutting off what is too long, and the number of its padding."""
    from tokenizers import Tokenizer

    both = [Tokenizer.from_file(str(file)) for _ in range(2)]
    padding = (both[0].padding or {}).get("pad_id", 0)
    for tokenizer in both:
        # The file may truncate and pad by itself.
        tokenizer.no_truncation()
        tokenizer.no_padding()
    both[1].enable_truncation(max_tokens)
    return both[0], both[1], padding
