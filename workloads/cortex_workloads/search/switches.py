"""Another revision becomes current: this pod goes over to it when that is told, not when its half second is over."""

from __future__ import annotations

from cortex_workloads.runtime.state import messages
from cortex_workloads.runtime.state.aggregates import tag
from cortex_workloads.runtime.state.copies import INVALIDATE_CHANNEL
from cortex_workloads.search.store import LakeDocumentStore


async def follow(url: str, store: LakeDocumentStore) -> None:
    """Ends by cancellation only. A message that is lost is no harm: the store looks by itself, too."""
    async for _ in messages.listen(url, INVALIDATE_CHANNEL, tag(store.resource)):
        store.forget()
