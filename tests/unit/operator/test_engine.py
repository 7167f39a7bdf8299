from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from cortex_operator.cluster import (
    Cache,
    Event,
    EventType,
    Forbidden,
    MemoryCluster,
    Object,
    ObjectKey,
    Selection,
    Unavailable,
)
from cortex_operator.engine import (
    Backoff,
    Backoffs,
    Engine,
    Feed,
    Outcome,
    Pace,
    Pass,
    Source,
    metrics_hook,
    watch_feed,
    watch_queue,
)
from cortex_operator.engine.looks import Looks
from objects import a_config_map
from prometheus_client import CollectorRegistry

QUICK = Backoffs((), otherwise=Backoff(0.01, 0.02))


class Clock:
    """What the engine and its looks take for the time: a test moves it, and a process that stands still does not."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("engine", "looks"):
        monkeypatch.setattr(f"cortex_operator.engine.{module}.time", clock)
    return clock


def names(event: Event) -> Iterator[str]:
    yield event.object["metadata"]["name"]


@asynccontextmanager
async def running(engine: Engine[str], feed: Feed[str] | None = None) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(engine.run(stop, feed or watch_feed(engine._cluster)))
    yield
    stop.set()
    await asyncio.wait_for(task, 60)


def an_engine(cluster: MemoryCluster, reconcile: Callable[[str], object], **options: object) -> Engine[str]:
    return Engine(cluster, [Source("v1", "ConfigMap", names)], reconcile, backoffs=QUICK, **options)  # type: ignore[arg-type]


async def test_what_is_there_and_what_changes_is_reconciled_and_what_fails_is_tried_again() -> None:
    cluster, passes = MemoryCluster(), asyncio.Queue[Pass]()
    await cluster.apply(a_config_map("first"))
    failing = {"second": 2}

    async def reconcile(key: str) -> float | None:
        if failing.get(key, 0):
            failing[key] -= 1
            raise RuntimeError("not yet")
        return None

    async with running(an_engine(cluster, reconcile, hooks=[passes.put_nowait])), asyncio.timeout(60):
        assert (await passes.get()).key == "first"
        await cluster.apply(a_config_map("second"))
        found = [await passes.get() for _ in range(3)]
    assert [(p.key, p.outcome, p.attempt) for p in found] == [
        ("second", Outcome.FAILED, 1),
        ("second", Outcome.FAILED, 2),
        ("second", Outcome.DONE, 0),
    ]


async def test_no_event_is_a_reason_to_ask_sooner_than_the_api_server_wants() -> None:
    cluster, passes, times = MemoryCluster(), asyncio.Queue[Pass](), list[float]()
    await cluster.apply(a_config_map())

    async def reconcile(key: str) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise Unavailable("too many requests", retry_after=0.2)

    async with running(an_engine(cluster, reconcile, hooks=[passes.put_nowait])), asyncio.timeout(60):
        assert (await passes.get()).outcome is Outcome.FAILED
        await cluster.apply(a_config_map(a="1"))
        assert (await passes.get()).outcome is Outcome.DONE
    assert times[1] - times[0] >= 0.2


async def test_a_key_comes_back_after_the_time_that_its_pass_says() -> None:
    cluster, done = MemoryCluster(), asyncio.Queue[str]()
    await cluster.apply(a_config_map())

    async def reconcile(key: str) -> float | None:
        done.put_nowait(key)
        return 0.01

    async with running(an_engine(cluster, reconcile)), asyncio.timeout(60):
        for _ in range(3):
            await done.get()


async def test_a_poisoned_key_and_one_that_hangs_do_not_keep_others_waiting() -> None:
    cluster, done = MemoryCluster(), asyncio.Queue[str]()
    for name in ("a-hangs", "a-poisoned", *(f"good-{n}" for n in range(50))):
        await cluster.apply(a_config_map(name))

    async def reconcile(key: str) -> float | None:
        if key == "a-hangs":
            await asyncio.Event().wait()
        if key == "a-poisoned":
            raise RuntimeError("always")
        done.put_nowait(key)
        return None

    engine = an_engine(cluster, reconcile, pace=Pace(workers=2, pass_limit=0.5), hooks=[])
    async with running(engine), asyncio.timeout(60):
        assert {await done.get() for _ in range(50)} == {f"good-{n}" for n in range(50)}


async def test_a_pass_that_takes_too_long_is_ended_and_counts_as_failed() -> None:
    cluster, passes = MemoryCluster(), asyncio.Queue[Pass]()
    await cluster.apply(a_config_map())

    async def reconcile(key: str) -> float | None:
        await asyncio.Event().wait()
        return None

    engine = an_engine(cluster, reconcile, pace=Pace(pass_limit=0.01), hooks=[passes.put_nowait])
    async with running(engine), asyncio.timeout(60):
        assert isinstance((await passes.get()).error, TimeoutError)


async def test_a_watch_that_breaks_is_begun_again() -> None:
    class Flaky(MemoryCluster):
        broken = 0

        async def watch(self, *about: str, namespace: str | None = None) -> AsyncGenerator[Event, None]:
            if self.broken < 1:
                self.broken += 1
                raise Unavailable("the API server went away")
            async for event in super().watch(*about, namespace=namespace):
                yield event

    cluster, done = Flaky(), asyncio.Queue[str]()
    await cluster.apply(a_config_map())

    async def reconcile(key: str) -> float | None:
        done.put_nowait(key)
        return None

    async with running(an_engine(cluster, reconcile)), asyncio.timeout(60):
        assert await done.get() == "settings"


async def deaf(engine: Engine[str]) -> None:
    """A feed that tells nothing."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("suspected", [False, True])
