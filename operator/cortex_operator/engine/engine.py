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
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from cortex_operator.cluster import Cache, Cluster, Event, EventType, Object, ObjectKey, Selection
from cortex_operator.engine.backoff import DEFAULT, Backoffs
from cortex_operator.engine.hooks import FailureLog, Hook, Outcome, Pass
from cortex_operator.engine.looks import Looks
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
    listed_by: str = ""
    """The label by which lists of it are asked for."""
    kept: bool = True
    """Whether the cache keeps the objects; of others an event tells who is concerned, and nobody looks for more."""
    echo: Callable[[Event], Iterable[K]] = lambda _: ()
    """The keys that an object concerns which is known as it is: an own write that comes back, or one listed again."""


@dataclass(frozen=True)
class Pace:
    """How hard the engine works. Seconds."""

    workers: int = 4
    resync: float = 600.0
    """Between two looks at everything, for events that were missed."""
    settle: float = 2.0
    """Without news of a gap in the events after which everything is looked at for what was missed in it."""
    pass_limit: float = 60.0
    """A pass that takes longer is ended and tried again."""
    drain: float = 8.0
    """How long passes that have begun may take once the engine is told to stop."""


class Engine(Generic[K]):
    """Runs until it is told to stop; `queue` can be added to from outside. `cache` is told of all events before the
    keys that they concern are due. Passes begin when everything was looked at once (`filled`): sooner, each would
    ask the API server for what the looks bring anyway."""

    def __init__(
        self,
        cluster: Cluster,
        sources: Iterable[Source[K]],
        reconcile: Reconcile[K],
        *,
        pace: Pace = Pace(),
        backoffs: Backoffs = DEFAULT,
        hooks: Iterable[Hook] | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.queue: WorkQueue[K] = WorkQueue()
        self.filled = asyncio.Event()
        self.sources = tuple(sources)
        self._cluster = cluster
        kept = [source for source in self.sources if source.kept]
        self._cache = cache or Cache({(source.api_version, source.kind): Selection() for source in kept})
        self._looks = {source: self._look_of(source, pace) for source in kept}
        self._reconcile = reconcile
        self._pace = pace
        self._backoffs = backoffs
        self._hooks = (FailureLog(),) if hooks is None else tuple(hooks)
        self._failures: dict[K, int] = {}
        self._begun: dict[K, float] = {}
        self._ended = time.monotonic()
        self._untold: set[ObjectKey] = set()
        self._rng = random.Random()  # noqa: S311 - jitter

    async def run(self, stop: asyncio.Event, feed: Feed[K]) -> None:
        """Works until `stop`; passes that have begun are ended in order. Raises what ends the feed."""
        looks = [asyncio.create_task(looks.run()) for looks in self._looks.values()]
        helpers = [asyncio.create_task(feed(self)), *looks]
        filling = asyncio.create_task(self._fill())
        workers = [asyncio.create_task(self._work()) for _ in range(self._pace.workers)]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*helpers, *workers, stopping], return_when=asyncio.FIRST_COMPLETED)
            self.queue.close()
            self.filled.set()
            await asyncio.wait(workers, timeout=self._pace.drain)
        finally:
            await _cancel([*helpers, *workers, filling, stopping])
        for task in done - {stopping}:
            task.result()

    def tell(self, source: Source[K], event: Event) -> None:
        """An event of a source's kind: what it concerns is due. An object of which that cannot be said is a defect,
        logged once; it keeps nobody from hearing of the others."""
        key = ObjectKey.of(event.object)
        try:
            self._tell(source, event)
        except Exception:
            if key not in self._untold:
                log.exception("%s is passed over, all else goes on; this is a defect of the operator", key)
            self._untold.add(key)
        if event.type is EventType.DELETED:
            self._untold.discard(key)

    def suspect(self, source: Source[K]) -> None:
        """Events of a source's kind may have been missed: it is looked at soon."""
        if source.kept:
            self._looks[source].suspect()

    def unready(self) -> str:
        """Why no pass begins yet, as a sentence; empty when passes do."""
        if self.filled.is_set():
            return ""
        waiting = sorted(self._looks.values(), key=lambda looks: not looks.error)
        return next(filter(None, (looks.outstanding() for looks in waiting)), "")

    def stuck(self) -> str:
        """Why the engine does not get on, as a sentence; empty when it does, and while the API server refuses it what
        it has to look at: no new process would get that."""
        limit, now = 3 * self._pace.pass_limit, time.monotonic()
        if not self.filled.is_set():
            return next((looks.outstanding() for looks in self._looks.values() if looks.idle > limit), "")
        for key, begun in self._begun.items():
            if now - begun > limit:
                return f"a pass over {key} has run for {now - begun:.0f} s and does not let itself be ended"
        if self.queue.oldest > limit and now - self._ended > limit:
            return f"no pass has ended for {now - self._ended:.0f} s; keys that wait: {self.queue.depth}"
        return ""

    def _tell(self, source: Source[K], event: Event) -> None:
        if source.kept and self._cache.holds_back(event, lambda: self.tell(source, event)):
            return
        concerned = source.keys if not source.kept or self._cache.hear(event) else source.echo
        for key in concerned(event):
            self.queue.add(key)

    def _look_of(self, source: Source[K], pace: Pace) -> Looks:
        def scan() -> AsyncGenerator[list[Object], None]:
            return self._cluster.scan(source.api_version, source.kind, labels=dict(source.labels))

        kind = (source.api_version, source.kind)
        return Looks(self._cache, kind, scan, lambda event: self.tell(source, event), pace.resync, pace.settle)

    async def _fill(self) -> None:
        for looks in self._looks.values():
            await looks.first.wait()
        self.filled.set()

    async def _work(self) -> None:
        await self.filled.wait()
        while True:
            try:
                key, waited = await self.queue.get()
            except QueueClosed:
                return
            try:
                await self._pass(key, waited)
            finally:
                self.queue.done(key)
            # A pass that finds all in the cache never waits, and neither does a queue with due keys: without this a
            # thousand of them would be one turn of the loop.
            await asyncio.sleep(0)

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
            # Events that come meanwhile are no reason to ask sooner than the API server wants.
            if asked := getattr(failure, "retry_after", None):
                self.queue.hold(key, asked)
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
