"""Another revision becomes current: this pod goes over to it when that is told, not when its half second is over."""

from __future__ import annotations

from collections.abc import Callable

from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state import messages
from cortex_workloads.runtime.state.aggregates import tag
from cortex_workloads.runtime.state.copies import INVALIDATE_CHANNEL


async def follow(url: str, resource: Resource, look: Callable[[], None]) -> None:
    """Calls `look` after each; ends by cancellation only. A message that is lost is no harm: who looks does so without,
    too, only later."""
    async for _ in messages.listen(url, INVALIDATE_CHANNEL, tag(resource)):
        look()
