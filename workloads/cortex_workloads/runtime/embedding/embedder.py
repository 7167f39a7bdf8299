"""Turns texts into vectors on this machine's CPU. Shields its users from threads and from which model it is."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from cortex_workloads.runtime.embedding.model import NETWORK, TOKENIZER, ModelFile
from cortex_workloads.runtime.embedding.network import Network, Vectors, packaged

__all__ = ["Embedder", "Vectors"]

T = TypeVar("T")


class Embedder:
    """A model with a thread of its own; making one without `loaded` loads the packaged model with `threads` threads
    (tens of milliseconds).

    `niceness` (0-19) lowers the priority of the threads that `aencode` computes on, below others of this process;
    give it only with one thread. Raises FailedPrecondition (`ModelMissing`, `ModelChanged`).
    """

    def __init__(
        self,
        threads: int = 1,
        *,
        niceness: int = 0,
        network: ModelFile = NETWORK,
        tokenizer: ModelFile = TOKENIZER,
        loaded: Network | None = None,
    ) -> None:
        self._network = loaded or packaged(network, tokenizer, threads)
        self._executor = ThreadPoolExecutor(1, "embed", initializer=_lower_priority, initargs=(niceness,))

    @property
    def digest(self) -> bytes:
        """32 bytes that tell the model from every other; equal digests, equal vectors."""
        return self._network.digest

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._network.dimensions

    @property
    def reads(self) -> int:
        """Tokens of a passage that the model reads."""
        return self._network.reads

    @property
    def cased(self) -> bool:
        """Whether texts that differ in case have vectors that differ."""
        return self._network.cased

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Float32 [len(texts), dimensions] of passages. What is longer than the model reads is cut."""
        prefix = self._network.use.passage_prefix
        return self._network.encode([prefix + text for text in texts] if prefix else texts)

    def encode_query(self, text: str) -> Vectors:
        """Float32 [dimensions] of a query."""
        vector: Vectors = self._network.encode([self._network.use.query_prefix + text])[0]
        return vector

    async def aencode(self, texts: Sequence[str]) -> Vectors:
        """`encode` on a thread of the embedder's own; calls queue."""
        return await self.run(self.encode, texts)

    async def aencode_query(self, text: str) -> Vectors:
        """`encode_query` on a thread of the embedder's own; calls queue."""
        return await self.run(self.encode_query, text)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Does other work on the embedder's thread, with its priority."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where the text's tokens are: [start, stop) in code points, in order, without the special ones."""
        spans: list[tuple[int, int]] = self._network.tokenizer.encode(text, add_special_tokens=False).offsets
        return spans

    def close(self) -> None:
        """Ends the embedder's thread; what it computes is finished first."""
        self._executor.shutdown(cancel_futures=True)


def _lower_priority(niceness: int) -> None:
    # Linux counts threads as processes here; where that is not so, the thread keeps its priority.
    if niceness:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
