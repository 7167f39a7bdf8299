"""Which replicas of a resource are there, and how loaded: each says it every two seconds, in Valkey alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from prometheus_client import Counter

from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.state.aggregates import State
from cortex_workloads.runtime.state.volatile import Volatile
from cortex_workloads.runtime.telemetry import REGISTRY

EVERY_SECONDS: Final = 2.0
LIVES_SECONDS: Final = 6.0
"""A replica that said nothing for so long is not there."""
_LOST: Final = Counter(
    "cortex_state_lost_total", "Times that the shared state had lost what this process wrote", registry=REGISTRY
)

_log = logging.getLogger("cortex.state")


class Presence:
    """Of one replica. `load` tells what it does at this moment."""

    def __init__(self, volatile: Volatile, pod: str, load: Callable[[], Mapping[str, Any]]) -> None:
        self._volatile = volatile
        self._aggregate = f"replica/{pod}"
        self._load = load
        self._version = 0

    async def run(self) -> None:
        """Until it is cancelled; then it is gone at once."""
        try:
            while True:
                with suppress(CortexError):
                    await self.announce()
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            with suppress(CortexError):
                await self._volatile.remove(self._aggregate)

    async def announce(self) -> None:
        """Once. Raises Unavailable."""
        version = await self._volatile.write(
            self._aggregate, "ReplicaSeen", {"pod": self._aggregate[8:], **self._load()}, seconds=LIVES_SECONDS
        )
        if version <= self._version:
            _LOST.inc()
            _log.warning("the shared state had lost what this pod wrote; it is written again")
        self._version = version


async def replicas(volatile: Volatile) -> list[State]:
    """Those that are there, by name. Raises Unavailable."""
    names = await volatile.roster("replica")
    found = await asyncio.gather(*map(volatile.read, sorted(names)))
    return [state for state in found if state is not None]
