"""The Job that drops a workflow: runs, threads, checkpoints and live events, and nothing of its neighbours."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable
from os import environ
from typing import Any

import psycopg
import pytest
import redis
from cortex_workloads.graph import checkpoints
from cortex_workloads.graph import drop as drop_module
from cortex_workloads.graph.drop import drop_workflow
from cortex_workloads.runtime.errors import CortexError
from cortex_workloads.runtime.lake import drop as lake_drop
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.progress import run_key
from cortex_workloads.runtime.settings import DropSettings

Define = Callable[..., dict[str, Any]]
TABLES = ("resources", "revisions", "threads", "runs", "checkpoints", "checkpoint_blobs", "checkpoint_writes")
HELD = {
    "nodes": [
        {"name": "first", "type": "Search", "search": {"index": "papers", "query": "'first'", "into": "a"}},
        {"name": "second", "type": "Search", "search": {"index": "papers", "query": "'second'", "into": "b"}},
    ],
    "edges": [{"from": "START", "to": "first"}, {"from": "first", "to": "second"}, {"from": "second", "to": "END"}],
    "input": {"schema": {"type": "object"}},
    "execution": {"durability": "Sync"},
}


def contents(dsn: str) -> dict[str, list[Any]]:
    with psycopg.connect(dsn) as connection:
        return {t: sorted(connection.execute(f"SELECT * FROM {t}".encode()), key=repr) for t in TABLES}  # type: ignore[arg-type]


def dropping(dsn: str, state: str) -> DropSettings:
    return DropSettings(lake_dsn=dsn, state_url=state, resource_namespace="default", resource_name="helpdesk")


def a_neighbour(dsn: str, kind: str, namespace: str, name: str) -> str:
    """A workflow with a thread, a finished run and a checkpoint that a crash left; the run's id."""
    run_id = str(uuid.uuid4())
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "INSERT INTO resources (kind, namespace, name) VALUES (%s, %s, %s) RETURNING id", (kind, namespace, name)
        ).fetchone()
        assert found is not None
        connection.execute("INSERT INTO threads (resource_id, thread, revision) VALUES (%s, 't', 'r')", found)
        connection.execute(
            "INSERT INTO runs (run_id, resource_id, thread, revision, input, status, lease_until)"
            " VALUES (%s, %s, 't', 'r', '{}', 'Succeeded', now())",
            (run_id, found[0]),
        )
        connection.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint) VALUES (%s, '1', '{}')", (run_id,)
        )
    return run_id


async def test_it_drops_all_of_a_workflow_and_nothing_of_its_neighbours(
    harness: Any, client: Any, define: Define, lake_dsn: str, state_url: str
) -> None:
    for place in (("CortexWorkflow", "default", "helpdesk2"), ("CortexWorkflow", "other", "helpdesk")):
        neighbour = a_neighbour(lake_dsn, *place)
    before = contents(lake_dsn)
    await client.ensure(define())
    for _ in range(3):
        await client.run({"question": "whales?"})
    await harness.close()
    with redis.Redis.from_url(state_url) as state:
        assert state.keys("*:events")
        state.xadd(run_key(neighbour), {"event": b""})
        await drop_workflow(dropping(lake_dsn, state_url))
        assert state.keys("*") == [run_key(neighbour).encode()]
    assert contents(lake_dsn) == before
    await drop_workflow(dropping(lake_dsn, state_url))
    assert contents(lake_dsn) == before


@pytest.mark.usefixtures("short_leases")
async def test_a_pod_in_the_middle_of_a_run_brings_nothing_back(
    harness: Any, client: Any, define: Define, index: Any, lake_dsn: str, state_url: str
) -> None:
    await client.ensure(define(HELD))
    index.hold("second")
    running = asyncio.create_task(client.run({}, run_id=str(uuid.uuid4())))
    await index.held.wait()
    assert contents(lake_dsn)["checkpoints"]

    await drop_workflow(dropping(lake_dsn, state_url))
    index.release()
    with pytest.raises(CortexError):
        await client.run({})
    running.cancel()
    # The pod has given up its run: it looks after its leases, and another one takes none over.
    await asyncio.sleep(0.5)
    started = await harness.start(pod="another")
    await harness.ready(harness.pods[1])
    with pytest.raises(CortexError, match="no current revision"):
        await started.run({})
    # It has looked for runs to take over.
    await asyncio.sleep(0.5)

    assert contents(lake_dsn) == {table: [] for table in TABLES}


