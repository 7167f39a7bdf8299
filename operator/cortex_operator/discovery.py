"""What the cluster serves of the kinds that it may lack, as the operator found it at its start; and whether that is
still so.

Shields the watches and the reconcilers from a set that changes: for one process it does not. When a definition comes or
goes the process ends in good order, and the next one begins with what there is then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from cortex_operator.cluster import Cluster, Forbidden, Invalid, Unavailable
from cortex_operator.manifests.optional import OPTIONAL, Kind

log = logging.getLogger(__name__)

_AGAIN: Final = 2.0
_TRIES: Final = 4
_ENDS: Final = "the cluster %s: the operator ends, to begin anew with that"


class Discovery:
    """Asks `cluster` once, then every `period` seconds."""

    def __init__(self, cluster: Cluster, period: float) -> None:
        self._cluster, self._period = cluster, period
        self.served: frozenset[Kind] = frozenset()

    async def begin(self) -> None:
        """Returns when `served` is known; an API server that does not answer is waited for."""
        found = await self._ask()
        while found is None:
            await asyncio.sleep(_AGAIN)
            found = await self._ask()
        self.served = found
        log.info("of the optional kinds the cluster serves: %s", _names(found) or "none")

    async def follow(self, stop: asyncio.Event) -> None:
        """Sets `stop` when something else is served than at the start, and still so a moment later: of several API
        servers one hears of it first."""
        while True:
            await asyncio.sleep(self._period)
            if await self._change():
                await asyncio.sleep(_AGAIN)
                if change := await self._change():
                    log.info(_ENDS, change)
                    return stop.set()

    async def explains(self) -> bool:
        """Whether a watch that was just lost was of what is no longer served."""
        for _ in range(_TRIES):
            if change := await self._change():
                log.info(_ENDS, change)
                return True
            await asyncio.sleep(_AGAIN / _TRIES)
        return False

    async def _change(self) -> str:
        """What is served otherwise than at the start, in words; empty also when nobody answers."""
        found = await self._ask()
        if found is None:
            return ""
        come, gone = _names(found - self.served), _names(self.served - found)
        words = [f"serves {come} now"] if come else []
        return " and ".join([*words, f"no longer serves {gone}"] if gone else words)

    async def _ask(self) -> frozenset[Kind] | None:
        try:
            return await self._cluster.served(OPTIONAL)
        except (Forbidden, Invalid, Unavailable) as error:
            log.warning("cannot tell what the cluster serves: %s", error)
            return None


def _names(kinds: Iterable[Kind]) -> str:
    return ", ".join(f"{kind} ({version})" for version, kind in sorted(kinds))
