"""Work on the Lake that goes on over its outages. Shields Jobs from a PostgreSQL that is away for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.resilience.retries import What, again

LAKE_SECONDS: Final = 60.0
"""How long the Lake may be away before a Job fails."""
_AGAIN_SECONDS: Final = 0.5

T = TypeVar("T")


async def persistently(lake: Lake, work: Callable[[], Awaitable[T]]) -> T:
    """What the work returns; it begins anew after outages that are shorter than a minute, not with another Lake.
    Raises Unavailable, and what the work raises."""
    answered = time.monotonic()
    while True:
        try:
            return await work()
        except Unavailable:
            if lake.reachable:
                answered = time.monotonic()
            if lake.identity.error is not None or time.monotonic() - answered > LAKE_SECONDS:
                raise
        await asyncio.sleep(_AGAIN_SECONDS)
        again(What.LAKE)
