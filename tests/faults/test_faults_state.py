"""The state when what holds it dies: processes and servers are killed at random points, Valkey loses its end or all."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import secrets
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import pytest
import redis.asyncio as aioredis
from cortex_workloads.runtime.errors import StateSyncFailed
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import history
from cortex_workloads.runtime.state.functions import Functions
from cortex_workloads.runtime.state.presence import Presence, replicas
from cortex_workloads.runtime.state.volatile import Volatile
from cortex_workloads.runtime.telemetry import REGISTRY
from patience import opened, with_the_state
from stage import LONG, eventually, seed
from state_cast import Member, lines, serve
from state_crash import Crashes, judge, prepared
from state_desk import DESK, Desk

SEEDS = 100 if LONG else 10
CRASHES = 12 if LONG else 2
"""Beyond one of each kind."""
OUTAGE = 60.0 if LONG else 8.0
"""Seconds without Valkey."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute without Valkey, and a busy machine, take longer than other tests may; and this process, which no fault
    happens to, is told to wait for Valkey."""
    faulthandler.dump_traceback_later(600.0, exit=True)
    with_the_state(monkeypatch)


@pytest.fixture(scope="session")
def mortal_postgres(own_postgres: Callable[..., Any]) -> Any:
    """One that keeps what it acknowledged when it is killed, shared by the cases of a worker."""
    return own_postgres(durable=True)


@pytest.fixture(scope="session")
def mortal_valkey(own_valkey: Callable[..., Any]) -> Any:
    """One with an append-only file, shared by the cases of a worker."""
    return own_valkey(durable=True)


@pytest.fixture
def mortal_lake(mortal_postgres: Any) -> str:
    """A fresh database on it."""
    name = f"lake_{secrets.token_hex(6)}"
    with psycopg.connect(mortal_postgres.url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    return urlunsplit(urlsplit(mortal_postgres.url)._replace(path=f"/{name}"))


@pytest.mark.parametrize("number", range(SEEDS))
async def test_what_was_acknowledged_is_there_once(
    number: int, mortal_postgres: Any, mortal_valkey: Any, mortal_lake: str, tmp_path: Path
) -> None:
    await prepared(mortal_lake)
    with Crashes(mortal_postgres, mortal_valkey, mortal_lake, tmp_path, f"{seed()}/{number}") as crashes:
        crashes.run(CRASHES)
        crashes.quiet()
        lake = await opened(mortal_lake, 4)
        desk = Desk(lake, mortal_valkey.url)
        print(await judge(desk, crashes))
        await desk.close()
        await lake.close()


@pytest.mark.parametrize("how", ["stopped", "silent"])
async def test_without_valkey_the_service_goes_on(
    how: str, lake_dsn: str, own_valkey: Callable[..., Any], tmp_path: Path
) -> None:
    """`silent`: it takes connections and says nothing. Runs are done, reads answer, nothing grows and nothing spins."""
    server = own_valkey(durable=False)
    await prepared(lake_dsn)
    pod = Member(serve, lake_dsn, tmp_path / "pod")
    pod.start(server.url)
    lake = await opened(lake_dsn, 2)
    desk = Desk(lake, server.url)
    try:
        await eventually(lambda: sum(line["did"] == "run" for line in lines(pod.path)) >= 5, 60.0)
        process = psutil.Process(pod.pid)
        before = await measured(process, lake, min(OUTAGE, 4.0))
        if how == "stopped":
            server.kill()
        else:
            os.kill(server.pid, signal.SIGSTOP)
        began, rss = time.monotonic(), process.memory_info().rss
        during = await measured(process, lake, OUTAGE)
        ended, grown = time.monotonic(), process.memory_info().rss - rss
        if how == "stopped":
            server.start()
        else:
            os.kill(server.pid, signal.SIGCONT)
        assert desk.url == server.url, "somebody took its port"
        # What was waiting for it at the end may have been answered by it.
        within = [line for line in lines(pod.path) if began + 1 < line.get("at", 0) < ended - line.get("took", 0)]
        took = sorted(line["took"] for line in within if line["did"] == "read")
        runs = [line for line in within if line["did"] == "run"]
        print(
            f"{how}: {len(runs)} runs in {OUTAGE} s, reads took {took[-1]:.2f} s at most; CPU and statements a second"
            f" {before} before, {during} during; {grown / 2**20:+.1f} MiB"
        )
        assert len(runs) >= OUTAGE / 4
        assert {line["source"] for line in within if line["did"] == "read"} == {"Lake"}
        assert took[-3] < 3.0  # a busy machine holds up one or two
        assert during.cpu < before.cpu + 0.15
        assert during.statements < 2 * before.statements + 150
        assert grown < 24 * 2**20
        await eventually(lambda: any(line["did"] == "run" and line["at"] > ended + 1 for line in lines(pod.path)))
        pod.quiet()
        await eventually(lambda: any(line["did"] == "quiet" for line in lines(pod.path)))
        (last,) = (await desk.rows("SELECT last FROM number_events(%s, 100000)", await desk.row()))[0]
        await eventually(lambda: sum(line["did"] == "seen" for line in lines(pod.path)) >= last)
        assert [line["position"] for line in lines(pod.path) if line["did"] == "seen"] == list(range(1, last + 1))
        await desk.relayed()
        assert (await desk.copies.standing()).position == last
        async with lake.connection() as connection:
            assert await history.copies_against_rows(connection, await desk.row(), desk.copies) == []
        async with asyncio.timeout(60):
            while not await replicas(Volatile(desk.functions, DESK)):  # noqa: ASYNC110 - another process says it
                await asyncio.sleep(0.1)
    finally:
        pod.kill()
        await desk.close()
        await lake.close()
        server.kill()


@pytest.mark.parametrize("number", range(20 if LONG else 2))
async def test_what_is_in_valkey_alone_is_lost_by_two_seconds_at_most(
    number: int, mortal_valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the machine stops, what was not synced is gone: everysec promises it for all that is older than about two
    seconds. What stood in the file at a moment when nothing waited to be written (it does while the disk is busy) has
    all that was acknowledged before; it is cut to that."""
    monkeypatch.setattr("cortex_workloads.runtime.state.presence.LIVES_SECONDS", 120.0)  # however long a start takes
    rng = random.Random(f"{seed()}/{number}")
    async with aioredis.from_url(mortal_valkey.url) as client:
        await client.flushall()
        assert await client.config_get("append*") == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "appendfilename": "appendonly.aof",
            "appenddirname": "appendonlydir",
        }
    observer = aioredis.from_url(mortal_valkey.url)
    functions = Functions(mortal_valkey.url)
    volatile = Volatile(functions, DESK)
    one, known = Presence(volatile, "one", dict), 0
    acknowledged, sizes = list[tuple[float, int]](), list[tuple[float, int]]()
    end = time.monotonic() + 4.0
    (file,) = (mortal_valkey.directory / "appendonlydir").glob("*.incr.aof")
    while (now := time.monotonic()) < end or len(sizes) < 20:
        if (await observer.info("persistence"))["aof_buffer_length"] == 0:
            sizes.append((now, file.stat().st_size))
        known = await volatile.write("session/a", "Set", {"n": known + 1}, expected=known)
        acknowledged.append((time.monotonic(), known))
        await one.announce()
        await asyncio.sleep(0.005)
    await observer.aclose()
    mortal_valkey.kill()
    cut_at, size = next(found for found in sizes[10:] if found[0] >= sizes[-1][0] - rng.uniform(0.3, 2.0))
    with file.open("r+b") as opened:
        opened.truncate(size)
    mortal_valkey.start()
    await functions.close()
    volatile = Volatile(functions := Functions(mortal_valkey.url), DESK)
    one._volatile = volatile

    state = await volatile.read("session/a")
    assert state is not None
    assert max(version for at, version in acknowledged if at < cut_at) <= state.version < known
    assert state.fields["n"] == state.version
    with pytest.raises(StateSyncFailed, match=f"has version {state.version}, not {known}"):
        await volatile.write("session/a", "Set", {"n": 0}, expected=known)
    before = REGISTRY.get_sample_value("cortex_state_lost_total") or 0.0
    await one.announce()
    assert REGISTRY.get_sample_value("cortex_state_lost_total") == before + 1
    assert [state.fields["pod"] for state in await replicas(volatile)] == ["one"]
    await functions.close()


class Rates(NamedTuple):
    """Of one second."""

    cpu: float
    statements: float


async def measured(process: psutil.Process, lake: Lake, seconds: float) -> Rates:
    """What the process uses, and what the Lake is asked."""

    async def now() -> tuple[float, float, float]:
        async with lake.connection() as connection:
            found = await connection.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            )
            row = await found.fetchone()
        assert row is not None
        cpu = process.cpu_times()
        return time.monotonic(), cpu.user + cpu.system, row[0]

    before = await now()
    await asyncio.sleep(seconds)
    after = await now()
    took = after[0] - before[0]
    return Rates(round((after[1] - before[1]) / took, 3), round((after[2] - before[2]) / took, 1))
