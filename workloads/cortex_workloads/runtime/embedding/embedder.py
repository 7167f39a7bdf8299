"""Turns texts into vectors on this machine's CPU. Shields its users from tokens, batches and threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from cortex_workloads.runtime.embedding.model import DIMENSIONS, MAX_TOKENS, NETWORK, TOKENIZER, ModelFile

# Before tokenizers is imported: its own threads would compete with those asked for.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Vectors = NDArray[np.float32]
T = TypeVar("T")

_BATCH: Final = 16


class Embedder:
    """One session of the model with `threads` threads; making it loads the model (tens of milliseconds).

    `niceness` (0-19) lowers the priority of the threads that `aencode` computes on, below others of this process;
    give it only with one thread. Raises FailedPrecondition (`ModelMissing`, `ModelChanged`).
    """

    def __init__(
        self, threads: int = 1, *, niceness: int = 0, network: ModelFile = NETWORK, tokenizer: ModelFile = TOKENIZER
    ) -> None:
        self._session = _session(network, threads)
        self._tokenizer = _tokenizer(tokenizer)
        self._truncating = _tokenizer(tokenizer)
        self._truncating.enable_truncation(MAX_TOKENS)
        self._executor = ThreadPoolExecutor(1, "embed", initializer=_lower_priority, initargs=(niceness,))

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), 384], each of length 1 (L2). Reads the first 256 tokens of a text."""
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        encodings = [self._truncating.encode(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index].ids))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            vectors[batch] = self._encode_batch([encodings[index].ids for index in batch])
        return vectors

    async def aencode(self, texts: Sequence[str]) -> Vectors:
        """`encode` on a thread of the embedder's own; calls queue."""
        return await self.run(self.encode, texts)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Does other work on the embedder's thread, with its priority."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where the text's tokens are: [start, stop) in code points, in order, without the special ones."""
        spans: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return spans

    def close(self) -> None:
        """Ends the embedder's thread; what it computes is finished first."""
        self._executor.shutdown(cancel_futures=True)

    def _encode_batch(self, rows: Sequence[Sequence[int]]) -> Vectors:
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run(["last_hidden_state"], inputs)
        return _normalised(_mean(hidden, mask))


def _mean(hidden: Vectors, mask: NDArray[np.int64]) -> Vectors:
    weights = mask[:, :, None].astype(np.float32)
    mean: Vectors = (hidden * weights).sum(1) / weights.sum(1)
    return mean


def _normalised(vectors: Vectors) -> Vectors:
    lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)


def _session(network: ModelFile, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Spinning threads take the CPU from the other pods of this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # It plans memory for each shape of batch that it meets, and keeps it: here every batch has another shape.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(network.find(), options, providers=["CPUExecutionProvider"])


def _tokenizer(file: ModelFile) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file.find()))
    # The file truncates and pads to 128 by itself.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _lower_priority(niceness: int) -> None:
    # Linux counts threads as processes here; where that is not so, the thread keeps its priority.
    if niceness:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
