"""One watcher of the in-memory store: what changed since it looked last.

Shields the store from slow watchers. A watcher has no queue of events but the set of keys that changed and the objects
it has seen, so it takes no more memory than the objects do, however slow it is; it may miss a state in between, never
the last one (an API server relists a slow watcher to the same effect).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from cortex_operator.cluster.port import Event, EventType, Object, ObjectKey

Lookup = Callable[[ObjectKey], Object | None]


class Watcher:
    """Turns changed keys into events. `lookup` gives the object that is stored now, which nobody changes in place."""

    def __init__(self, api_version: str, kind: str, namespace: str | None, lookup: Lookup) -> None:
        self._about = (api_version, kind)
        self._namespace = namespace
        self._lookup = lookup
        self._seen: dict[ObjectKey, Object] = {}
        self._changed: dict[ObjectKey, None] = {}
        self._wake = asyncio.Event()

    def tell(self, key: ObjectKey) -> None:
        """Says that the object changed, came or went."""
        if (key.api_version, key.kind) == self._about and self._namespace in (None, key.namespace):
            self._changed[key] = None
            self._wake.set()

    async def events(self) -> list[Event]:
        """Waits for the next change; one event, or two for an object that was replaced."""
        while True:
            while self._changed:
                key = next(iter(self._changed))
                del self._changed[key]
                if events := list(self._events_of(key)):
                    return events
            self._wake.clear()
            await self._wake.wait()

    def _events_of(self, key: ObjectKey) -> Iterator[Event]:
        before, now = self._seen.pop(key, None), self._lookup(key)
        replaced = before is not None and now is not None and before["metadata"]["uid"] != now["metadata"]["uid"]
        if before is not None and (now is None or replaced):
            yield Event(EventType.DELETED, before)
        if now is None:
            return
        self._seen[key] = now
        if before is None or replaced:
            yield Event(EventType.ADDED, now)
        elif before is not now:
            yield Event(EventType.MODIFIED, now)
