"""The state of a workflow, held against a dictionary through whatever order of writes, reads and losses."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import redis.asyncio as aioredis
from cortex_workloads.graph import checkpoints
from cortex_workloads.graph.failures import Code, RunFailure
from cortex_workloads.graph.store import Run, Store
from cortex_workloads.runtime.errors import StateSyncFailed
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state.aggregates import Consistency, Source
from cortex_workloads.runtime.state.manager import StateManager
from cortex_workloads.runtime.state.volatile import ANY
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from patience import opened

T = TypeVar("T")
REVISIONS = ("aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc")
THREADS = st.sampled_from(("t1", "t2/ü"))
SESSIONS = st.sampled_from(("session/a", "session/b*[x]"))
CONSISTENCIES = st.sampled_from(list(Consistency))
VALUES = st.one_of(st.none(), st.integers(-9, 9), st.text('aü\n"{', max_size=3), st.lists(st.booleans(), max_size=2))


class Bed:
    """A Lake with its schema, a Valkey, and a loop that the machines use in turn."""

    def __init__(self, dsn: str, url: str) -> None:
        self.url = url
        self._runner = asyncio.Runner()
        self.numbers = itertools.count()
        self.lake = self(self._open(dsn))

    def __call__(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(60):
                return await work

        return self._runner.run(bounded())

    async def _open(self, dsn: str) -> Lake:
        lake = await opened(dsn, 4)
        await migrate(lake)
        await checkpoints.migrate(lake)
        return lake

    def close(self) -> None:
        self(self.lake.close())
        self._runner.close()


@pytest.fixture
def bed(lake_dsn: str, own_valkey: Callable[..., Any]) -> Iterator[Bed]:
    """With a Valkey of its own: functions are lost for all databases at once."""
    server = own_valkey(durable=False)
    bed = Bed(lake_dsn, server.url)
    yield bed
    bed.close()
    server.kill()


class Model(RuleBasedStateMachine):
    """`there`: for each aggregate of the Lake its states by version, the last one None when it was removed."""

    def __init__(self, bed: Bed) -> None:
        super().__init__()
        self.run, self.bed = bed, bed
        self.resource = Resource("CortexWorkflow", "default", f"desk-{next(bed.numbers)}")
        self.manager = StateManager(bed.lake, bed.url, self.resource)
        self.store = Store(bed.lake, self.resource, "one")
        self.client = aioredis.from_url(bed.url)
        self.there: dict[str, dict[int, dict[str, Any] | None]] = {}
        self.running: dict[str, Run] = {}
        self.relayed_at: dict[str, int] = {}
        self.live: dict[str, tuple[int, dict[str, Any]]] = {}

    def teardown(self) -> None:
        self.run(self._end())

    async def _end(self) -> None:
        await self._relay()
        report = await self.manager.examine()
        assert (report.problem, report.rows, report.copies) == ("", [], [])
        await self.manager.close()
        await self.client.aclose()

    def _changed(self, aggregate: str, fields: dict[str, Any] | None) -> None:
        states = self.there.setdefault(aggregate, {})
        last = max(states, default=0)
        states[last + 1] = None if fields is None else {**(states.get(last) or {}), **fields}

    @initialize()
    def begin(self) -> None:
        self.ensure(REVISIONS[0])

    @rule(revision=st.sampled_from(REVISIONS))
    def ensure(self, revision: str) -> None:
        async def write() -> None:
            async with self.bed.lake.transaction() as connection:
                await revisions.ensure(connection, self.resource, revision, {"of": revision}, 1)

        self.run(write())
        self.run(self._look_at_revisions())

    @rule(revision=st.sampled_from(REVISIONS))
    def promote(self, revision: str) -> None:
        async def write() -> None:
            async with self.bed.lake.transaction() as connection:
                row = await revisions.resource_row(connection, self.resource)
                assert row is not None
                if (found := await revisions.get(connection, row, revision)) is not None:
                    await revisions.promote(connection, found)

        self.run(write())
        self.run(self._look_at_revisions())

    @rule(revision=st.sampled_from(REVISIONS), message=st.sampled_from(("no", "never")))
    def refuse(self, revision: str, message: str) -> None:
        async def write() -> None:
            async with self.bed.lake.transaction() as connection:
                row = await revisions.resource_row(connection, self.resource)
                assert row is not None
                found = await revisions.get(connection, row, revision)
                if found is None or found.phase is not revisions.Phase.CURRENT:
                    await revisions.refuse(connection, self.resource, revision, {"of": revision}, message)

        self.run(write())
        self.run(self._look_at_revisions())

    async def _look_at_revisions(self) -> None:
        """What becomes of revisions is held to the rows by test_events; here the rows are what reads are held to."""
        async with self.bed.lake.connection() as connection:
            found = await connection.execute(
                "SELECT a.aggregate, a.version, a.state FROM resources s, states_of(s.id) AS a"
                " WHERE s.kind = %s AND s.namespace = %s AND s.name = %s"
                " AND (a.aggregate = 'resource' OR a.aggregate LIKE 'revision/%%')",
                tuple(self.resource),
            )
            now = {name: (version, state) for name, version, state in await found.fetchall()}
        for name in [name for name in self.there if name.startswith("revision/") and name not in now]:
            last = max(self.there[name])
            if self.there[name][last] is not None:
                self.there[name][last + 1] = None
        for name, (version, state) in now.items():
            states = self.there.setdefault(name, {})
            assert version >= max(states, default=0)
            states[version] = state

    @precondition(lambda self: not self.running)
    @rule(thread=THREADS, given=st.dictionaries(st.sampled_from("xy"), VALUES, max_size=2))
    def begin_run(self, thread: str, given: dict[str, Any]) -> None:
        run, _ = self.run(self.store.begin(str(uuid.uuid4()), thread, REVISIONS[0], given))
        self.running[run.id] = run
        self._changed(f"run/{run.id}", {"status": "Running", "input": given, "output": None, "steps": 0})
        if f"thread/{thread}" not in self.there:
            self._changed(f"thread/{thread}", {"state": {}})

    @precondition(lambda self: self.running)
    @rule(value=VALUES, steps=st.integers(0, 3))
    def succeed(self, value: Any, steps: int) -> None:
        _, run = self.running.popitem()
        assert self.run(self.store.succeed(run, {"v": value}, steps)) is not None
        self._changed(f"run/{run.id}", {"status": "Succeeded", "output": {"v": value}, "steps": steps})
        self._changed(f"thread/{run.thread}", {"state": {"v": value}})

    @precondition(lambda self: self.running)
    @rule(why=st.text('aü"', max_size=3))
    def fail(self, why: str) -> None:
        _, run = self.running.popitem()
        assert self.run(self.store.fail(run, RunFailure(Code.INTERNAL, why), 1)) is not None
        self._changed(f"run/{run.id}", {"status": "Failed", "steps": 1})

    @rule()
    def relay(self) -> None:
        self.run(self._relay())

    async def _relay(self) -> None:
        while await self.manager._relay.round():
            pass
        self.relayed_at = {name: max(states) for name, states in self.there.items()}

    @rule()
    def lose_valkey(self) -> None:
        self.run(self.client.flushdb())
        self.live.clear()

    @rule()
    def lose_functions(self) -> None:
        self.run(self.client.function_flush("SYNC"))

    @rule(data=st.data())
    def lose_copies(self, data: st.DataObject) -> None:
        there = self.run(self.manager._copies.aggregates())
        if there:
            self.run(self.manager._copies.forget(data.draw(st.lists(st.sampled_from(there), min_size=1, unique=True))))

    @rule()
    def rebuild(self) -> None:
        report = self.run(self.manager.rebuild())
        assert (report.problem, report.rows, report.copies) == ("", [], [])
        self.relayed_at = {name: max(states) for name, states in self.there.items()}

    @rule(data=st.data(), consistency=CONSISTENCIES, bound=st.sampled_from((0.0, 60.0)))
    def read(self, data: st.DataObject, consistency: Consistency, bound: float) -> None:
        name = data.draw(st.sampled_from([*self.there, "run/none", "thread/none"]))
        reply = self.run(self.manager.read(name, consistency, bound))
        states = self.there.get(name, {0: None})
        newest = max(states)
        least = self.relayed_at.get(name, 0) if reply.age else newest
        if reply.state is None:
            assert any(states.get(version) is None for version in range(least, newest + 1))
            return
        assert least <= reply.state.version <= newest
        assert reply.age == 0.0 or (consistency is Consistency.BOUNDED and reply.source is Source.COPY)
        wanted = states.get(reply.state.version)
        if wanted is not None or reply.state.version in states:
            assert wanted is not None
            assert {field: reply.state.fields[field] for field in wanted} == wanted

    @rule(name=SESSIONS, value=VALUES, off=st.sampled_from((None, 0, 0, 1, -1)))
    def write_live(self, name: str, value: Any, off: int | None) -> None:
        version, fields = self.live.get(name, (0, {}))
        expected = ANY if off is None or version + off < 0 else version + off
        try:
            assert self.run(self.manager.volatile.write(name, "Set", {"v": value}, expected=expected)) == version + 1
        except StateSyncFailed:
            assert off
            assert expected != ANY
        else:
            assert expected in (ANY, version)
            self.live[name] = (version + 1, {**fields, "v": value})

    @rule(name=SESSIONS)
    def read_live(self, name: str) -> None:
        state = self.run(self.manager.volatile.read(name))
        assert (None if state is None else (state.version, state.fields)) == self.live.get(name)

    @rule(name=SESSIONS)
    def remove_live(self, name: str) -> None:
        self.run(self.manager.volatile.remove(name))
        self.live.pop(name, None)

    @invariant()
    def a_watch_tells_all(self) -> None:
        if not self.there or sum(map(len, self.there.values())) % 5:
            return

        async def all_of_it() -> list[tuple[str, int]]:
            async with self.bed.lake.connection() as connection:
                row = await revisions.resource_row(connection, self.resource)
                found = await connection.execute("SELECT last FROM number_events(%s, 1000)", (row,))
                last: int = (await found.fetchone())[0]  # type: ignore[index]
            told = []
            async for change in self.manager.watch(0):
                told.append((change.aggregate, change.version))
                assert change.position == len(told)
                if change.position == last:
                    break
            return told

        versions: dict[str, int] = {}
        for name, version in self.run(all_of_it()):
            assert version == versions.get(name, 0) + 1
            versions[name] = version
        assert versions == {name: max(states) for name, states in self.there.items()}


def test_the_state_is_what_a_dictionary_would_be(bed: Bed) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    chosen = settings(max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=checks)
    run_state_machine_as_test(lambda: Model(bed), settings=chosen)  # type: ignore[arg-type]
