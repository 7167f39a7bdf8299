"""The same again counts up; floods are cut; what is told reaches the API server, whatever that does."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cortex_kinds.events import EventReason, Notice
from cortex_kube.client import Api
from cortex_operator.cluster import events, log_notices, series
from cortex_operator.cluster.events import EventRecorder
from cortex_operator.cluster.series import EventBook, EventWrite
from kubeconfig import kubeconfig
from prometheus_client import CollectorRegistry

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PAPERS = {
    "apiVersion": "cortex.datapunk.io/v1alpha1",
    "kind": "CortexIndex",
    "metadata": {"name": "papers", "namespace": "search", "uid": "u-1", "resourceVersion": "7"},
}
LOST = Notice(EventReason.DEPENDENCY_MISSING, "LakeUnreachable: 10.0.0.9:5432 does not answer")
FOUND = Notice(EventReason.DEPENDENCIES_FOUND, "everything that it needs answers")


def entered(book: EventBook, notice: Notice, after: timedelta = timedelta()) -> EventWrite:
    write = book.enter(PAPERS, notice, NOW + after)
    assert write is not None
    return write


def test_an_event_says_what_of_whom_and_by_whom() -> None:
    write = entered(EventBook("operator-0"), LOST)
    assert (write.namespace, write.repeats) == ("search", False)
    name = write.body.pop("metadata")["name"]
    assert name == write.name
    assert name.startswith("papers.")
    assert write.body == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "eventTime": "2026-06-01T12:00:00.000000Z",
        "reportingController": "cortex.datapunk.io/operator",
        "reportingInstance": "operator-0",
        "action": "Reconcile",
        "reason": "DependencyMissing",
        "type": "Warning",
        "note": "LakeUnreachable: 10.0.0.9:5432 does not answer",
        "regarding": {
            "apiVersion": "cortex.datapunk.io/v1alpha1",
            "kind": "CortexIndex",
            "namespace": "search",
            "name": "papers",
            "uid": "u-1",
        },
    }


def test_the_same_again_counts_up_the_first() -> None:
    book = EventBook("operator-0")
    first = entered(book, LOST)
    entered(book, FOUND)
    again = entered(book, LOST, timedelta(minutes=5))
    assert (again.name, again.repeats) == (first.name, True)
    assert again.body == {"series": {"count": 2, "lastObservedTime": "2026-06-01T12:05:00.000000Z"}}
    assert entered(book, LOST, timedelta(minutes=30)).body["series"]["count"] == 3


def test_long_after_it_is_told_anew() -> None:
    book = EventBook("operator-0")
    first = entered(book, LOST)
    later = entered(book, LOST, series.REPEATS + timedelta(seconds=1))
    assert not later.repeats
    assert later.name != first.name


def test_another_note_and_another_resource_are_events_of_their_own() -> None:
    book = EventBook("operator-0")
    entered(book, LOST)
    assert not entered(book, Notice(LOST.reason, "SecretNotFound: cortex-lake")).repeats
    other = {**PAPERS, "metadata": {**PAPERS["metadata"], "uid": "u-2"}}  # type: ignore[dict-item]
    write = book.enter(other, LOST, NOW)
    assert write is not None
    assert not write.repeats


def test_a_resource_that_flaps_has_a_budget_which_grows_back_and_the_count_stays_true() -> None:
    book = EventBook("operator-0")
    written = [book.enter(PAPERS, LOST, NOW) for _ in range(series.BURST + 10)]
    assert [write is not None for write in written] == [True] * series.BURST + [False] * 10
    other = {**PAPERS, "metadata": {**PAPERS["metadata"], "uid": "u-2"}}  # type: ignore[dict-item]
    assert book.enter(other, LOST, NOW) is not None
    later = entered(book, LOST, series.REFILL)
    assert later.body["series"]["count"] == series.BURST + 11
    assert book.enter(PAPERS, LOST, NOW + series.REFILL) is None


def test_a_long_note_is_cut_to_the_bytes_that_the_api_server_takes() -> None:
    note = entered(EventBook("operator-0"), Notice(LOST.reason, "é" * 1024)).body["note"]
    assert note == "é" * 512


class Server:
    """An API server that stores Events, unless it is told to answer otherwise."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: list[int] = []
        self.held = asyncio.Event()
        self.held.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await self.held.wait()
        self.asked.append((request.method, request.path, await request.json()))
        status = self.answers.pop(0) if self.answers else 200
        return web.json_response({"kind": "Status", "code": status, "reason": "X", "message": "a fault"}, status=status)


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(events, "_TIMEOUT", 60.0)  # a busy machine is no outage
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with await Api.connect(kubeconfig=kubeconfig(tmp_path / "config", url)) as made:
        yield made
    await runner.cleanup()


