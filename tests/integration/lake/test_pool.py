"""The pool starts without PostgreSQL, says so, and is back at once when PostgreSQL is."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from cortex_workloads.runtime.errors import InvalidInput, Unavailable
from cortex_workloads.runtime.lake import deadline, pool
from cortex_workloads.runtime.lake.pool import Lake
from patience import opened
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from stalling_proxy import StallingProxy


async def becomes(wanted: bool, lake: Lake, within: float = 60) -> None:
    began = time.monotonic()
    while lake.reachable is not wanted:
        assert time.monotonic() - began < within, f"reachable is not {wanted} after {within} s"
        await asyncio.sleep(0.01)


async def test_opens_without_a_server_and_names_the_lake(unused_tcp_port: int) -> None:
    lake = Lake(f"postgresql://u:hidden@127.0.0.1:{unused_tcp_port}/lake")
    await lake.open()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{unused_tcp_port}/lake") as refused:
        async with lake.connection():
            pytest.fail("there is no server")
    await lake.close()
    assert refused.value.reason == "LakeUnreachable"
    assert "hidden" not in str(refused.value)
    assert not lake.reachable


async def test_a_killed_server_is_noticed_and_found_again(
    own_postgres: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_postgres()
    lake = await opened(server.url, 4)
    server.kill()
    await becomes(False, lake)
    with pytest.raises(Unavailable):
        async with lake.connection() as connection:
            await connection.execute("SELECT 1")
    url = server.url
    # It is looked for more often than one that is there.
    monkeypatch.setattr(pool, "_WATCH_SECONDS", 3600.0)
    server.start()
    assert server.url == url, "the test needs the same port"
    await becomes(True, lake)
    async with lake.connection() as connection:
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    await lake.close()


@pytest.fixture
async def stalling(lake_dsn: str) -> AsyncIterator[tuple[StallingProxy, str]]:
    """A proxy before the Lake, and the address of the Lake there."""
    parts = conninfo_to_dict(lake_dsn)
    async with StallingProxy().before(str(parts["host"]), int(str(parts["port"]))) as proxy:
        yield proxy, make_conninfo(lake_dsn, host="127.0.0.1", port=proxy.port)


async def test_a_lake_that_is_cut_off_is_noticed_and_found_again(
    stalling: tuple[StallingProxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine lost its power: no connection ends."""
    proxy, dsn = stalling
    lake = await opened(dsn, 4)
    async with lake.connection() as held:
        monkeypatch.setattr(deadline, "ANSWER_SECONDS", 0.5)
        proxy.stall()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(60), lake.connection() as connection:
                await connection.execute("SELECT 1")
        await becomes(False, lake)
        with pytest.raises(psycopg.OperationalError, match="no answer within"), deadline.within(held, 0.2):
            await held.execute("SELECT 1")
    monkeypatch.setattr(deadline, "ANSWER_SECONDS", 30.0)
    proxy.flow()
    await becomes(True, lake)
    async with lake.connection() as connection:
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    await lake.close()


async def test_an_answer_that_this_process_was_too_busy_to_read_counts(lake_dsn: str) -> None:
    lake = await opened(lake_dsn, 2)
    async with lake.connection() as connection:
        with deadline.within(connection, 0.2):
            asking = asyncio.create_task(connection.execute("SELECT 1"))
            await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 - that is what is tested
            assert select.select([connection.fileno()], [], [], 60)[0]
            assert await (await asking).fetchone() == (1,)
        await connection.execute("SELECT 1")
    await lake.close()


async def test_what_tcp_waits_for_is_bounded_unless_the_address_says_otherwise(lake_dsn: str) -> None:
    for options, seconds in (({}, 5), ({"keepalives_idle": 77}, 77)):
        lake = await opened(make_conninfo(lake_dsn, **options), 2)
        async with lake.connection() as connection:
            with socket.socket(fileno=os.dup(connection.fileno())) as line:
                assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == seconds
                assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        await lake.close()


async def test_a_connection_that_breaks_in_use_is_unavailable(lake_dsn: str) -> None:
    lake = await opened(lake_dsn, 2)
    with pytest.raises(Unavailable):
        async with lake.connection() as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    await becomes(True, lake)
    async with lake.connection() as connection:
        await connection.execute("SELECT 1")
    await lake.close()


async def test_a_full_disk_is_told_as_that_and_what_is_there_is_read(lake_dsn: str) -> None:
    lake = await opened(lake_dsn, 1)
    full = "DO $$ BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
    with pytest.raises(Unavailable, match=r"takes no writes: could not extend file: No space left") as refused:
        async with lake.transaction() as connection:
            await connection.execute(full)
    assert (refused.value.reason, lake.reachable) == ("LakeFull", True)
    async with lake.connection() as connection:
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    await lake.close()


async def test_closes_although_a_wait_swallows_the_cancellation(lake_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, waiting = Lake(lake_dsn, 2), asyncio.Event()
    taken = lake.pool.getconn

    async def swallowing(timeout: float | None = None) -> Any:
        waiting.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)
        return await taken(timeout)

    monkeypatch.setattr(lake.pool, "getconn", swallowing)
    await lake.open()
    await waiting.wait()
    async with asyncio.timeout(30):
        await lake.close()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e20", 1e20),
        (str(2**64 - 1), 2**64 - 1),
        (str(-(2**63)), -(2**63)),
        (str(-(2**63) - 1), float(-(2**63))),
        ("1e400", 10**400),
        ("0.1", 0.1),
    ],
)
async def test_numbers_are_read_as_what_can_be_written(lake_dsn: str, text: str, number: float) -> None:
    lake = await opened(lake_dsn, 2)
    async with lake.connection() as connection:
        found = await connection.execute("SELECT %s::jsonb, '[\"é\"]'::json", (text,))
        row = await found.fetchone()
    await lake.close()
    assert row is not None
    assert (row[0], type(row[0])) == (number, type(number))
    assert row[1] == ["é"]


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "not a dsn",
        "http://x",
        "postgresql://u:hidden@h:port/lake",
        "postgresql://u:hidden@h:65536/lake",
        "postgresql://u:hid/hidden@h:5432/lake",
        "postgresql://u:hidden%zz@h:5432/lake",
        "postgresql://u:hidden\udcff@h:5432/lake",
    ],
)
def test_a_wrong_address_is_refused(dsn: str) -> None:
    with pytest.raises(InvalidInput, match="CORTEX_LAKE_DSN") as refused:
        Lake(dsn)
    assert "hid" not in str(refused.value)


@pytest.mark.parametrize("dsn", ["postgresql://u@h/lake", "host=h dbname=lake", "postgresql://u@a:1,b,c:65535/lake"])
def test_other_ways_to_write_an_address_are_fine(dsn: str) -> None:
    assert not Lake(dsn).reachable
