"""When objects were first seen and last changed, told by watches of the benchmark's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from cortex_kube.client import Api
from cortex_kube.listwatch import list_watch
from cortex_kube.resources import path

Child = tuple[str, str]
"""Kind and name."""


class Seen:
    """The objects of some kinds in one namespace that a controller made, by the uid of their owner."""

    def __init__(self) -> None:
        self.first: dict[str, dict[Child, float]] = {}
        self.objects: dict[Child, dict[str, Any]] = {}
        self._news = asyncio.Event()

    @asynccontextmanager
    async def following(self, api: Api, namespace: str, kinds: Iterable[tuple[str, str]]) -> AsyncIterator[Seen]:
        """Watches meanwhile."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    list_watch(api, path(*kind, namespace), on_list=self._list(kind), on_event=self._hear)
                )
                for kind in kinds
            ]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()

    async def until(self, holds: Callable[[], bool], seconds: float = 300.0) -> float:
        """The time at which it holds, as soon as it does. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not holds():
                self._news.clear()
                await self._news.wait()
        return time.monotonic()

    def versions(self) -> dict[Child, str]:
        """What is there, each with its resourceVersion."""
        return {child: obj["metadata"]["resourceVersion"] for child, obj in self.objects.items()}

    def _list(self, kind: tuple[str, str]) -> Callable[[list[dict[str, Any]]], None]:
        def hear(items: list[dict[str, Any]]) -> None:
            for item in items:
                self._hear("ADDED", {**item, "apiVersion": kind[0], "kind": kind[1]})

        return hear

    def _hear(self, event: str, obj: dict[str, Any]) -> None:
        child = (obj["kind"], obj["metadata"]["name"])
        if event == "DELETED":
            self.objects.pop(child, None)
        else:
            self.objects[child] = obj
            for owner in obj["metadata"].get("ownerReferences", ()):
                self.first.setdefault(owner["uid"], {}).setdefault(child, time.monotonic())
        self._news.set()
