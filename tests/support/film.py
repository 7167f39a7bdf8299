"""Every state that the API server stored of some kinds in a namespace: none between two others is missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cortex_kube.client import Api
from cortex_kube.resources import path
from cortex_operator.cluster import Object
from doubles import cancelled


def version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])


class Film:
    """`frames` of each kind, oldest first; the last one of an object that was deleted is what it was then."""

    def __init__(self) -> None:
        self.frames: dict[str, list[Object]] = {}
        self._gone: set[tuple[str, str]] = set()
        self._more = asyncio.Condition()

    @asynccontextmanager
    async def of(self, api: Api, namespace: str, *kinds: tuple[str, str]) -> AsyncIterator[Film]:
        """Shoots from now on; `kinds` as in manifests."""
        shots = []
        for api_version, kind in kinds:
            where = path(api_version, kind, namespace)
            listed, since = await api.list(where)
            self.frames[kind] = listed
            shots.append(asyncio.create_task(self._shoot(api, where, kind, since)))
        try:
            yield self
        finally:
            for shot in shots:
                await cancelled(shot)

    async def until_gone(self, kind: str, name: str) -> None:
        """Returns when all is there that was stored of an object, to its end."""
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: (kind, name) in self._gone)

    async def until_at(self, kind: str, resource_version: int) -> None:
        """Returns when all is there that was stored of a kind up to that version, which is one of its objects'."""
        async with asyncio.timeout(60), self._more:
            await self._more.wait_for(lambda: any(version(f) >= resource_version for f in self.frames[kind]))

    def at(self, kind: str, name: str, resource_version: int) -> Object | None:
        """An object as it was at that moment of the API server."""
        past = (f for f in self.frames[kind] if f["metadata"]["name"] == name and version(f) <= resource_version)
        return max(past, key=version, default=None)

    async def _shoot(self, api: Api, where: str, kind: str, since: str) -> None:
        async for event in api.watch(where, resource_version=since):
            if event["type"] != "BOOKMARK":
                ended = self._gone.add if event["type"] == "DELETED" else self._gone.discard
                async with self._more:
                    ended((kind, event["object"]["metadata"]["name"]))
                    self.frames[kind].append(event["object"])
                    self._more.notify_all()
