"""The engine: watches, a queue, workers, and a periodic look at everything.

Shields `reconcile` from events: it is called with a key, never twice at once for one key, again after the seconds that
it returns, and with back-off after an error. What an event means is the source's business.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from cortex_operator.cluster import Cluster, Event, EventType
from cortex_operator.engine.backoff import DEFAULT, Backoff, Backoffs
from cortex_operator.engine.hooks import Hook, Outcome, Pass, log_failures
from cortex_operator.engine.queue import QueueClosed, WorkQueue

K = TypeVar("K", bound=Hashable)
Reconcile = Callable[[K], Awaitable[float | None]]
"""Reconciles a key; returns after how many seconds to do so again, None: when something happens."""

log = logging.getLogger(__name__)
_WATCH_AGAIN = Backoff(0.1, 30.0)


@dataclass(frozen=True)
class Source(Generic[K]):
    """A kind to watch, and the keys that an event of it concerns."""

    api_version: str
    kind: str
    keys: Callable[[Event], Iterable[K]]


@dataclass(frozen=True)
class Pace:
    """How hard the engine works. Seconds."""

    workers: int = 4
    resync: float = 600.0
    """Between two looks at everything, for events that were missed."""
    pass_limit: float = 60.0
    """A pass that takes longer is ended and tried again."""


class Engine(Generic[K]):
    """Runs until it is told to stop; `queue` can be added to from outside."""

    def __init__(
        self,
        cluster: Cluster,
        sources: Iterable[Source[K]],
        reconcile: Reconcile[K],
        *,
        pace: Pace = Pace(),
        backoffs: Backoffs = DEFAULT,
        hooks: Iterable[Hook] = (log_failures,),
    ) -> None:
        self.queue: WorkQueue[K] = WorkQueue()
        self._cluster = cluster
        self._sources = tuple(sources)
        self._reconcile = reconcile
        self._pace = pace
        self._backoffs = backoffs
        self._hooks = tuple(hooks)
        self._failures: dict[K, int] = {}
        self._rng = random.Random()  # noqa: S311 - jitter

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`; passes that have begun are ended in order. Raises what no retry can mend."""
        async with asyncio.TaskGroup() as group:
            watchers = [group.create_task(self._watch(source)) for source in self._sources]
            watchers.append(group.create_task(self._resync()))
            for _ in range(self._pace.workers):
                group.create_task(self._work())
            await stop.wait()
            for watcher in watchers:
                watcher.cancel()
            self.queue.close()

    async def _watch(self, source: Source[K]) -> None:
        attempt = 0
        while True:
            try:
                async with aclosing(self._cluster.watch(source.api_version, source.kind)) as events:
                    async for event in events:
                        attempt = 0
                        self._enqueue(source, event)
            except Exception as error:
                log.warning("the watch of %s broke: %s", source.kind, error)
            attempt += 1
            await asyncio.sleep(_WATCH_AGAIN.delay(attempt, self._rng))

    def _enqueue(self, source: Source[K], event: Event) -> None:
        for key in source.keys(event):
            self.queue.add(key)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._pace.resync * self._rng.uniform(0.9, 1.1))
            for source in self._sources:
                try:
                    objects = await self._cluster.list(source.api_version, source.kind)
                except Exception as error:
                    log.warning("could not list %s: %s", source.kind, error)
                    continue
                for obj in objects:
                    self._enqueue(source, Event(EventType.MODIFIED, obj))

    async def _work(self) -> None:
        while True:
            try:
                key, waited = await self.queue.get()
            except QueueClosed:
                return
            try:
                await self._pass(key, waited)
            finally:
                self.queue.done(key)

    async def _pass(self, key: K, waited: float) -> None:
        started = time.monotonic()
        error: Exception | None = None
        again: float | None = None
        try:
            async with asyncio.timeout(self._pace.pass_limit):
                again = await self._reconcile(key)
            self._failures.pop(key, None)
        except Exception as failure:
            error = failure
            self._failures[key] = self._failures.get(key, 0) + 1
            again = self._backoffs.delay(failure, self._failures[key], self._rng)
        if again is not None:
            self.queue.add_after(key, again)
        outcome = Outcome.DONE if error is None else Outcome.FAILED
        self._tell(Pass(key, outcome, waited, time.monotonic() - started, self._failures.get(key, 0), again, error))

    def _tell(self, done: Pass) -> None:
        for hook in self._hooks:
            try:
                hook(done)
            except Exception:
                log.exception("a hook of the engine failed")
