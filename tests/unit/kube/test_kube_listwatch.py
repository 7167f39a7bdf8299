"""A collection is followed through gaps, outages and refusals; trouble is told once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from cortex_kube import listwatch
from cortex_kube.client import Api


class Store:
    """Pods with versions, behind the fake server: lists and watches as the API server does."""

    def __init__(self, server: Any) -> None:
        self.version = 10
        self.pods: dict[str, int] = {}
        self.events: list[tuple[int, str, str]] = []
        self.oldest = 0
        self.lists = self.watches = 0
        self.refusal: tuple[int, str] | None = None
        self.refuse_watch: tuple[int, str] | None = None
        self.cutting = False
        self._changed = asyncio.Event()
        self._cut = asyncio.Event()
        server.answer = self._answer

    def put(self, name: str) -> None:
        self._change("MODIFIED" if name in self.pods else "ADDED", name)
        self.pods[name] = self.version

    def delete(self, name: str) -> None:
        del self.pods[name]
        self._change("DELETED", name)

    def cut(self) -> None:
        """Ends all watches."""
        self._cut.set()
        self._cut = asyncio.Event()

    def compact(self) -> None:
        """Versions until now are too old to watch from."""
        self.version += 5
        self.oldest = self.version
        self.events.clear()

    def _change(self, type_: str, name: str) -> None:
        self.version += 1
        self.events.append((self.version, type_, name))
        self._changed.set()
        self._changed = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        watch = "watch" in request.query
        refusal = self.refusal or (self.refuse_watch if watch else None)
        if refusal is not None:
            return web.json_response({"message": refusal[1]}, status=refusal[0])
        return await (self._watch(request) if watch else self._list())

    async def _list(self) -> web.StreamResponse:
        self.lists += 1
        items = [{"metadata": {"name": name, "resourceVersion": str(at)}} for name, at in self.pods.items()]
        metadata = {"resourceVersion": str(self.version)}
        return web.json_response({"apiVersion": "v1", "kind": "PodList", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watches += 1
        at, cut = int(request.query["resourceVersion"]), self._cut
        reply = web.StreamResponse()
        await reply.prepare(request)
        if at < self.oldest:
            await self._write(reply, "ERROR", {"code": 410, "message": "too old"})
            return reply
        while not cut.is_set() and not self.cutting:
            changed = self._changed
            for version, type_, name in self.events:
                if version > at:
                    at = version
                    metadata = {"name": name, "resourceVersion": str(version)}
                    await self._write(reply, type_, {"metadata": metadata})
            waits = [asyncio.ensure_future(event.wait()) for event in (changed, cut)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        return reply

    async def _write(self, reply: web.StreamResponse, type_: str, item: dict[str, Any]) -> None:
        await reply.write(json.dumps({"type": type_, "object": item}).encode() + b"\n")


class Follower:
    """What has been heard."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.lists = 0
        self.troubles: list[str | None] = []
        self.fails_on = ""

    def on_list(self, items: list[dict[str, Any]]) -> None:
        self.lists += 1
        self.known = {item["metadata"]["name"] for item in items}

    def on_event(self, type_: str, item: dict[str, Any]) -> None:
        name = item["metadata"]["name"]
        if name == self.fails_on:
            self.fails_on = ""
            raise ZeroDivisionError
        (self.known.discard if type_ == "DELETED" else self.known.add)(name)

    def on_trouble(self, error: Exception | None) -> None:
        self.troubles.append(type(error).__name__ if error else None)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listwatch, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(listwatch, "_MOST_SECONDS", 0.05)
    monkeypatch.setattr(listwatch, "_SETTLED_SECONDS", 0.3)


@pytest.fixture
def store(server: Any) -> Store:
    return Store(server)


@pytest.fixture
async def follower(api: Api, store: Store) -> AsyncIterator[Follower]:
    made = Follower()
    following = asyncio.create_task(
        listwatch.list_watch(api, "/pods", on_list=made.on_list, on_event=made.on_event, on_trouble=made.on_trouble)
    )
    yield made
    assert not following.done()
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():  # noqa: ASYNC110 - another server's state
            await asyncio.sleep(0.005)