async def test_it_goes_on_where_it_was_killed(
    harness: Any, client: Any, define: Define, lake_dsn: str, state_url: str
) -> None:
    await client.ensure(define())
    for _ in range(3):
        await client.run({"question": "whales?"})
    await harness.close()
    environment = {**environ, "CORTEX_RESOURCE_NAME": "helpdesk", "CORTEX_LAKE_DSN": lake_dsn}
    with psycopg.connect(lake_dsn) as held:
        held.execute("SELECT FROM threads FOR UPDATE")
        job = await asyncio.create_subprocess_exec(sys.executable, "-m", "cortex_workloads.graph.drop", env=environment)
        async with asyncio.timeout(60):
            while contents(lake_dsn)["runs"]:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)
        job.kill()
        await job.wait()
    left = contents(lake_dsn)
    assert left["resources"]
    assert left["threads"]
    again = await asyncio.create_subprocess_exec(sys.executable, "-m", "cortex_workloads.graph.drop", env=environment)
    assert await asyncio.wait_for(again.wait(), 60) == 0
    assert contents(lake_dsn) == {table: [] for table in TABLES}


def a_workflow(dsn: str, name: str, threads: int, runs: int) -> None:
    """One with so many threads, each with so many runs that ended, and no events of these."""
    with psycopg.connect(dsn) as connection:
        connection.execute("SET cortex.restoring = 'on'")
        named = {"name": name, "threads": threads, "runs": runs}
        connection.execute(
            "INSERT INTO resources (kind, namespace, name) VALUES ('CortexWorkflow', 'default', %(name)s)", named
        )
        connection.execute(
            "INSERT INTO threads (resource_id, thread, revision) SELECT s.id, 't' || n, 'r'"
            " FROM resources s, generate_series(1, %(threads)s) n WHERE s.name = %(name)s",
            named,
        )
        connection.execute(
            "INSERT INTO runs (run_id, resource_id, thread, revision, input, status, lease_until)"
            " SELECT gen_random_uuid(), s.id, 't' || n, 'r', '{}', 'Succeeded', now()"
            " FROM resources s, generate_series(1, %(threads)s) n, generate_series(1, %(runs)s)"
            " WHERE s.name = %(name)s",
            named,
        )
        connection.execute("ANALYZE")


async def migrated(dsn: str) -> None:
    lake = Lake(dsn, 1)
    await lake.open()
    await lake.answered()
    await migrate(lake)
    await checkpoints.migrate(lake)
    await lake.close()


async def test_a_thread_that_goes_does_not_look_at_the_runs_of_all_workflows(lake_dsn: str, state_url: str) -> None:
    await migrated(lake_dsn)
    a_workflow(lake_dsn, "helpdesk", 500, 1)
    a_workflow(lake_dsn, "another", 5, 1000)
    with psycopg.connect(lake_dsn, autocommit=True) as connection:
        looked = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'runs'"
        (before,) = connection.execute(looked).fetchone() or (0,)
        await drop_workflow(dropping(lake_dsn, state_url))
        assert connection.execute("SELECT count(*) FROM threads").fetchone() == (5,)
        # Connections tell what they did when they end, at the latest.
        there = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE 'cortex-drop%' AND datname = current_database()"
        )
        async with asyncio.timeout(60):
            while connection.execute(there).fetchone() != (0,):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        (after,) = connection.execute(looked).fetchone() or (0,)
    assert after - before < 10


async def test_what_takes_the_lake_too_long_is_dropped_in_smaller_parts(
    lake_dsn: str, state_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Long enough for all that is quick, on a busy machine, too: what is large takes for ever.
    monkeypatch.setattr(lake_drop, "_LIMITS", "SET LOCAL statement_timeout = '1s'; SET LOCAL lock_timeout = '2s'")
    monkeypatch.setattr(drop_module, "_THREADS_AT_ONCE", 64)
    await migrated(lake_dsn)
    a_workflow(lake_dsn, "helpdesk", 64, 0)
    with psycopg.connect(lake_dsn) as connection:
        connection.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN IF (SELECT count(*) FROM gone) > 32 THEN PERFORM pg_sleep(600); END IF; RETURN NULL; END'"
        )
        connection.execute(
            "CREATE TRIGGER slowly AFTER DELETE ON threads REFERENCING OLD TABLE AS gone"
            " FOR EACH STATEMENT EXECUTE FUNCTION slowly()"
        )
    await drop_workflow(dropping(lake_dsn, state_url))
    assert contents(lake_dsn) == {table: [] for table in TABLES}
    assert "is halved" in caplog.text