class Told:
    """A recorder and its metrics."""

    def __init__(self, api: Api) -> None:
        self.registry = CollectorRegistry()
        self.fenced = 0
        self.recorder = EventRecorder(api, "operator-0", self._fence, self.registry)

    def _fence(self) -> None:
        self.fenced += 1

    def measure(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"cortex_operator_{name}", labels) or 0.0

    async def all(self, *notices: Notice) -> None:
        self.recorder.record(PAPERS, notices)
        self.recorder.start()
        await self.recorder._queue.join()
        await self.recorder.close()


async def test_each_is_one_request_and_the_fence_is_asked_before_it_and_as_it_leaves(api: Api, server: Server) -> None:
    told = Told(api)
    await told.all(LOST, FOUND, LOST)
    events = "/apis/events.k8s.io/v1/namespaces/search/events"
    name = server.asked[0][2]["metadata"]["name"]
    assert [(method, path) for method, path, _ in server.asked] == [
        ("POST", events),
        ("POST", events),
        ("PATCH", f"{events}/{name}"),
    ]
    assert told.fenced == 3 * len(("before", "head leaves", "body leaves"))
    assert told.measure("events_total") == 3
    assert told.measure("events_waiting") == 0


async def test_an_event_that_has_expired_is_told_anew(api: Api, server: Server) -> None:
    server.answers = [200, 404]
    await Told(api).all(LOST, LOST)
    assert [method for method, _, _ in server.asked] == ["POST", "PATCH", "POST"]


async def test_an_outage_is_waited_for_and_a_try_that_had_arrived_counts(
    api: Api, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_WAITS", (0.0, 0.0))
    server.answers = [503, 409]
    told = Told(api)
    await told.all(LOST, FOUND)
    assert [body["reason"] for _, _, body in server.asked] == ["DependencyMissing"] * 2 + ["DependenciesFound"]
    assert told.measure("events_dropped_total", cause="Refused") == 0


async def test_a_refusal_loses_that_event_alone(api: Api, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.answers = [403, 403]
    told = Told(api)
    await told.all(LOST, FOUND, Notice(EventReason.READY, "1 pod serves"))
    assert told.measure("events_dropped_total", cause="Refused") == 2
    assert told.measure("events_total") == 1
    assert len([line for line in caplog.messages if "is not written" in line]) == 1


async def test_recording_returns_at_once_and_what_does_not_fit_is_counted(
    api: Api, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_QUEUE", 2)
    server.held.clear()
    told = Told(api)
    told.recorder.start()
    told.recorder.record(PAPERS, [LOST, FOUND, LOST, FOUND])
    assert told.measure("events_dropped_total", cause="QueueFull") == 2
    assert told.measure("events_waiting") == 2
    async with asyncio.timeout(30):
        await told.recorder.close()
    assert server.asked == []


class Resource(dict[str, Any]):
    """One of which a test sees whether somebody still has it."""


async def test_what_waits_does_not_keep_the_resource(api: Api, server: Server) -> None:
    told, resource = Told(api), Resource(PAPERS)
    kept = weakref.ref(resource)
    told.recorder.record(resource, [LOST])
    del resource
    gc.collect()
    assert told.measure("events_waiting") == 1
    assert kept() is None


async def test_floods_of_one_resource_are_counted(api: Api, server: Server) -> None:
    told = Told(api)
    await told.all(*[LOST] * (series.BURST + 1))
    assert told.measure("events_dropped_total", cause="TooMany") == 1
    assert len(server.asked) == series.BURST


def test_without_an_api_server_the_log_tells(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    log_notices(PAPERS, [LOST])
    expected = "CortexIndex search/papers: DependencyMissing: LakeUnreachable: 10.0.0.9:5432 does not answer"
    assert caplog.messages == [expected]
