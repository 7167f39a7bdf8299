"""The events of a run under way: to the shared state, which gives them ids, and to whoever follows in this pod."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

from datapunk.cortex.common_pb2 import RunEvent

from cortex_workloads.graph import events
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.progress import ProgressStream, run_key

ENTRIES: Final = 10_000
TTL_SECONDS: Final = 3600.0
"""A run's stream outlives its end so long."""
_RUNNING_TTL_SECONDS: Final = 24 * 3600.0
KEPT_BYTES: Final = 8 * 2**20
"""Of events in memory; who falls behind further reads the shared state."""
_UNSENT: Final = 2_000


class Journal:
    """Of one attempt of a run."""

    def __init__(self, progress: ProgressStream, run_id: str) -> None:
        self._progress = progress
        self._key = run_key(run_id)
        self._unsent: deque[bytes] = deque(maxlen=_UNSENT)
        self._kept: deque[tuple[RunEvent, int]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._closed = False
        self._changed = asyncio.Event()

    async def write(self, event: RunEvent) -> None:
        """Adds an event; its `event_id` stays empty while the shared state does not take it."""
        data = event.SerializeToString()
        self._unsent.append(data)
        event.event_id = await self._send(TTL_SECONDS if events.is_last(event) else _RUNNING_TTL_SECONDS)
        self._keep(event, len(data))

    def close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._wake()

    async def follow(self) -> AsyncGenerator[RunEvent, None]:
        """Every event from the first, until the journal is closed. Raises Unavailable (`StreamLagging`)."""
        position = 0
        while True:
            changed = self._changed
            while position < self._dropped + len(self._kept):
                if position < self._dropped:
                    raise Unavailable(
                        "the events of the run were not read fast enough",
                        remedy="go on with its run id and the id of the last event that came",
                        reason="StreamLagging",
                    )
                yield self._kept[position - self._dropped][0]
                position += 1
            if self._closed and position >= self._dropped + len(self._kept):
                return
            if changed is self._changed:
                await changed.wait()

    async def _send(self, ttl: float) -> str:
        # In order, those first that were not taken before: readers elsewhere must see no gap.
        entry = ""
        while self._unsent:
            entry = await self._progress.append(self._key, {"event": self._unsent[0]}, maxlen=ENTRIES, ttl=ttl)
            if not entry:
                return ""
            self._unsent.popleft()
        return entry

    def _keep(self, event: RunEvent, size: int) -> None:
        self._kept.append((event, size))
        self._bytes += size
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popleft()[1]
            self._dropped += 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
