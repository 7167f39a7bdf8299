"""The engine: a queue, workers, and a periodic look at everything.

Shields `reconcile` from events: it is called with a key, never twice at once for one key, again after the seconds that
it returns, and with back-off after an error. What an event means is the source's business; where events come from is
the feed's, which calls `tell`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cortex_operator.cluster import Cluster, Event, EventType
from cortex_operator.engine.backoff import DEFAULT, Backoffs
from cortex_operator.engine.hooks import Hook, Outcome, Pass, log_failures
from cortex_operator.engine.known import Known
from cortex_operator.engine.queue import QueueClosed, WorkQueue

K = TypeVar("K", bound=Hashable)
Reconcile = Callable[[K], Awaitable[float | None]]
"""Reconciles a key; returns after how many seconds to do so again, None: when something happens."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source(Generic[K]):
    """A kind to watch, and the keys that an event of it concerns."""

    api_version: str
    kind: str
    keys: Callable[[Event], Iterable[K]]
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Only objects with these are of interest."""


@dataclass(frozen=True)
class Pace:
    """How hard the engine works. Seconds."""

    workers: int = 4
    resync: float = 600.0
    """Between two looks at everything, for events that were missed."""
    pass_limit: float = 60.0
    """A pass that takes longer is ended and tried again."""
    drain: float = 8.0
    """How long passes that have begun may take once the engine is told to stop."""


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
        self.sources = tuple(sources)
        self._cluster = cluster
        self._known = {source: Known() for source in self.sources}
        self._reconcile = reconcile
        self._pace = pace
        self._backoffs = backoffs
        self._hooks = tuple(hooks)
        self._failures: dict[K, int] = {}
        self._begun: dict[K, float] = {}
        self._ended = time.monotonic()
        self._rng = random.Random()  # noqa: S311 - jitter

    async def run(self, stop: asyncio.Event, feed: Feed[K]) -> None:
        """Works until `stop`; passes that have begun are ended in order. Raises what ends the feed."""
        helpers = [asyncio.create_task(feed(self)), asyncio.create_task(self._resync())]
        workers = [asyncio.create_task(self._work()) for _ in range(self._pace.workers)]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*helpers, *workers, stopping], return_when=asyncio.FIRST_COMPLETED)
            self.queue.close()
            await asyncio.wait(workers, timeout=self._pace.drain)
        finally:
            await _cancel([*helpers, *workers, stopping])
        for task in done - {stopping}:
            task.result()

    def tell(self, source: Source[K], event: Event) -> None:
        """An event of a source's kind: what it concerns is due."""
        self._known[source].note(event)
        for key in source.keys(event):
            self.queue.add(key)

    def stuck(self) -> str:
        """Why the engine does not get on, as a sentence; empty when it does."""
        limit, now = 3 * self._pace.pass_limit, time.monotonic()
        for key, begun in self._begun.items():
            if now - begun > limit:
                return f"a pass over {key} has run for {now - begun:.0f} s and does not let itself be ended"
        if self.queue.oldest > limit and now - self._ended > limit:
            return f"no pass has ended for {now - self._ended:.0f} s; keys that wait: {self.queue.depth}"
        return ""

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._pace.resync * self._rng.uniform(0.9, 1.1))
            for source in self.sources:
                try:
                    await self._look(source)
                except Exception as error:
                    log.warning("could not list %s: %s", source.kind, error)

    async def _look(self, source: Source[K]) -> None:
        known = self._known[source]
        before = known.now()
        objects = await self._cluster.list(source.api_version, source.kind, labels=dict(source.labels))
        for gone in list(known.gone(before, objects)):
            self.tell(source, gone)
        for obj in objects:
            self.tell(source, Event(EventType.MODIFIED, obj))

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
        started = self._begun[key] = time.monotonic()
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
        finally:
            self._ended = time.monotonic()
            del self._begun[key]
        if again is not None:
            self.queue.add_after(key, again)
        outcome = Outcome.DONE if error is None else Outcome.FAILED
        self._report(Pass(key, outcome, waited, time.monotonic() - started, self._failures.get(key, 0), again, error))

    def _report(self, done: Pass) -> None:
        for hook in self._hooks:
            try:
                hook(done)
            except Exception:
                log.exception("a hook of the engine failed")


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


Feed = Callable[[Engine[K]], Coroutine[Any, Any, None]]
"""Tells the engine events until it is cancelled; what it raises ends the engine."""
