"""Ends tasks for certain: in the middle of a statement a cancellation may get lost to the statement's error."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.5


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancels the tasks, again and again, until they are done; what they raise is left in them."""
    while left := [task for task in tasks if task is not None and not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_AGAIN_SECONDS)