async def test_what_the_watch_missed_is_found_by_a_look_from_time_to_time_or_when_something_may_be_missing(
    suspected: bool,
) -> None:
    cluster, done = MemoryCluster(), asyncio.Queue[str]()
    await cluster.apply(a_config_map("there"))

    async def reconcile(key: str) -> float | None:
        done.put_nowait(key)
        return None

    pace = Pace(resync=600.0 if suspected else 0.01, settle=0.01)
    engine = an_engine(cluster, reconcile, pace=pace)
    async with running(engine, deaf), asyncio.timeout(60):
        assert await done.get() == "there"
        await cluster.apply(a_config_map("new"))
        await cluster.delete(ObjectKey("v1", "ConfigMap", "default", "there"))
        if suspected:
            engine.suspect(engine.sources[0])
        assert {await done.get(), await done.get()} == {"new", "there"}


async def test_no_pass_begins_before_everything_was_looked_at_and_a_look_that_fails_is_tried_again() -> None:
    class Shy(MemoryCluster):
        scans = 0

        async def scan(
            self, api_version: str, kind: str, *, labels: dict[str, str] | None = None
        ) -> AsyncGenerator[list[Object], None]:
            self.scans += 1
            if self.scans == 1:
                raise Unavailable("not yet")
            async for page in super().scan(api_version, kind, labels=labels):
                yield page

    cluster, cache, known = Shy(), Cache({("v1", "ConfigMap"): Selection()}), asyncio.Queue[bool]()
    await cluster.apply(a_config_map())

    async def reconcile(key: str) -> float | None:
        known.put_nowait(cache.follows("v1", "ConfigMap"))
        return None

    engine = an_engine(cluster, reconcile, cache=cache)
    async with running(engine), asyncio.timeout(60):
        assert not engine.filled.is_set()
        assert await known.get()
        assert cluster.scans == 2


async def test_an_object_of_which_nothing_can_be_told_is_logged_once_and_all_else_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster, done = MemoryCluster(), asyncio.Queue[str]()
    for name in ("bad", "good"):
        await cluster.apply(a_config_map(name))

    def keys(event: Event) -> Iterator[str]:
        if event.object["metadata"]["name"] == "bad":
            raise KeyError("of a kind that nobody thought of")
        return names(event)

    async def reconcile(key: str) -> float | None:
        done.put_nowait(key)
        return None

    engine = Engine(cluster, [Source("v1", "ConfigMap", keys)], reconcile, pace=Pace(resync=0.01))

    def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.exc_info]

    async with running(engine), asyncio.timeout(60):
        assert await done.get() == "good"
        for name in ("bad", "later"):
            await cluster.apply(a_config_map(name, a="1"))
        assert await done.get() == "later"
        await asyncio.sleep(0.1)  # several looks
        assert len(told()) == 1
        assert told()[0].startswith("ConfigMap default/bad is passed over")
        await cluster.delete(ObjectKey("v1", "ConfigMap", "default", "bad"))
        while engine._untold:  # noqa: ASYNC110 - a watch tells of both in one when they come together
            await asyncio.sleep(0.005)
        await cluster.apply(a_config_map("bad"))
        while len(told()) == 1:  # noqa: ASYNC110 - nothing tells of what is logged
            await asyncio.sleep(0.005)
    assert engine.unready() == ""


