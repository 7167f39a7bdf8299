"""The Job that drops an index: all of it and nothing of its neighbours, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import redis
from cortex_workloads.runtime import answers
from cortex_workloads.runtime.errors import CortexError, DeadlineExceeded, Unavailable
from cortex_workloads.runtime.lake.drop import Drop
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.progress import index_key
from cortex_workloads.runtime.settings import DropSettings
from cortex_workloads.search import tables, warming
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.drop import _drop_documents, _drop_revision, drop_index
from cortex_workloads.search.store import LakeDocumentStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PAPERS = Resource("CortexIndex", "default", "papers")
BATCHES = (_drop_revision, _drop_documents)
NEIGHBOURS = (
    Resource("CortexIndex", "default", "papers2"),
    Resource("CortexIndex", "default2", "papers"),
    Resource("CortexWorkflow", "default", "papers"),
)


def contents(dsn: str) -> dict[str, list[Any]]:
    """Every row of every table, but for the revisions' own tables only which there are."""
    with psycopg.connect(dsn) as connection:
        names = [r[0] for r in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        return {
            name: sorted(connection.execute(f"SELECT * FROM {name}".encode()).fetchall(), key=repr)  # type: ignore[arg-type]
            for name in names
        }


def dropping(dsn: str, state: str = "", **more: Any) -> DropSettings:
    return DropSettings(lake_dsn=dsn, state_url=state, resource_namespace="default", resource_name="papers", **more)


async def fill(index: Any, resource: Resource, revisions: int, documents: int) -> None:
    """As pods do; `index` is the fixture's, lent to a resource."""
    before = index.store
    index.store = LakeDocumentStore(resource.namespace, resource.name, lake=index.lake)
    index.store.resource = resource
    for number in range(revisions):
        await index.ensure(chunking={"splitLength": number + 3})
    if revisions:
        await index.write(*((f"d{number}", f"whales number {number}") for number in range(documents)))
    index.store = before


async def drop(lake: Lake, resource: Resource = PAPERS) -> bool:
    found = await Drop(lake, resource, BATCHES).run()
    await tables.sweep(lake)
    return found


@pytest.mark.parametrize("amounts", [(1, 0), (3, 2500)])
async def test_it_drops_all_of_an_index_and_its_state_keys(
    index: Any, lake: Lake, lake_dsn: str, state_url: str, amounts: tuple[int, int]
) -> None:
    # What is there before anything was pushed, and what a name has that was never one.
    empty = contents(lake_dsn).keys() - {name for name in contents(lake_dsn) if name[-1].isdigit()}
    for start in range(0, amounts[1], 500):
        await index.store.update([NewDocument(f"d{n}", "", f"whales {n}", {}) for n in range(start, start + 500)], [])
    for number in range(1, amounts[0]):
        await index.ensure(chunking={"splitLength": number + 3})
    with redis.Redis.from_url(state_url) as state:
        state.xadd(index_key("default", "papers"), {"phase": "Idle"})
        state.xadd(index_key("default", "papers2"), {"phase": "Idle"})
        state.set(answers.keys("default", "papers") + "1", b"kept")
        state.set(answers.keys("default", "papers2") + "1", b"kept")
        state.zadd(warming.keys("default", "papers") + "1", {b"asked": 1})
        state.zadd(warming.keys("default", "papers2") + "1", {b"asked": 1})
        await drop_index(dropping(lake_dsn, state_url))
        others = [keys("default", "papers2") for keys in (index_key, warming.keys, answers.keys)]
        others[1:] = [beginning + "1" for beginning in others[1:]]
        assert sorted(state.keys("*")) == sorted(key.encode() for key in others)
    left = contents(lake_dsn)
    assert left.keys() == empty
    assert [left[name] for name in ("resources", "revisions", "documents")] == [[], [], []]


@given(
    amounts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=3, max_size=3),
    own=st.tuples(st.integers(0, 3), st.integers(0, 5)),
    kills=st.lists(st.integers(1, 8), max_size=3),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_neighbours_keep_every_row_however_often_it_is_killed(
    index: Any, lake: Lake, lake_dsn: str, amounts: list[tuple[int, int]], own: tuple[int, int], kills: list[int]
) -> None:
    for resource in (PAPERS, *NEIGHBOURS):
        await drop(lake, resource)
    for resource, (revisions, documents) in zip(NEIGHBOURS, amounts, strict=True):
        await fill(index, resource, revisions, documents)
    await tables.sweep(lake)
    before = contents(lake_dsn)
    await fill(index, PAPERS, *own)

    for steps in kills:
        await killed_after(lake, steps)
    found = await drop(lake)

    assert contents(lake_dsn) == before
    assert found or not own[0] or kills
    assert not await drop(lake)


async def killed_after(lake: Lake, steps: int) -> None:
    """A drop that ends in the middle of its step of that number, whose transaction is rolled back."""

    class Killed(Exception):
        pass

    left = steps

    def mortal(batch: Any) -> Any:
        async def work(connection: Any, row: int, parts: int) -> bool:
            nonlocal left
            done: bool = await batch(connection, row, parts)
            left -= 1
            if left <= 0:
                raise Killed
            return done

        return work

    try:
        await Drop(lake, PAPERS, [mortal(batch) for batch in BATCHES]).run()
    except Killed:
        return


async def test_who_still_serves_brings_nothing_back(index: Any, lake: Lake, lake_dsn: str) -> None:
    stop = asyncio.Event()
    written, refused = 0, set()

    async def push() -> None:
        nonlocal written
        while not stop.is_set():
            try:
                await index.store.update([NewDocument(f"d{written}", "", "whales sing", {})], [])
                written += 1
            except CortexError as error:
                refused.add(error.reason)
                await asyncio.sleep(0.01)

    worker = index.worker()
    tasks = [asyncio.create_task(push()), asyncio.create_task(push()), asyncio.create_task(worker.serve())]
    while written < 50:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.01)
    assert await drop(lake)
    await asyncio.sleep(0.3)
    stop.set()
    await asyncio.gather(*tasks[:2])
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert refused == {"NoRevision"}
    left = contents(lake_dsn)
    assert [left[name] for name in ("resources", "revisions", "documents")] == [[], [], []]
    assert not [name for name in left if name.startswith("queue_")]


