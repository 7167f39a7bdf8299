"""One Lease and its contenders on clocks of their own: never two of them may act at once."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cortex_operator.cluster import Conflict, Object, ObjectKey, Unavailable
from cortex_operator.engine import Election, Lease, Terms
from cortex_operator.engine.lease import LeaseLost

KEY = ObjectKey("coordination.k8s.io/v1", "Lease", "cortex-system", "cortex-operator")
TERMS = Terms(15)


class Moment:
    """What a coroutine awaits while others may run; it is resumed with how the request goes on."""

    def __await__(self) -> Generator[None, str, str]:
        return (yield)


class Server:
    """Keeps the record. With `moments` each request may be slow, lose its answer, or arrive after it was given up."""

    key = KEY

    def __init__(self, moments: bool = False) -> None:
        self.record: Object | None = None
        self.late: list[Callable[[], object]] = []
        self.version = 0
        self._moments = moments

    async def read(self) -> Object | None:
        await self._moment()
        found = self.record
        await self._answer()
        return found

    async def write(self, spec: Object, over: Object | None) -> Object:
        if await self._moment() == "late":
            self.late.append(lambda: self.replace(spec, over))
            raise Unavailable("given up")
        written = self.replace(spec, over)
        await self._answer()
        return written

    def replace(self, spec: Object, over: Object | None) -> Object:
        if (over or {}).get("metadata") != (self.record or {}).get("metadata"):
            raise Conflict("another version")
        self.version += 1
        self.record = {"metadata": {"name": KEY.name, "resourceVersion": str(self.version)}, "spec": spec}
        return self.record

    async def _answer(self) -> None:
        if await self._moment() == "lost":
            raise Unavailable("no answer")

    async def _moment(self) -> str:
        return await Moment() if self._moments else ""


class Contender:
    """Lives as the operator does: takes the Lease, renews it, and ends when it is lost; then another one begins."""

    def __init__(self, server: Server, name: str, clock: Callable[[], float]) -> None:
        self._server, self._name, self._clock, self._lives = server, name, clock, 0
        self._begin()

    def _begin(self) -> None:
        self._lives += 1
        self.lease = Lease(self._server, f"{self._name}{self._lives}", TERMS, self._clock)
        self._course: Coroutine[None, str, None] = self._live(self.lease)
        self._course.send(None)

    def go_on(self, how: str) -> None:
        """To the next moment. A process that is killed does not tell anybody."""
        if how == "killed":
            self._course.close()
            self._begin()
            return
        try:
            self._course.send(how)
        except StopIteration:
            self._begin()

    async def _live(self, lease: Lease) -> None:
        while True:
            how = await Moment()
            led = lease.held()
            try:
                if how == "release":
                    await lease.release()
                    return
                await (lease.renew() if led else lease.acquire())
            except LeaseLost:
                return
            except (Conflict, Unavailable):
                pass
            if led and not lease.held():
                return


PASSES = (0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.5, 2.0)
HOWS = (*[""] * 20, "lost", "late", "release", "killed")
Step = tuple[int, float, str, bool]


def contest(steps: list[Step], observe: Callable[[list[bool]], None]) -> None:
    """Three contenders, of which the third's clock is fast and the second's slow."""
    now = 0.0
    server = Server(moments=True)
    rates = (1.0, 0.9, 1.1)
    contenders = [Contender(server, "abc"[i], lambda r=rates[i], i=i: 1000 * i + r * now) for i in range(3)]  # type: ignore[misc]
    for who, passes, how, arrives in steps:
        now += passes
        observe([contender.lease.held() for contender in contenders])
        if arrives and server.late:
            _deliver(server)
        contenders[who].go_on(how)
        observe([contender.lease.held() for contender in contenders])
    for contender in contenders:
        contender._course.close()


def _deliver(server: Server) -> None:
    try:
        server.late.pop(0)()
    except Conflict:
        return


def test_never_two_hold_it_at_once() -> None:
    for seed in range(500):
        rng = random.Random(seed)
        steps = [(rng.randrange(3), rng.choice(PASSES), rng.choice(HOWS), rng.random() < 0.5) for _ in range(300)]

        def at_most_one(holds: list[bool], seed: int = seed) -> None:
            assert sum(holds) <= 1, f"seed {seed}"

        contest(steps, at_most_one)


def test_it_changes_hands_when_its_holder_dies_and_each_time_is_counted() -> None:
    """The contest above would pass if nobody ever held it."""
    seen: list[tuple[bool, ...]] = []
    contest([(step // 60 % 3, 0.5, "", False) for step in range(360)], lambda holds: seen.append(tuple(holds)))
    assert {holds.index(True) for holds in seen if any(holds)} == {0, 1, 2}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spec(server: Server) -> dict[str, Any]:
    assert server.record is not None
    found: dict[str, Any] = server.record["spec"]
    return found


async def test_the_record_is_as_kubernetes_has_it(server: Server, clock: Clock) -> None:
    lease = Lease(server, "a", TERMS, clock)
    assert await lease.acquire()
    first = spec(server)
    assert (first["holderIdentity"], first["leaseDurationSeconds"], first["leaseTransitions"]) == ("a", 15, 0)
    assert first["acquireTime"] == first["renewTime"]
    await lease.renew()
    assert spec(server)["acquireTime"] == first["acquireTime"]
    assert spec(server)["renewTime"] > first["renewTime"]
    await lease.release()
    assert (spec(server)["holderIdentity"], lease.held()) == ("", False)
    assert await Lease(server, "b", TERMS, clock).acquire()
    assert (spec(server)["holderIdentity"], spec(server)["leaseTransitions"]) == ("b", 1)


@pytest.mark.parametrize("arrives", ["before", "after", "never"])
async def test_what_was_asked_for_and_not_answered_is_released_too(server: Server, clock: Clock, arrives: str) -> None:
    before = Lease(server, "c", TERMS, clock)
    await before.acquire()
    await before.release()
    lease, begun, write = Lease(server, "a", TERMS, clock), asyncio.Event(), server.write

    async def unanswered(asked: dict[str, Any], over: Object | None) -> Object:
        if arrives == "before":
            server.replace(asked, over)
        server.late.append(lambda: server.replace(asked, over))
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    server.write = unanswered  # type: ignore[method-assign]
    asking = asyncio.create_task(lease.acquire())
    await begun.wait()
    asking.cancel()
    await asyncio.wait([asking])
    server.write = write  # type: ignore[method-assign]
    await lease.release()
    if arrives == "after":
        with pytest.raises(Conflict):
            server.late.pop()()
    assert (spec(server)["holderIdentity"], lease.held()) == ("", False)
    assert await Lease(server, "b", TERMS, clock).acquire()


async def test_who_never_asked_releases_nothing(server: Server, clock: Clock) -> None:
    first, second = Lease(server, "a", TERMS, clock), Lease(server, "b", TERMS, clock)
    await second.release()
    assert server.record is None
    await first.acquire()
    await second.acquire()
    before = server.record
    await second.release()
    assert server.record == before


async def test_a_term_ends_before_others_may_take_the_lease(server: Server, clock: Clock) -> None:
    first, second = Lease(server, "a", TERMS, clock), Lease(server, "b", TERMS, clock)
    await first.acquire()
    assert not await second.acquire()
    clock.now += 9.9
    assert first.held()
    clock.now += 0.2
    assert not first.held()
    with pytest.raises(LeaseLost, match="its term has ended"):
        await first.renew()
    assert not await second.acquire()
    clock.now += 4.9
    assert await second.acquire()


async def test_the_duration_of_the_holder_counts_not_one_s_own(server: Server, clock: Clock) -> None:
    await Lease(server, "a", Terms(60), clock).acquire()
    second = Lease(server, "b", TERMS, clock)
    for _ in range(2):
        assert not await second.acquire()
        clock.now += 59
    assert await second.acquire()


async def test_who_lost_it_says_to_whom(server: Server, clock: Clock) -> None:
    first, second = Lease(server, "a", TERMS, clock), Lease(server, "b", TERMS, clock)
    await first.acquire()
    spec(server)["holderIdentity"] = ""  # somebody's edit
    await second.acquire()
    with pytest.raises(LeaseLost, match="b holds it"):
        await first.renew()
    assert not first.held()


async def test_a_lease_that_vanishes_is_not_free_at_once(server: Server, clock: Clock) -> None:
    first, second = Lease(server, "a", TERMS, clock), Lease(server, "b", TERMS, clock)
    await first.acquire()
    await second.acquire()
    server.record = None
    assert not await second.acquire()
    clock.now += 15
    assert await second.acquire()


class Exits:
    """Which threads would have ended the process."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.came = asyncio.Event()

    def __call__(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.came.set()


@pytest.fixture
async def exits() -> Exits:
    return Exits()


@asynccontextmanager
async def an_election(server: Server, exits: Exits, duration: int) -> AsyncIterator[Election]:
    election = Election(Lease(server, "a", Terms(duration)), Terms(duration), exits)
    try:
        yield election
    finally:
        await election.resign()


async def test_a_thread_ends_the_process_when_the_event_loop_stands_still(server: Server, exits: Exits) -> None:
    async with an_election(server, exits, 1) as election:
        await election.win()
        end = time.monotonic() + 30
        while not exits.threads and time.monotonic() < end:
            time.sleep(0.05)  # noqa: ASYNC251 - the event loop stands still for longer than a term
        assert exits.threads[0] == "lease"


async def test_nothing_is_written_without_the_lease_but_the_process_ended(server: Server, exits: Exits) -> None:
    async with an_election(server, exits, 300) as election:
        election.fence()
        assert exits.threads == ["MainThread"]
        await election.win()
        election.fence()
        assert exits.threads == ["MainThread"]
    election.fence()
    assert exits.threads == ["MainThread"] * 2


async def test_a_leader_whose_lease_was_taken_ends_before_its_term(server: Server, exits: Exits) -> None:
    async with an_election(server, exits, 18) as election:
        await election.win()
        server.record = {"metadata": {"resourceVersion": "other"}, "spec": {"holderIdentity": "b"}}
        await asyncio.wait_for(exits.came.wait(), 30)
        assert exits.threads[0] == "MainThread"
        assert election.follows().endswith("is held by b")


async def test_an_election_that_asks_no_more_is_stuck(server: Server, exits: Exits) -> None:
    async with an_election(server, exits, 300) as election:
        await election.win()
        assert election.stuck() == ""
        election._tried -= 901
        assert "has not been asked for for 901 s" in election.stuck()
