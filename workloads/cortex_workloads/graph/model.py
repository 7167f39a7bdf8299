"""The local embedder, loaded once, off the event loop, by the first who needs it or ahead of them."""

from __future__ import annotations

import asyncio

from cortex_workloads.runtime.embedding.embedder import Embedder
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition


class Model:
    """`threads`: of one embedding."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._loading: asyncio.Task[Embedder] | None = None
        self.error: CortexError | None = None
        """Why the last load failed."""

    def load(self) -> asyncio.Task[Embedder]:
        """Begins to load it, unless it is there; after a failure anew."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.create_task(asyncio.to_thread(Embedder, self._threads), name="load-model")
            self._loading.add_done_callback(self._loaded)
        return self._loading

    async def encoder(self) -> Embedder:
        """The embedder. Raises CortexError."""
        # Shielded: a node whose time runs out must not take the model from the others.
        return await asyncio.shield(self.load())

    async def close(self) -> None:
        """Ends the embedder's thread."""
        if self._loading is not None:
            await asyncio.wait([self._loading])
            if self._loading.exception() is None:
                self._loading.result().close()

    def _loaded(self, task: asyncio.Task[Embedder]) -> None:
        error = task.exception()
        if error is None or isinstance(error, CortexError):
            self.error = error
        else:
            self.error = FailedPrecondition(
                f"the model cannot be loaded: {error}", remedy="see the pod's memory and image", reason="ModelBroken"
            )
