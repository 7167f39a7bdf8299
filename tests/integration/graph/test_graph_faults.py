"""What a run survives: pods that are killed or drained, a PostgreSQL that goes away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cortex_cli.local.ports import free_port
from cortex_workloads.graph import runner
from cortex_workloads.runtime.errors import Overloaded, Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY
from google.protobuf.json_format import MessageToDict
from patience import IN_A_PROCESS
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from stalling_proxy import StallingProxy

Define = Callable[..., dict[str, Any]]
TWO_SEARCHES = {
    "nodes": [
        {"name": "first", "type": "Search", "search": {"index": "papers", "query": "'first'", "into": "a"}},
        {"name": "second", "type": "Search", "search": {"index": "papers", "query": "'second'", "into": "b"}},
    ],
    "edges": [{"from": "START", "to": "first"}, {"from": "first", "to": "second"}, {"from": "second", "to": "END"}],
    "input": {"schema": {"type": "object"}},
    "execution": {"durability": "Sync"},
}


def last(events: list[Any]) -> Any:
    return getattr(events[-1], events[-1].WhichOneof("event"))


def queries(index: Any) -> list[str]:
    return [request.query for request in index.requests]


@asynccontextmanager
async def a_process(settings: dict[str, Any], log: Path) -> AsyncIterator[Any]:
    """`python -m cortex_workloads.graph`, killed at the end; it waits for the shared state, so that events have ids."""
    environment = {f"CORTEX_{name.upper()}": v if isinstance(v, str) else str(v) for name, v in settings.items()}
    environment["CORTEX_INDEXES"] = json.dumps(settings["indexes"])
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", IN_A_PROCESS % "cortex_workloads.graph"),
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
def let_go(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """`with let_go():` a pod takes its leases for short, and lets runs go after a second in which it renewed none. In
    the Lake they are long: however late this process is, nobody else had the run meanwhile."""

    @contextmanager
    def shortly() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(runner, "LEASE_SECONDS", 2.0)
            yield

    return shortly


def end_leases(lake: str) -> None:
    """As time does."""
    with psycopg.connect(lake) as connection:
        connection.execute("UPDATE runs SET lease_until = now() - interval '1 s' WHERE status = 'Running'")


async def test_a_killed_pod_s_run_is_finished_after_the_last_checkpoint(
    harness: Any, define: Define, index: Any, tmp_path: Path, connect: Any
) -> None:
    grpc_port = free_port()
    control_port = free_port(frozenset({grpc_port}))
    settings = {**harness.settings, "port_grpc": grpc_port, "port_control": control_port}
    run_id = str(uuid.uuid4())
    index.hold("second")
    async with a_process(settings, tmp_path / "log") as pod:
        client = connect(grpc_port, control_port)
        await client.ensure(define(TWO_SEARCHES), wait_for_ready=True)
        seen: list[Any] = []

        async def follow() -> None:
            async for event in client.events({}, run_id=run_id):
                seen.append(event)

        following = asyncio.create_task(follow())
        await asyncio.wait_for(index.held.wait(), 60)
        pod.send_signal(signal.SIGKILL)
        with pytest.raises(Unavailable):
            await following
    index.release()
    async with a_process(settings, tmp_path / "log"):
        rest = [
            e
            async for e in client.events(
                run_id=run_id, attach_only=True, after_event_id=seen[-1].event_id, wait_for_ready=True
            )
        ]
    assert last(rest).output.fields["b"].list_value.values
    assert [e.started.attempt for e in seen + rest if e.WhichOneof("event") == "started"] == [1, 2]
    assert queries(index) == ["first", "second", "second"]
    assert last(rest).steps == 2


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_pod_that_ends_gives_its_runs_to_another(harness: Any, define: Define, index: Any) -> None:
    first = await harness.start(drain_seconds=0.2)
    second = await harness.start()
    for pod in harness.pods:
        await harness.ready(pod)
    await first.ensure(define(TWO_SEARCHES))
    run_id = str(uuid.uuid4())
    index.hold("second")
    running = asyncio.create_task(first.run({}, run_id=run_id))
    await asyncio.wait_for(index.held.wait(), 60)
    await harness.pods[0].__aexit__(None, None, None)
    with pytest.raises(Unavailable):
        await running
    index.release()
    events = await second.run(run_id=run_id, attach_only=True)
    assert set(MessageToDict(last(events).output)) == {"a", "b"}
    assert queries(index) == ["first", "second", "second"]


async def test_a_pod_that_ends_lets_its_runs_end_while_it_has_time_and_takes_no_new_ones(
    harness: Any, define: Define, index: Any
) -> None:
    first = await harness.start(drain_seconds=0.2, run_drain_seconds=60)
    await harness.ready(harness.pods[0])
    await first.ensure(define(TWO_SEARCHES))
    index.hold("second")
    running = asyncio.create_task(first.run({}))
    await asyncio.wait_for(index.held.wait(), 60)
    ending = asyncio.create_task(harness.pods[0].__aexit__(None, None, None))
    while not harness.pods[0].runner.draining:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await first.run({})
    index.release()
    assert set(MessageToDict(last(await running).output)) == {"a", "b"}
    await asyncio.wait_for(ending, 60)
    assert queries(index) == ["first", "second"]


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_run_that_is_being_made_when_its_pod_begins_to_end_goes_on_in_another(
    harness: Any, define: Define, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await harness.start(drain_seconds=0.2)
    second = await harness.start()
    for pod in harness.pods:
        await harness.ready(pod)
    await first.ensure(define(TWO_SEARCHES))
    ending, begin = harness.pods[0], harness.pods[0].store.begin
    made, go = asyncio.Event(), asyncio.Event()

    async def slowly(*arguments: Any) -> Any:
        begun = await begin(*arguments)
        made.set()
        await go.wait()
        return begun

    monkeypatch.setattr(ending.store, "begin", slowly)
    run_id = str(uuid.uuid4())
    running = asyncio.create_task(first.run({}, run_id=run_id))
    await asyncio.wait_for(made.wait(), 60)
    leaving = asyncio.create_task(ending.__aexit__(None, None, None))
    while not ending.runner.draining:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    go.set()
    with pytest.raises(Unavailable) as told:
        await running
    assert (told.value.reason, run_id in str(told.value)) == ("Draining", True)
    await asyncio.wait_for(leaving, 60)
    events = await second.run(run_id=run_id, attach_only=True)
    assert set(MessageToDict(last(events).output)) == {"a", "b"}
    with psycopg.connect(harness.settings["lake_dsn"]) as lake:
        assert lake.execute("SELECT crashes FROM runs").fetchall() == [(0,)]


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_pod_that_is_full_refuses_runs_that_come_together_and_takes_none_over(
    harness: Any, define: Define, index: Any, wait_until: Any, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "MOST", 3)
    client = await harness.start()
    await harness.ready(harness.pods[0])
    await client.ensure(define(TWO_SEARCHES))
    index.gate.clear()
    starts = [asyncio.create_task(client.run({})) for _ in range(12)]
    done: set[Any] = set()
    while len(done) < 9:
        ended, _ = await asyncio.wait(set(starts) - done, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert ended, "more runs than places were begun"
        done |= ended
    assert {type(start.exception()) for start in done} == {Overloaded}
    await wait_until(lambda: harness.pods[0].runner.load()["runs"] == 3)
    # It looks for runs to take over meanwhile.
    await asyncio.sleep(0.5)
    assert not [record for record in caplog.records if record.name == "cortex.runs" and record.levelname == "ERROR"]
    index.gate.set()
    for start in starts:
        if start not in done:
            assert last(await start).output
    assert last(await client.run({})).output


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_run_is_given_up_when_its_pods_die_again_and_again(
    client: Any, harness: Any, define: Define, index: Any
) -> None:
    await client.ensure(define(TWO_SEARCHES))
    finished = await client.run({})
    with psycopg.connect(harness.settings["lake_dsn"], autocommit=True) as lake:
        lake.execute(
            "UPDATE runs SET status = 'Running', finished_at = NULL, owner = 'gone/1', crashes = 2, attempts = 3,"
            " lease_until = now() - interval '1 s' WHERE run_id = %s",
            (finished[0].run_id,),
        )
    events = await client.run(run_id=finished[0].run_id, attach_only=True, after_event_id=finished[-1].event_id)
    assert last(events).code == "Interrupted"
    assert ", 3 times" in last(events).message


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_lake_that_goes_away_interrupts_and_comes_back(
    harness: Any, own_postgres: Callable[..., Any], define: Define, index: Any, wait_until: Any, let_go: Any
) -> None:
    server = own_postgres(durable=True)
    client = await harness.start(lake_dsn=server.url)
    pod = harness.pods[0]
    await harness.ready(pod)
    await client.ensure(define(TWO_SEARCHES))
    run_id = str(uuid.uuid4())
    index.hold("second")
    running = asyncio.create_task(client.run({}, run_id=run_id))
    await asyncio.wait_for(index.held.wait(), 60)
    server.stop()
    index.release()
    with let_go(), pytest.raises(Unavailable) as lost:
        await running
    assert lost.value.reason == "LakeUnreachable"
    with pytest.raises(Unavailable) as refused:
        await client.run({})
    assert refused.value.reason == "LakeUnreachable"
    await wait_until(lambda: pod.server.health.degraded)
    assert pod.server.health.ready
    server.start()
    await wait_until(lambda: pod.lake.reachable)
    end_leases(server.url)
    events = await client.run(run_id=run_id, attach_only=True)
    assert set(MessageToDict(last(events).output)) == {"a", "b"}
    await wait_until(lambda: not pod.server.health.degraded)


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_pod_that_is_cut_off_from_the_lake_lets_its_runs_go(
    harness: Any, lake_dsn: str, define: Define, index: Any, wait_until: Any, let_go: Any
) -> None:
    """Nothing tells it: no connection ends. Another pod has the run when its lease is over."""
    parts = conninfo_to_dict(lake_dsn)
    async with StallingProxy().before(str(parts["host"]), int(str(parts["port"]))) as proxy:
        client = await harness.start(lake_dsn=make_conninfo(lake_dsn, host="127.0.0.1", port=proxy.port))
        pod = harness.pods[0]
        await harness.ready(pod)
        await client.ensure(define(TWO_SEARCHES))
        run_id = str(uuid.uuid4())
        index.hold("second")
        running = asyncio.create_task(client.run({}, run_id=run_id))
        await asyncio.wait_for(index.held.wait(), 60)
        proxy.stall()
        with let_go():
            await wait_until(lambda: pod.runner.live(run_id) is None)
        end_leases(lake_dsn)
        other = await harness.start()
        await harness.ready(harness.pods[1])
        await wait_until(lambda: harness.pods[1].runner.live(run_id) is not None)
        index.release()
        events = await other.run(run_id=run_id, attach_only=True)
        assert set(MessageToDict(last(events).output)) == {"a", "b"}
        await wait_until(lambda: not pod.lake.reachable)
        proxy.flow()
        await wait_until(lambda: pod.lake.reachable)
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_run_that_is_let_go_before_its_first_step_is_not_held_and_goes_on(
    harness: Any, client: Any, define: Define, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a busy pod does that finds that it renewed no lease in time."""
    await client.ensure(define(TWO_SEARCHES))
    holder = harness.pods[0].runner
    run = holder._run
    let_go: list[Any] = []

    def run_and_let_go_once(made: Any) -> Any:
        live = run(made)
        if not let_go:
            let_go.append(live)
            holder._abandon(live)
        return live

    monkeypatch.setattr(holder, "_run", run_and_let_go_once)
    run_id = str(uuid.uuid4())
    running = asyncio.create_task(client.run({}, run_id=run_id))
    await wait_until(lambda: let_go and holder.live(run_id) is None)
    assert let_go[0].task.cancelled()
    assert holder.load()["runs"] == 0
    assert REGISTRY.get_sample_value("cortex_runs_running") == 0
    assert [event async for event in let_go[0].journal.follow()] == []
    end_leases(harness.settings["lake_dsn"])
    events = await asyncio.wait_for(running, 60)
    assert set(MessageToDict(last(events).output)) == {"a", "b"}
    assert [event.started.attempt for event in events if event.WhichOneof("event") == "started"] == [2]


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_pod_does_not_take_over_from_itself_what_it_is_late_to_renew(
    harness: Any, client: Any, define: Define, index: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.ensure(define(TWO_SEARCHES))
    pod = harness.pods[0]
    take_over = pod.store.take_over
    looked: list[list[Any]] = []

    async def take_over_late(*given: Any) -> list[Any]:
        # Since it renewed the leases they have ended.
        await asyncio.to_thread(end_leases, harness.settings["lake_dsn"])
        looked.append(await take_over(*given))
        return looked[-1]

    run_id = str(uuid.uuid4())
    index.hold("second")
    running = asyncio.create_task(client.run({}, run_id=run_id))
    await asyncio.wait_for(index.held.wait(), 60)
    with monkeypatch.context() as patched:
        patched.setattr(pod.store, "take_over", take_over_late)
        await wait_until(lambda: len(looked) >= 2)
    index.release()
    assert set(MessageToDict(last(await asyncio.wait_for(running, 60)).output)) == {"a", "b"}
    assert looked[:2] == [[], []]
    found = await pod.store.get(run_id)
    assert (found.attempts, found.crashes) == (1, 0)


@pytest.mark.usefixtures("quick_sweeps")
async def test_a_run_whose_lease_ends_while_it_is_being_made_goes_on_in_one_place(
    harness: Any, client: Any, define: Define, index: Any, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.ensure(define(TWO_SEARCHES))
    pod = harness.pods[0]
    make, begin = pod.store.begin, pod.runner.begin
    begun: list[Any] = []

    async def make_late(*given: Any) -> Any:
        made = await make(*given)
        await asyncio.to_thread(end_leases, harness.settings["lake_dsn"])
        await wait_until(lambda: pod.runner.live(run_id))
        return made

    async def noted(run: Any) -> Any:
        holder = pod.runner.live(run_id)
        begun.append((holder, await begin(run)))
        return begun[-1][1]

    monkeypatch.setattr(pod.store, "begin", make_late)
    monkeypatch.setattr(pod.runner, "begin", noted)
    run_id = str(uuid.uuid4())
    index.gate.clear()
    running = asyncio.create_task(client.run({}, run_id=run_id))
    await wait_until(lambda: begun)
    index.gate.set()
    assert set(MessageToDict(last(await asyncio.wait_for(running, 60)).output)) == {"a", "b"}
    ((before, after),) = begun
    assert before is after
    assert queries(index) == ["first", "second"]


async def test_a_pod_without_a_lake_listens_and_becomes_ready_with_it(
    harness: Any, own_postgres: Callable[..., Any], wait_until: Any
) -> None:
    server = own_postgres()
    server.stop()
    client = await harness.start(lake_dsn=server.url)
    with pytest.raises(Unavailable) as refused:
        await client.run({})
    assert refused.value.reason == "LakeUnreachable"
    assert not harness.pods[0].server.health.ready
    server.start()
    await wait_until(lambda: harness.pods[0].server.health.ready)


async def test_pods_that_start_together_make_one_schema(harness: Any) -> None:
    await asyncio.gather(*(harness.start() for _ in range(3)))
    for pod in harness.pods:
        await harness.ready(pod)
    with psycopg.connect(harness.settings["lake_dsn"]) as lake:
        row = lake.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
    assert row == (0,)


async def test_a_pod_whose_lake_is_another_one_ends(harness: Any, client: Any, define: Define) -> None:
    await client.ensure(define(TWO_SEARCHES))
    ending = asyncio.create_task(harness.pods[0].wait())
    with psycopg.connect(harness.settings["lake_dsn"], autocommit=True) as lake:
        # Renamed: to drop its tables would wait for who uses them, and who uses them for that.
        lake.execute("ALTER SCHEMA public RENAME TO former")
        lake.execute("CREATE SCHEMA public")
    with pytest.raises(Unavailable) as refused:
        await client.run({})
    assert refused.value.reason == "LakeReplaced"
    with pytest.raises(Unavailable, match="another one than this pod started with"):
        await asyncio.wait_for(ending, 60)


async def test_sigterm_is_no_error(harness: Any, client: Any) -> None:
    assert client is not None
    ending = asyncio.create_task(harness.pods[0].wait())
    harness.pods[0].server.draining.set()
    await asyncio.wait_for(ending, 60)
