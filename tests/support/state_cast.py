"""Processes that use the state of one workflow, and that a test may kill at any point: writers, relays, a follower, a
reader. Each is told what it does by `Cast`, and says what it saw in a file of its own.

A line is written after the Lake's commit returned (or the change was seen) and before anything else is done; what
stands in the file outlives the process.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
from cortex_workloads.graph import store as graph_store
from cortex_workloads.graph.failures import Code, RunFailure
from cortex_workloads.graph.store import Run, Store
from cortex_workloads.runtime.errors import CortexError, StateSyncFailed
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import relay as state_relay
from cortex_workloads.runtime.state.aggregates import Consistency
from cortex_workloads.runtime.state.manager import StateManager
from state_desk import DESK, A

THREADS = 6
BOUND = 5.0
"""Seconds that a bounded read accepts here: most of what it is told is old, and has to say how old."""

_context = multiprocessing.get_context("forkserver")
# They begin by a fork of a process that has imported all of it: at once, also on a busy machine.
_context.set_forkserver_preload(["state_cast"])


def _prepare() -> None:
    # Before Python 3.13 that process does not get this one's sys.path.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()


class Told:
    """The file of one process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, **line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """What a process has told so far."""
    if path.exists():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)


class Member:
    """One process, and those that took its place. `path`: what they told."""

    def __init__(self, role: Callable[..., Awaitable[None]], dsn: str, path: Path, **given: Any) -> None:
        self._role, self._dsn, self.path, self._given = role, dsn, path, given
        self._lives = itertools.count()
        self._process: Any = None

    def start(self, url: str) -> None:
        _prepare()
        given = {"dsn": self._dsn, "url": url, "path": self.path, "life": next(self._lives), **self._given}
        self._process = _context.Process(target=_play, args=(self._role, given), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """kill -9; its place is taken by `start`."""
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()

    def quiet(self) -> None:
        """No more is written by one that serves, once it has said `quiet`."""
        os.kill(self._process.pid, signal.SIGUSR1)

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    @property
    def lives(self) -> bool:
        return bool(self._process.is_alive())


def _play(role: Callable[..., Awaitable[None]], given: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with who started it
    graph_store.LEASE_SECONDS = 1.0  # type: ignore[misc]
    state_relay.LOOK_SECONDS = 0.05  # type: ignore[misc]
    asyncio.run(role(**given))  # type: ignore[arg-type]


async def _open(dsn: str) -> Lake:
    lake = Lake(dsn, 4)
    await lake.open()
    await lake.answered()
    return lake


async def write(dsn: str, url: str, path: Path, life: int, name: str, seed: str) -> None:
    """Begins and ends runs on threads that all writers share, and takes over what others left."""
    told, rng, lake = Told(path), random.Random(f"{seed}/{name}/{life}"), await _open(dsn)
    store = Store(lake, DESK, f"{name}-{life}")
    while True:
        with suppress(CortexError, psycopg.Error):
            for run in await store.take_over(2) if rng.random() < 0.1 else [await _begun(store, told, rng)]:
                await asyncio.sleep(rng.choice((0, 0, 0.01)))
                await _ended(store, told, run, rng.random() < 0.8)
        await asyncio.sleep(rng.random() * 0.01)


async def _begun(store: Store, told: Told, rng: random.Random) -> Run:
    run_id, thread = str(uuid.UUID(int=rng.getrandbits(128))), f"t{rng.randrange(THREADS)}"
    run, _ = await store.begin(run_id, thread, A, {"text": "x" * rng.choice((1, 100, 4000))})
    told(did="begun", at=time.monotonic(), run=run.id, thread=thread)
    return run


async def _ended(store: Store, told: Told, run: Run, well: bool) -> None:
    answer = str(uuid.uuid4())
    if well:
        ended = await store.succeed(run, {"answer": answer}, 1)
    else:
        ended = await store.fail(run, RunFailure(Code.INTERNAL, answer), 1)
    if ended is not None:
        told(did="ended", at=time.monotonic(), run=run.id, thread=run.thread, well=well, answer=answer)


async def switch(dsn: str, url: str, path: Path, life: int) -> None:
    """What an operator does: one revision after the other becomes the current one; each has a name of its own."""
    told, lake = Told(path), await _open(dsn)
    for number in itertools.count():
        name = f"{life:03x}{number:07x}"
        with suppress(CortexError, psycopg.Error):
            async with lake.transaction() as connection:
                revision = await revisions.ensure(connection, DESK, name, {"of": name}, 2)
            async with lake.transaction() as connection:
                done = await revisions.promote(connection, revision)
            if done:
                told(did="switched", at=time.monotonic(), revision=name)
        await asyncio.sleep(0.02)


async def relay(dsn: str, url: str, path: Path, life: int, name: str) -> None:
    """A pod that relays and says that it is there."""
    manager = StateManager(await _open(dsn), url, DESK)
    manager.start(name, lambda: {"life": life})
    await asyncio.Event().wait()


async def follow(dsn: str, url: str, path: Path, life: int) -> None:
    """Every change, from where the process before it ended."""
    told = Told(path)
    after = max((line["position"] for line in lines(path)), default=0)
    manager = StateManager(await _open(dsn), url, DESK)
    while True:
        try:
            async for change in manager.watch(after):
                told(position=change.position, of=change.aggregate, version=change.version, type=change.type)
                after = change.position
        except StateSyncFailed as error:
            told(position=-1, of=str(error), version=0, type="")
            return
        except CortexError:
            await asyncio.sleep(0.05)


async def read(dsn: str, url: str, path: Path, life: int, told_by: list[Path], seed: str) -> None:
    """Reads what was written a moment ago, and long ago."""
    told, rng, known = Told(path), random.Random(f"{seed}/reader/{life}"), list[str]()
    manager = StateManager(await _open(dsn), url, DESK)
    looked = 0.0
    while True:
        if time.monotonic() > looked + 0.05:
            looked = time.monotonic()
            known = [f"run/{line['run']}" for one in told_by for line in lines(one) if line["did"] == "begun"]
        names = [*known[-4:], *rng.sample(known, min(2, len(known))), f"thread/t{rng.randrange(THREADS)}", "resource"]
        consistency = rng.choice((Consistency.BOUNDED, Consistency.BOUNDED, Consistency.LATEST))
        for name in names:
            began = time.monotonic()
            with suppress(CortexError, psycopg.Error):
                reply = await manager.read(name, consistency, BOUND)
                told(
                    began=began,
                    of=name,
                    how=consistency.value,
                    source=reply.source.value,
                    age=reply.age,
                    version=reply.state.version if reply.state else 0,
                    status=reply.state.fields.get("status", "") if reply.state else "",
                )
        await asyncio.sleep(0.01)


async def serve(dsn: str, url: str, path: Path, life: int) -> None:
    """A pod with everything: it relays, says that it is there, follows, reads, and does a run now and then."""
    told, lake = Told(path), await _open(dsn)
    store = Store(lake, DESK, f"pod-{life}")
    manager = StateManager(lake, url, DESK)
    manager.start("pod", lambda: {"life": life})
    state_relay.LOOK_SECONDS = 0.5  # type: ignore[misc]

    async def following() -> None:
        async for change in manager.watch(0):
            told(did="seen", position=change.position)

    quiet = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, quiet.set)
    seeing = asyncio.create_task(following())
    while not quiet.is_set() and not seeing.done():
        begun = await store.begin(str(uuid.uuid4()), "t", A, {"text": "x" * 4000})
        manager.committed()
        for consistency in Consistency:
            began = time.monotonic()
            reply = await manager.read(f"run/{begun[0].id}", consistency, BOUND)
            assert reply.state is not None
            told(did="read", at=began, took=time.monotonic() - began, how=consistency.value, source=reply.source.value)
        await store.succeed(begun[0], {"text": "y" * 4000}, 1)
        manager.committed()
        told(did="run", at=time.monotonic(), run=begun[0].id)
        await asyncio.sleep(0.2)
    told(did="quiet")
    await seeing
