"""Questions to pods beside the passes: a pass waits a moment for the answer, and is made again when it comes later.

Shields the engine's workers, of which there are few, from pods that do not answer, of which there may be very many: all
those of a cluster whose network has failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cortex_kinds.common import RevisionStatus

from cortex_operator.dataplane import DataPlane, DataPlaneUnreachable, Description, ResourceKey, StillAsking

MOMENT: Final = 0.25
"""Seconds that a pass waits for an answer; most come in some milliseconds."""
OLD: Final = 30.0
"""Seconds after which an answer that nobody took is asked for anew."""


class Questions:
    """A `DataPlane` that does not keep who asks waiting: where `behind` takes longer than a moment `describe` raises
    StillAsking, and `wake` is called when it has an answer, or why there is none, for who asks again."""

    def __init__(self, behind: DataPlane, wake: Callable[[ResourceKey], None]) -> None:
        self._behind = behind
        self._wake = wake
        self._going: dict[ResourceKey, _Question] = {}
        self._slow: set[ResourceKey] = set()
        """Whose last question took longer than a moment: the next one is not waited for at all."""

    async def describe(self, key: ResourceKey) -> Description:
        """Raises DataPlaneUnreachable, StillAsking."""
        question = self._going.get(key)
        if question is None or question.is_old():
            question = self._going[key] = _Question(self._behind.describe(key))
            if key not in self._slow:
                await asyncio.wait((question.task,), timeout=MOMENT)
        if not question.task.done():
            question.then = lambda: self._wake(key)
            raise StillAsking(f"the pods of {key.kind} {key.namespace}/{key.name} have not answered yet")
        del self._going[key]
        (self._slow.add if question.took > MOMENT else self._slow.discard)(key)
        return question.answer()

    async def ensure_revision(
        self, key: ResourceKey, revision: str, definition: dict[str, Any], retain: int
    ) -> RevisionStatus:
        """As `behind` does it."""
        return await self._behind.ensure_revision(key, revision, definition, retain)

    async def forget(self, key: ResourceKey) -> None:
        """As `behind` does it; what is being asked is not asked any more."""
        self._slow.discard(key)
        if (question := self._going.pop(key, None)) is not None:
            await question.end()
        await self._behind.forget(key)


class _Question:
    def __init__(self, asked: Coroutine[Any, Any, Description]) -> None:
        self.then: Callable[[], object] = lambda: None
        self.took = 0.0
        self._began = time.monotonic()
        self.task = asyncio.create_task(asked, name="ask-pods")
        self.task.add_done_callback(self._ended)

    def is_old(self) -> bool:
        """Whether it was answered so long ago that what was said may not be so any more."""
        return self.task.done() and time.monotonic() - self._began - self.took > OLD

    def answer(self) -> Description:
        """What was said. Raises DataPlaneUnreachable."""
        if self.task.cancelled():
            raise DataPlaneUnreachable("the question to its pods was given up")
        return self.task.result()

    async def end(self) -> None:
        """Gives it up."""
        self.then = lambda: None
        self.task.cancel()
        await asyncio.wait((self.task,))

    def _ended(self, task: asyncio.Task[Description]) -> None:
        self.took = time.monotonic() - self._began
        if not task.cancelled():
            task.exception()  # asked for here, as who asks again may have gone
        self.then()
