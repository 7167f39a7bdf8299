"""The namespaces that are to be watched: in which of them the operator works, and whether that is still so.

Shields namespaces from each other: one that is deleted takes the operator's rights in it along, as the chart's roles
are in it, and the others are served all the same. For one process the set does not change: when rights come or go it
ends in good order, and the next one begins with what there is then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from cortex_kube.client import Api, ApiError, NotFound
from cortex_kube.resources import path

from cortex_operator import preflight

log = logging.getLogger(__name__)

_AGAIN: Final = 2.0
_TRIES: Final = 2


class Watched:
    """`wanted`: all of them, none: every namespace there is. `reload`: as for `preflight.prepare`. Looks every `period`
    seconds for rights that have come."""

    def __init__(self, api: Api, wanted: Sequence[str], reload: bool, period: float) -> None:
        self._api, self._reload, self._period = api, reload, period
        self._wanted = tuple(wanted)
        self.served = self._wanted
        """Where the operator works; none: everywhere."""

    async def begin(self, lease: tuple[str, str], waiting: Callable[[str], None]) -> None:
        """Returns when `served` is known and the operator can work there. Raises MissingRights."""
        self.served = await preflight.prepare(self._api, self._wanted, lease, waiting, self._reload)
        await warn_of_absent(self._api, self.served)

    async def follow(self, stop: asyncio.Event) -> None:
        """Sets `stop` when the operator may work in more of them than at the start, and still so a moment later."""
        others = [namespace for namespace in self._wanted if namespace not in self.served]
        while others:
            await asyncio.sleep(self._period)
            if await self._allowed(others):
                await asyncio.sleep(_AGAIN)
                if come := await self._allowed(others):
                    log.info("the operator may work in %s now: it ends, to begin anew with that", ", ".join(come))
                    return stop.set()

    async def explains(self) -> bool:
        """Whether a watch that was just lost was in a namespace where rights have gone, while others are left."""
        for _ in range(_TRIES if len(self.served) > 1 else 0):
            allowed = await self._allowed(self.served)
            gone = [namespace for namespace in self.served if namespace not in allowed]
            if gone and allowed:
                log.info("the operator's rights in %s have gone: it ends, to begin anew without", ", ".join(gone))
                return True
            await asyncio.sleep(_AGAIN / _TRIES)
        return False

    async def _allowed(self, namespaces: Sequence[str]) -> list[str]:
        """Those in which the operator may work; none when nobody answers."""
        try:
            return [each for each in namespaces if await preflight.may_work(self._api, each, self._reload)]
        except ApiError as error:
            log.warning("cannot tell where the operator may work: %s", error)
            return []


async def warn_of_absent(api: Api, namespaces: Sequence[str]) -> None:
    """One line of the log for all that are not there, a watch of which is open and empty. An API server that does not
    answer is not waited for."""
    there = await asyncio.gather(*(_may_exist(api, namespace) for namespace in namespaces))
    if absent := [namespace for namespace, found in zip(namespaces, there, strict=True) if not found]:
        log.warning(
            "CORTEX_WATCH_NAMESPACES (value watchNamespaces of the chart) names %s, which %s not exist: nothing is "
            "served there; create %s (kubectl create namespace %s), or correct the value",
            ", ".join(absent),
            "does" if len(absent) == 1 else "do",
            "it" if len(absent) == 1 else "them",
            absent[0],
        )


async def _may_exist(api: Api, namespace: str) -> bool:
    try:
        await api.request("GET", path("v1", "Namespace", None, namespace))
    except NotFound:
        return False
    except ApiError:
        return True
    return True
