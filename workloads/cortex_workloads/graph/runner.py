"""The runs that this pod holds: it begins them, keeps their leases, takes over those of pods that are gone, and gives
its own back when it drains. Shields the service from how a run goes on when a pod, the Lake or a caller does not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from prometheus_client import Gauge, Histogram
from psycopg_pool import PoolClosed, PoolTimeout

from cortex_workloads.graph import checkpoints, events
from cortex_workloads.graph.execution import Execution
from cortex_workloads.graph.failures import Code, RunFailure
from cortex_workloads.graph.journal import Journal
from cortex_workloads.graph.library import Library
from cortex_workloads.graph.store import LEASE_SECONDS, Run, Store
from cortex_workloads.runtime import tasks
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition, Overloaded, Unavailable
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.progress import ProgressStream
from cortex_workloads.runtime.telemetry import REGISTRY

_log: Final = logging.getLogger("cortex.runs")
SWEEP_SECONDS: Final = 2.0
ATTEMPTS: Final = 3
"""A run whose pod died this often is given up."""
MOST: Final = 256
"""Runs of one pod at the same time."""
_TAKEN_AT_ONCE: Final = 16
_RUNNING: Final = Gauge("cortex_runs_running", "Runs that this pod holds", registry=REGISTRY)
_ENDED: Final = Histogram(
    "cortex_run_seconds",
    "Runs that ended in this pod",
    ("code",),
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000),
    registry=REGISTRY,
)
_LAKE_LOST: Final = (Unavailable, psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed)


class Live:
    """A run that this pod holds."""

    def __init__(self, run: Run, journal: Journal) -> None:
        self.run = run
        self.journal = journal
        self.control = RunControl()
        self.task: asyncio.Task[None] | None = None


class Runner:
    """Of one workflow. To be started once the Lake's schema is there."""

    def __init__(self, lake: Lake, store: Store, library: Library, progress: ProgressStream) -> None:
        self._lake = lake
        self._store = store
        self._library = library
        self._progress = progress
        self._live: dict[str, Live] = {}
        self._beginning = 0
        self._sweeper: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._renewed_at = time.monotonic()
        self.draining = False

    def start(self) -> None:
        """Begins to keep leases and to take runs over."""
        self._sweeper = asyncio.create_task(self._sweep(), name="run-leases")

    def live(self, run_id: str) -> Live | None:
        """The run, if this pod holds it."""
        return self._live.get(run_id)

    def load(self) -> dict[str, Any]:
        """What this pod is busy with, for others to see."""
        return {"runs": len(self._live), "most": MOST, "draining": self.draining}

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds the place of a run while it is made. Raises Overloaded, or Unavailable while draining."""
        if self.draining:
            raise Unavailable("this pod is ending", remedy="try again: another pod answers", reason="Draining")
        if self._room() < 1:
            raise Overloaded(f"this pod runs {MOST} runs already", remedy="try again, or add replicas: spec.replicas")
        # Making a run asks the Lake: what is free must not be given twice meanwhile.
        self._beginning += 1
        try:
            yield
        finally:
            self._beginning -= 1

    async def begin(self, run: Run) -> Live | None:
        """Runs a run that this pod has made; None when the pod began to end meanwhile: another one goes on with it."""
        if self.draining:
            await self._give_back(run.id)
            return None
        # A pod that is late may have taken it over from itself: it must not go on in two places.
        return self._live.get(run.id) or self._run(run)

    def _run(self, run: Run) -> Live:
        """As a task of its own."""
        journal = Journal(self._progress, run.id)
        live = self._live[run.id] = Live(run, journal)
        _RUNNING.set(len(self._live))
        live.task = asyncio.create_task(self._carry_out(live), name=f"run {run.id}")
        # No `finally` of the task: one that is cancelled before its first step runs nothing of its own.
        live.task.add_done_callback(lambda _: self._left(live))
        return live

    def _left(self, live: Live) -> None:
        """This pod does not hold the run any more, nor renews its lease."""
        if self._live.get(live.run.id) is live:
            del self._live[live.run.id]
        _RUNNING.set(len(self._live))
        live.journal.close()

    async def drain(self, ending: float, stopping: float) -> None:
        """Lets runs end for `ending` seconds, then stops them after their super-step, for which they have `stopping`
        seconds, and gives their leases back."""
        self.draining = True
        await self._wait(ending)
        for live in self._live.values():
            live.control.request_drain("the pod is ending")
        await self._wait(stopping)
        # First: it must not take a run over after this pod has given its own back.
        await tasks.end(self._sweeper)
        await tasks.end(self._tending)
        left = list(self._live)
        await tasks.end(*(live.task for live in self._live.values()))
        with suppress(*_LAKE_LOST):
            await self._store.release(left)

    async def _wait(self, seconds: float) -> None:
        running = [live.task for live in self._live.values() if live.task is not None]
        if running:
            await asyncio.wait(running, timeout=seconds)

    async def _carry_out(self, live: Live) -> None:
        try:
            await self._attempt(live)
        except GraphDrained:
            await self._give_back(live.run.id)
        except Exception as error:
            if not _lake_lost(error):
                raise
            # The row stays Running: whoever reaches the Lake once the lease is over goes on from the last checkpoint.
            _log.warning("run %s is interrupted, the Lake does not answer: %s", live.run.id, error)

    async def _attempt(self, live: Live) -> None:
        run = live.run
        await live.journal.write(events.started(run))
        if run.crashes >= ATTEMPTS:
            await self._fail(live, _given_up(run), run.steps)
            return
        execution: Execution | None = None
        try:
            workflow = await self._library.get(run.revision)
            saver = checkpoints.saver(self._lake)
            execution = Execution(workflow, run, saver, live.control, live.journal.write)
            output = await execution.finish()
        except Exception as error:
            if isinstance(error, GraphDrained) or _lake_lost(error):
                raise
            await self._fail(live, _failure(run, error), execution.steps if execution else 0)
            return
        await self._end(live, self._store.succeed(run, output, execution.steps), "Succeeded")

    async def _fail(self, live: Live, failure: RunFailure, steps: int) -> None:
        await self._end(live, self._store.fail(live.run, failure, steps), failure.code.value)

    async def _end(self, live: Live, ending: Coroutine[Any, Any, Run | None], code: str) -> None:
        """The Lake first, then whoever listens."""
        ended = await ending
        if ended is None:
            _log.warning("run %s was taken over by another pod", live.run.id)
            return
        _ENDED.labels(code).observe(ended.seconds)
        await live.journal.write(events.ended(ended))

    async def _give_back(self, run_id: str) -> None:
        with suppress(*_LAKE_LOST):
            await self._store.release([run_id])

    def _abandon(self, live: Live) -> None:
        if live.task is not None:
            live.task.cancel()

    async def _sweep(self) -> None:
        while True:
            self._tending = asyncio.create_task(self._tend(), name="run-leases-once")
            # A Lake that is cut off may say nothing for longer than a lease, and a statement that is cancelled waits,
            # too.
            while not (await asyncio.wait((self._tending,), timeout=SWEEP_SECONDS / 4))[0]:
                self._let_go_in_time()
            await asyncio.sleep(SWEEP_SECONDS)

    async def _tend(self) -> None:
        try:
            await self._keep_leases()
            if not self.draining:
                await self._take_over()
        except _LAKE_LOST:
            self._let_go_in_time()
        except Exception:
            _log.exception("the leases of runs could not be kept")
            self._let_go_in_time()

    async def _keep_leases(self) -> None:
        held = set(self._live)
        before = time.monotonic()
        renewed = await self._store.renew(held) if held else set()
        self._renewed_at = before
        for run_id in held - renewed:
            live = self._live.get(run_id)
            # Ended in the meantime, or lost to another pod: the latter must not go on in two places.
            if live is not None and await self._lost(run_id):
                self._abandon(live)

    async def _lost(self, run_id: str) -> bool:
        run = await self._store.find(run_id)
        return run is None or not run.finished

    async def _take_over(self) -> None:
        room = min(_TAKEN_AT_ONCE, self._room())
        if room < 1:
            return
        # What this pod holds is renewed, or let go, by itself: to take it over would count a crash that there was not.
        for run in await self._store.take_over(room, self._live.keys()):
            if run.id in self._live:
                # It was being made here, and begun meanwhile.
                continue
            if self._room() < 1:
                # Runs were begun meanwhile.
                await self._give_back(run.id)
                continue
            _log.info("going on with run %s, attempt %s", run.id, run.attempts)
            self._run(run)

    def _room(self) -> int:
        return MOST - len(self._live) - self._beginning

    def _let_go_in_time(self) -> None:
        # Others may hold these leases by now; nothing of them must be written from here.
        if time.monotonic() - self._renewed_at > LEASE_SECONDS - 1:
            for live in list(self._live.values()):
                self._abandon(live)


def _lake_lost(error: Exception) -> bool:
    """Whether the Lake went away; a statement that it refuses is no such error."""
    if isinstance(error, psycopg.OperationalError):
        return (error.sqlstate or "08").startswith(("08", "53", "57P"))
    return isinstance(error, _LAKE_LOST)


def _given_up(run: Run) -> RunFailure:
    return RunFailure(
        Code.INTERRUPTED,
        f"its pods died, or lost the Lake, {run.crashes} times: the run is given up;"
        " see why (memory: limits.stateBytes, spec.resources), then start it again with a new run id",
    )


def _failure(run: Run, error: Exception) -> RunFailure:
    match error:
        case RunFailure():
            return error
        case FailedPrecondition():
            return RunFailure(Code.INTERRUPTED, str(error))
        case CortexError():
            return RunFailure(Code.NODE_FAILED, str(error))
    _log.exception("a defect in run %s", run.id, exc_info=error)
    return RunFailure(Code.INTERNAL, f"an internal error; the logs of the graph service say more (run {run.id})")
