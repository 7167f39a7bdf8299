"""Each change of a resource, revision, thread or run is an event of its transaction; replaying them makes the rows."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import psycopg
import pytest
from cortex_workloads.graph.failures import Code, RunFailure
from cortex_workloads.graph.store import Store
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate, migrations
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from patience import opened

DESK = Resource("CortexWorkflow", "default", "desk")
A, B, C = "aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"


async def ensure(lake: Lake, revision: str, retain: int = 1) -> revisions.Revision:
    async with lake.transaction() as connection:
        return await revisions.ensure(connection, DESK, revision, {"of": revision, "none": None}, retain)


async def rows(lake: Lake, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    async with lake.connection() as connection:
        return await (await connection.execute(statement, parameters)).fetchall()


async def told(lake: Lake, aggregate: str = "%") -> list[tuple[Any, ...]]:
    """(aggregate, version, type), in the order of writing."""
    return await rows(
        lake, "SELECT aggregate, version, type FROM events WHERE aggregate LIKE %s ORDER BY id", aggregate
    )


async def replayed(lake: Lake) -> None:
    """Holds the events against the rows: the same aggregates, versions and states."""
    resource = (await rows(lake, "SELECT id FROM resources"))[0][0]
    kept = {a: (v, s) for a, v, s in await rows(lake, "SELECT * FROM states_of(%s)", resource)}
    made = await rows(lake, "SELECT aggregate, version, state, removed, events, first FROM replay(%s)", resource)
    assert {a: (v, s) for a, v, s, removed, _, _ in made if not removed} == kept
    for aggregate, version, _, _, events, first in made:
        assert (first, events) == (1, version), aggregate


async def test_a_switch_is_one_change_of_the_pointer(lake: Lake) -> None:
    await ensure(lake, A)
    second = await ensure(lake, B)
    async with lake.transaction() as connection:
        await revisions.promote(connection, second)
    assert await told(lake, "resource") == [
        ("resource", 1, "ResourceAdded"),
        ("resource", 2, "ResourceChanged"),
        ("resource", 3, "CurrentChanged"),
        ("resource", 4, "CurrentChanged"),
    ]
    assert [kind for _, _, kind in await told(lake, f"revision/{A}")] == [
        "RevisionAdded",
        "RevisionCurrent",
        "RevisionRetained",
    ]
    assert [kind for _, _, kind in await told(lake, f"revision/{B}")] == [
        "RevisionAdded",
        "RevisionReady",
        "RevisionCurrent",
    ]
    assert await rows(lake, "SELECT current FROM resources") == [(B,)]
    await replayed(lake)


async def test_a_removed_revision_that_comes_back_counts_on(lake: Lake) -> None:
    await ensure(lake, A)
    await ensure(lake, B)
    await ensure(lake, C)
    assert (await told(lake, f"revision/{B}"))[-1] == (f"revision/{B}", 2, "RevisionRemoved")
    await ensure(lake, B)
    assert (await told(lake, f"revision/{B}"))[-1] == (f"revision/{B}", 3, "RevisionAdded")
    async with lake.connection() as connection:
        assert (await (await connection.execute("SELECT count(*) FROM revisions")).fetchone()) == (2,)


async def test_the_life_of_a_run(lake: Lake) -> None:
    await ensure(lake, A)
    store = Store(lake, DESK, "one")
    run_id = str(uuid.uuid4())
    run, _ = await store.begin(run_id, "t", A, {"question": "why?", "nothing": None})
    await store.renew([run_id])
    assert [kind for _, _, kind in await told(lake, f"run/{run_id}")] == ["RunStarted"]
    await store.release([run_id])
    (again,) = await Store(lake, DESK, "two").take_over(4)
    assert again.attempts == 2
    assert await store.succeed(run, {}, 1) is None
    await Store(lake, DESK, "two").succeed(again, {"answer": "because"}, 3)
    assert [kind for _, _, kind in await told(lake, f"run/{run_id}")] == ["RunStarted", "RunResumed", "RunSucceeded"]
    assert [kind for _, _, kind in await told(lake, "thread/t")] == ["ThreadStarted", "ThreadAdvanced"]
    failed, _ = await store.begin(str(uuid.uuid4()), "t", A, {})
    await store.fail(failed, RunFailure(Code.INTERNAL, "no"), 1)
    assert (await told(lake, f"run/{failed.id}"))[-1][2] == "RunFailed"
    await replayed(lake)


async def test_an_event_says_what_changed_and_who_wrote_it(lake: Lake) -> None:
    await ensure(lake, A)
    store = Store(lake, DESK, "one")
    run, _ = await store.begin(str(uuid.uuid4()), "t", A, {"question": "why?"})
    await store.succeed(run, {"answer": "because"}, 2)
    ((data, by),) = await rows(lake, "SELECT data, by FROM events WHERE type = 'RunSucceeded'")
    assert sorted(data) == ["finished_at", "output", "status", "steps"]
    assert data["output"] == {"answer": "because"}
    assert by == "cortex"


async def test_a_refused_write_is_no_event(lake: Lake) -> None:
    await ensure(lake, A)
    store = Store(lake, DESK, "one")
    run_id = str(uuid.uuid4())
    await store.begin(run_id, "t", A, {})
    before = await told(lake)
    await store.begin(run_id, "t", A, {})
    await ensure(lake, A)
    async with lake.connection() as connection, connection.transaction(force_rollback=True):
        await connection.execute("UPDATE runs SET steps = 7")
    assert await told(lake) == before


async def test_events_cannot_be_changed(lake: Lake) -> None:
    await ensure(lake, A)
    with pytest.raises(psycopg.errors.RaiseException, match="append-only: resource 1 "):
        async with lake.connection() as connection:
            await connection.execute("UPDATE events SET data = '{}' WHERE aggregate = 'resource' AND version = 1")


async def test_positions_are_given_in_order_and_without_a_gap_by_many_at_once(lake: Lake) -> None:
    await ensure(lake, A)
    store = Store(lake, DESK, "one")
    ((resource,),) = await rows(lake, "SELECT id FROM resources")
    done = asyncio.Event()

    async def number() -> None:
        last = 0
        while not done.is_set():
            ((position, _),) = await rows(lake, "SELECT * FROM number_events(%s, 7)", resource)
            assert position >= last
            last = position

    async def write(thread: str) -> None:
        for _ in range(8):
            run, _ = await store.begin(str(uuid.uuid4()), thread, A, {})
            await store.succeed(run, {"n": 1}, 1)

    numbering = [asyncio.create_task(number()) for _ in range(3)]
    await asyncio.gather(*(write(f"t{n}") for n in range(4)))
    done.set()
    await asyncio.gather(*numbering)
    while not (await rows(lake, "SELECT complete FROM number_events(%s, 7)", resource))[0][0]:
        pass
    found = await rows(lake, "SELECT position, aggregate, version FROM events ORDER BY position")
    assert [position for position, _, _ in found] == list(range(1, len(found) + 1))
    seen: dict[str, int] = {}
    for _, aggregate, version in found:
        assert version == seen.get(aggregate, 0) + 1
        seen[aggregate] = version


async def test_what_is_there_before_events_begins_its_history(lake_dsn: str) -> None:
    lake = await opened(lake_dsn, 2)
    await migrate(lake, [one for one in migrations() if one.number < 6])
    async with lake.connection() as connection:
        await connection.execute(
            "INSERT INTO resources (kind, namespace, name) VALUES ('CortexWorkflow', 'default', 'desk')"
        )
        await connection.execute(
            "INSERT INTO revisions (resource_id, revision, definition, phase) VALUES (1, %s, %s, 'Current')",
            (A, json.dumps({"of": A})),
        )
        await connection.execute("INSERT INTO threads (resource_id, thread, revision) VALUES (1, 't', %s)", (A,))
    await migrate(lake)
    assert sorted(await told(lake)) == [
        ("resource", 1, "Imported"),
        (f"revision/{A}", 1, "Imported"),
        ("thread/t", 1, "Imported"),
    ]
    assert await rows(lake, "SELECT current FROM resources") == [(A,)]
    await replayed(lake)
    await lake.close()


async def test_a_thread_that_became_free_between_two_looks_takes_the_next_run(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure(lake, A)
    other, store = Store(lake, DESK, "other"), Store(lake, DESK, "one")
    before, _ = await other.begin(str(uuid.uuid4()), "t", A, {})
    find = store._find

    async def ends_before(connection: Any, run_id: str) -> Any:
        await other.succeed(before, {}, 1)
        return await find(connection, run_id)

    monkeypatch.setattr(store, "_find", ends_before)
    run, is_new = await store.begin(str(uuid.uuid4()), "t", A, {})
    assert (run.thread, is_new) == ("t", True)
