"""What is known for a short while of the Services that the addresses in Secrets name, which are mostly somebody else's
and not watched."""

from __future__ import annotations

import time
from collections.abc import Callable

from cortex_operator.cluster import Cluster, Forbidden, NotFound, ObjectKey
from cortex_operator.manifests.reach import Backend


class Services:
    """Services of any namespace, as they were at most `seconds` ago; at most `most`. One that is not there is looked
    for each time: it may come at any moment."""

    def __init__(self, seconds: float = 60.0, most: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._known: dict[ObjectKey, tuple[float, Backend]] = {}

    async def look(self, cluster: Cluster, namespace: str, name: str) -> Backend:
        """What it is. Raises Unavailable."""
        key = ObjectKey("v1", "Service", namespace, name)
        until, known = self._known.get(key, (0.0, Backend()))
        if self._clock() < until:
            return known
        self._known.pop(key, None)
        found = await _read(cluster, key)
        if found.service is not None or not found.readable:
            if len(self._known) >= self._most:
                self._known.pop(next(iter(self._known)))
            self._known[key] = (self._clock() + self._seconds, found)
        return found


async def _read(cluster: Cluster, key: ObjectKey) -> Backend:
    try:
        found = await cluster.get(key, unwatched=True)
    except NotFound:
        return Backend()
    except Forbidden:
        return Backend(readable=False)
    return Backend({"metadata": {"namespace": key.namespace}, "spec": found["spec"]})