async def test_what_is_there_comes_first_then_what_changes(store: Store, follower: Follower) -> None:
    store.put("a")
    await until(lambda: follower.known == {"a"})
    store.put("b")
    await until(lambda: follower.known == {"a", "b"})
    store.delete("a")
    await until(lambda: follower.known == {"b"})
    assert store.lists == 1
    assert follower.troubles == []


async def test_a_watch_that_ends_goes_on_from_its_version(store: Store, follower: Follower) -> None:
    store.put("a")
    await until(lambda: follower.known == {"a"} and store.watches == 1)
    store.put("b")
    await until(lambda: follower.known == {"a", "b"})
    store.cut()
    await until(lambda: store.watches >= 2)
    store.put("c")
    await until(lambda: follower.known == {"a", "b", "c"})
    assert store.lists == 1


async def test_after_a_gap_what_was_deleted_meanwhile_is_gone(store: Store, follower: Follower) -> None:
    for name in "ab":
        store.put(name)
    await until(lambda: follower.known == {"a", "b"} and store.watches == 1)
    store.delete("a")
    await until(lambda: follower.known == {"b"})
    store.pods.pop("b")
    store.compact()
    store.cut()
    await until(lambda: follower.known == set())
    assert store.lists == 2
    store.put("c")
    await until(lambda: follower.known == {"c"})
    assert follower.troubles == [], "a version that is too old is no trouble"


async def test_an_outage_is_told_once_and_its_end_once(store: Store, follower: Follower, server: Any) -> None:
    store.put("a")
    await until(lambda: follower.known == {"a"} and store.watches == 1)
    store.refusal = (503, "etcd is away")
    store.cut()
    before = len(server.requests)
    await until(lambda: len(server.requests) > before + 5)
    assert follower.troubles == ["Unavailable"]
    assert follower.known == {"a"}, "what was known stands"
    store.refusal = (403, "no")
    await until(lambda: follower.troubles == ["Unavailable", "Forbidden"])
    store.refusal = None
    await until(lambda: follower.troubles[-1] is None)
    assert follower.troubles == ["Unavailable", "Forbidden", None]
    store.put("b")
    await until(lambda: follower.known == {"a", "b"})


async def test_a_server_that_is_gone_and_comes_back_is_followed(store: Store, follower: Follower, server: Any) -> None:
    store.put("a")
    await until(lambda: follower.known == {"a"} and store.watches == 1)
    store.cut()
    await server.stop()
    await until(lambda: follower.troubles == ["Unavailable"])
    store.put("b")
    await server.start()
    await until(lambda: follower.known == {"a", "b"} and follower.troubles[-1] is None)


async def test_to_list_is_not_to_watch(store: Store, follower: Follower) -> None:
    """The lists succeed; the trouble must not be told as over and begun again each time."""
    store.refuse_watch = (403, "may not watch")
    await until(lambda: follower.lists > 5)
    assert follower.troubles == ["Forbidden"]


async def test_watches_that_end_at_once_are_trouble(
    store: Store, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # However long it takes to hear of their end.
        patched.setattr(listwatch, "_SETTLED_SECONDS", 60.0)
        store.cutting = True
        await until(lambda: follower.lists > 5)
        assert follower.troubles == ["Unavailable"]
    store.cutting = False
    await until(lambda: follower.troubles == ["Unavailable", None])


async def test_a_defect_of_the_one_who_listens_loses_nothing(store: Store, follower: Follower) -> None:
    await until(lambda: store.watches == 1)
    follower.fails_on = "a"
    store.put("a")
    await until(lambda: follower.known == {"a"})
    assert follower.troubles[0] == "ZeroDivisionError"


async def test_without_a_listener_trouble_is_logged(api: Api, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    heard = Follower()
    store.refusal = (503, "etcd is away")
    with caplog.at_level(logging.INFO, "cortex.kube"):
        following = asyncio.create_task(
            listwatch.list_watch(api, "/pods", on_list=heard.on_list, on_event=heard.on_event)
        )
        await until(lambda: bool(caplog.records))
        store.refusal = None
        await until(lambda: len(caplog.records) > 1)
        following.cancel()
    assert [record.message for record in caplog.records] == [
        "/pods cannot be followed, what was known of it stands: etcd is away",
        "/pods is followed again",
    ]
