"""The local embedder, loaded by the first who needs it, once, off the event loop."""

from __future__ import annotations

import asyncio

from cortex_workloads.runtime.embedding.embedder import Embedder
from cortex_workloads.runtime.errors import CortexError


class Model:
    """`threads`: of one embedding."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._loading: asyncio.Task[Embedder] | None = None
        self.error: CortexError | None = None
        """Why the last load failed."""

    async def encoder(self) -> Embedder:
        """The embedder. Raises CortexError; the next call tries again."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.create_task(asyncio.to_thread(Embedder, self._threads), name="load-model")
        try:
            # Shielded: a node whose time runs out must not take the model from the others.
            embedder = await asyncio.shield(self._loading)
        except CortexError as error:
            self.error = error
            raise
        self.error = None
        return embedder

    async def close(self) -> None:
        """Ends the embedder's thread."""
        if self._loading is not None:
            await asyncio.wait([self._loading])
            if self._loading.exception() is None:
                self._loading.result().close()