async def test_it_waits_for_who_holds_a_table_and_goes_on(index: Any, lake: Lake, lake_dsn: str) -> None:
    row = (await index.store.current()).row
    with psycopg.connect(lake_dsn) as reader:
        reader.execute(f"SELECT * FROM queue_{row}".encode())
        dropped = asyncio.create_task(drop(lake))
        done, _ = await asyncio.wait([dropped], timeout=2.5)
        assert not done
    assert await dropped


async def test_after_its_time_it_drops_nothing(index: Any, lake: Lake, lake_dsn: str) -> None:
    await index.write(("a", "whales"))
    before = contents(lake_dsn)
    with pytest.raises(DeadlineExceeded, match="may be in use again"):
        await drop_index(dropping(lake_dsn, drop_before=time.time() - 1))
    assert contents(lake_dsn) == before


async def test_a_database_without_a_lake_is_left_as_it_is(lake_dsn: str) -> None:
    await drop_index(dropping(lake_dsn))
    assert contents(lake_dsn) == {}


async def test_under_retain_a_name_that_comes_back_adopts_its_data(index: Any, lake: Lake) -> None:
    """A resource's uid is no part of its identity in the Lake: what is made anew asks for its revision and has all."""
    await index.write(("a", "whales sing"))
    again = LakeDocumentStore("default", "papers", lake=lake)
    revision = await index.ensure()
    assert (await again.current()).id == revision.id
    assert await again.count_documents_async() == 1


def test_the_job_is_a_module_of_the_release(lake_dsn: str, release: Callable[..., Any]) -> None:
    environment = {"CORTEX_RESOURCE_NAME": "papers", "CORTEX_LAKE_DSN": lake_dsn}
    done = release("cortex_workloads.search.drop", **environment)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    late = release("cortex_workloads.search.drop", **environment, CORTEX_DROP_BEFORE="x")
    assert late.returncode == 1
    assert late.stderr.strip().splitlines()[-1].startswith("the environment variable CORTEX_DROP_BEFORE is not valid")


async def test_a_lake_that_is_away_for_long_is_one_line(lake_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex_workloads.runtime.lake.patience.LAKE_SECONDS", 0.5)
    with pytest.raises(Unavailable, match=r"does not answer|has not answered"):
        await drop_index(dropping("postgresql://nobody:secret@127.0.0.1:9/none"))