class Blind(MemoryCluster):
    """A cluster of which nothing can be listed."""

    error: Exception | None = None
    scans = 0

    async def scan(
        self, api_version: str, kind: str, *, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[list[Object], None]:
        self.scans += 1
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        yield []


async def never(key: str) -> None:
    raise AssertionError(key)


@pytest.mark.parametrize(
    ("error", "words", "hangs"),
    [
        (None, " s", True),
        (KeyError("kind"), " s; last error: KeyError: 'kind'", True),
        (Unavailable("the API server is away"), " s; last error: the API server is away", False),
        (Forbidden("may not list"), " s; last error: may not list", False),
    ],
)
async def test_a_first_look_that_does_not_end_is_told_and_hangs_unless_the_api_server_says_why(
    error: Exception | None, words: str, hangs: bool, clock: Clock
) -> None:
    cluster = Blind()
    cluster.error = error
    engine = an_engine(cluster, never)
    async with running(engine, deaf), asyncio.timeout(60):
        await said(lambda: "begun" if cluster.scans else "")
        assert (engine.unready(), engine.stuck()) == (f"the first look at ConfigMap is outstanding for 0{words}", "")
        clock.now = 200.0
        await said(lambda: "again" if cluster.scans > 1 or error is None else "")
        assert engine.unready() == f"the first look at ConfigMap is outstanding for 200{words}"
        assert engine.stuck() == (engine.unready() if hangs else "")


async def test_a_first_look_that_gets_on_does_not_hang_however_long_it_takes(clock: Clock) -> None:
    told: list[str] = []

    class Slow(MemoryCluster):
        async def scan(
            self, api_version: str, kind: str, *, labels: dict[str, str] | None = None
        ) -> AsyncGenerator[list[Object], None]:
            for name in "abcdefgh":
                clock.now += 100.0
                told.append(engine.stuck())
                yield [await self.get(ObjectKey("v1", "ConfigMap", "default", name))]

    cluster = Slow()
    for name in "abcdefgh":
        await cluster.apply(a_config_map(name))

    async def reconcile(key: str) -> None:
        return None

    engine = an_engine(cluster, reconcile, pace=Pace(pass_limit=60.0))
    async with running(engine, deaf), asyncio.timeout(60):
        await engine.filled.wait()
    assert told == [""] * 8
    assert engine.unready() == ""


async def test_an_object_that_comes_back_as_it_is_known_concerns_only_those_of_the_echo() -> None:
    cluster, cache, done = MemoryCluster(), Cache({("v1", "ConfigMap"): Selection()}), asyncio.Queue[str]()

    async def reconcile(key: str) -> float | None:
        done.put_nowait(key)
        return None

    source = Source("v1", "ConfigMap", names, echo=lambda event: ["echo"])
    engine = Engine(cluster, [source], reconcile, cache=cache)
    async with running(engine, deaf), asyncio.timeout(60):
        await cluster.apply(a_config_map())
        written = await cluster.get(ObjectKey.of(a_config_map()))
        cache.wrote(written)
        engine.tell(source, Event(EventType.MODIFIED, written))
        assert await done.get() == "echo"
        await cluster.apply(a_config_map(a="1"))
        engine.tell(source, Event(EventType.MODIFIED, await cluster.get(ObjectKey.of(written))))
        assert await done.get() == "settings"
        assert done.empty()


@pytest.mark.parametrize("others", [False, True])
async def test_what_a_watch_shows_of_a_write_before_its_answer_is_no_news_and_what_others_wrote_is(
    others: bool,
) -> None:
    cluster, cache, done = MemoryCluster(), Cache({("v1", "ConfigMap"): Selection()}), asyncio.Queue[str]()

    async def reconcile(key: str) -> float | None:
        done.put_nowait(key)
        return None

    source = Source("v1", "ConfigMap", names)
    engine = Engine(cluster, [source], reconcile, cache=cache)
    async with running(engine, deaf), asyncio.timeout(60):
        await cluster.apply(a_config_map())
        answer = await cluster.get(ObjectKey.of(a_config_map()))
        with cache.writing(ObjectKey.of(answer)):
            engine.tell(source, Event(EventType.MODIFIED, answer))
            if others:
                await cluster.apply(a_config_map(a="1"))
                engine.tell(source, Event(EventType.MODIFIED, await cluster.get(ObjectKey.of(answer))))
            cache.wrote(answer)
            await asyncio.sleep(0)
            assert engine.queue.depth == 0
        engine.queue.add("end")
        assert await done.get() == ("settings" if others else "end")
        known = cache.get(ObjectKey.of(answer))
        assert known is not None
        assert known.get("data", {}) == ({"a": "1"} if others else answer.get("data", {}))


async def test_a_pass_that_does_not_let_itself_be_ended_is_told_until_it_has_ended(clock: Clock) -> None:
    cluster, refused, release = MemoryCluster(), asyncio.Event(), asyncio.Event()
    await cluster.apply(a_config_map())

    async def reconcile(key: str) -> float | None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                refused.set()
        return None

    engine = an_engine(cluster, reconcile, pace=Pace(workers=1, pass_limit=0.02))
    assert engine.stuck() == ""
    async with running(engine), asyncio.timeout(60):
        await refused.wait()
        assert engine.stuck() == ""
        clock.now = 200.0
        assert "a pass over settings has run for 200 s" in engine.stuck()
        release.set()
        await said(lambda: "on" if not engine.stuck() else "")


async def test_keys_that_nobody_takes_are_told(clock: Clock) -> None:
    async def reconcile(key: str) -> float | None:
        return None

    engine = an_engine(MemoryCluster(), reconcile, pace=Pace(pass_limit=0.01))
    engine.filled.set()
    engine.queue.add("settings")
    assert engine.stuck() == ""
    clock.now = 200.0
    async with asyncio.timeout(60):
        told = await said(engine.stuck)
    assert told.startswith("no pass has ended for")
    assert told.endswith("keys that wait: 1")


async def said(words: Callable[[], str]) -> str:
    while not (found := words()):  # noqa: ASYNC110 - nothing tells of what is stuck
        await asyncio.sleep(0.005)
    return found


async def test_stopping_lets_a_pass_that_has_begun_end() -> None:
    cluster, begun, ended = MemoryCluster(), asyncio.Event(), []
    await cluster.apply(a_config_map())

    async def reconcile(key: str) -> float | None:
        begun.set()
        await asyncio.sleep(0.02)
        ended.append(key)
        return None

    async with running(an_engine(cluster, reconcile)):
        await asyncio.wait_for(begun.wait(), 60)
    assert ended == ["settings"]


@pytest.mark.parametrize("fails", [False, True])
async def test_passes_and_the_queue_are_measured(fails: bool) -> None:
    cluster, registry, passes = MemoryCluster(), CollectorRegistry(), asyncio.Queue[Pass]()
    await cluster.apply(a_config_map())

    async def reconcile(key: str) -> float | None:
        if fails:
            raise RuntimeError("always")
        return None

    hooks = [metrics_hook(registry, lambda key: "ConfigMap"), passes.put_nowait]
    engine = an_engine(cluster, reconcile, hooks=hooks)
    watch_queue(registry, engine.queue)
    async with running(engine):
        await asyncio.wait_for(passes.get(), 60)
        assert registry.get_sample_value("cortex_operator_queue_depth") == 0
    labels = {"kind": "ConfigMap", "outcome": "Failed" if fails else "Done"}
    assert (registry.get_sample_value("cortex_operator_passes_total", labels) or 0) >= 1


async def test_passes_that_never_wait_leave_others_their_turn() -> None:
    cluster, turns, seen, all_seen = MemoryCluster(), list[int](), list[int](), asyncio.Event()
    for number in range(20):
        await cluster.apply(a_config_map(f"m-{number}"))

    async def reconcile(_: str) -> None:
        seen.append(len(turns))
        if len(seen) == 20:
            all_seen.set()

    async def count() -> None:
        while True:
            turns.append(0)
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with running(an_engine(cluster, reconcile, pace=Pace(workers=1))), asyncio.timeout(60):
        await all_seen.wait()
    counting.cancel()
    assert len(set(seen)) == 20


async def test_looks_that_are_cancelled_the_moment_that_something_is_suspected_end() -> None:
    cache = Cache({("v1", "ConfigMap"): Selection()})
    looks = Looks(cache, ("v1", "ConfigMap"), lambda: MemoryCluster().scan("v1", "ConfigMap"), print, 60.0, 0.0)
    running = asyncio.create_task(looks.run())
    await looks.first.wait()
    await asyncio.sleep(0)
    looks.suspect()
    await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=60)
    assert done
    assert running.cancelled()
