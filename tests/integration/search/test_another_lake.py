"""A pod whose Lake is another one now: it says so, ends, and its next start works with what is there."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import psycopg


def emptied(server: str, dsn: str) -> None:
    """As a PostgreSQL that was lost with its data and is there again."""
    name = urlsplit(dsn).path[1:]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {name}".encode())


async def answers_until_it_ends(pod: Any) -> set[grpc.StatusCode]:
    codes: set[grpc.StatusCode] = set()
    async with asyncio.timeout(90):
        while True:
            try:
                await pod.search("whales")
            except grpc.aio.AioRpcError as error:
                codes.add(error.code())
            if pod.process.poll() is not None:
                return codes
            await asyncio.sleep(0.02)


async def test_a_pod_ends_with_one_line_and_begins_anew(
    pod: Any, lake_server: str, lake_dsn: str, tmp_path: Path
) -> None:
    await pod.ensure()
    await pod.update(a="Whales sing.")
    await pod.embedded(1)
    answers = asyncio.create_task(answers_until_it_ends(pod))
    await asyncio.to_thread(emptied, lake_server, lake_dsn)
    # A server that stops drops the calls that just arrived: channels try those again.
    told = await answers
    assert grpc.StatusCode.UNAVAILABLE in told
    assert told <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert pod.process.returncode == 1
    log = (tmp_path / "pod.log").read_text()
    (line,) = (line for line in log.splitlines() if line.startswith("search: "))
    assert "another one than this pod started with" in line
    assert "now empty" in line
    assert "Traceback" not in log
    pod.start()
    await pod.ready()
    described = await pod.describe()
    assert (described.lake_read, described.documents, list(described.revisions)) == (True, 0, [])
    await pod.ensure()
    await pod.update(b="Whales dive.")
    assert [hit.id for hit in (await pod.search("whales")).hits] == ["b"]


async def test_a_job_does_not_go_on_with_another_lake(
    pod: Any, lake_server: str, lake_dsn: str, tmp_path: Path
) -> None:
    made = await pod.ensure()
    # A lock keeps the Job busy with its first statement until the Lake is gone.
    with suppress(psycopg.errors.AdminShutdown), psycopg.connect(lake_dsn) as held:
        held.execute("LOCK TABLE revisions")
        job = pod.run("cortex_workloads.search.ingest", CORTEX_REVISION=made.id)
        async with asyncio.timeout(60):
            while not waits(lake_server, lake_dsn):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)
        emptied(lake_server, lake_dsn)
    assert await asyncio.to_thread(job.wait, 90) == 1
    (line,) = (line for line in (tmp_path / "pod.log").read_text().splitlines() if line.startswith("ingest: "))
    assert "another one than this pod started with" in line


def waits(server: str, dsn: str) -> bool:
    """Whether a Job waits for a lock."""
    with psycopg.connect(server) as connection:
        found = connection.execute(
            "SELECT FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'cortex-ingest%%'"
            " AND wait_event_type = 'Lock'",
            (urlsplit(dsn).path[1:],),
        )
        return found.fetchone() is not None
