"""Listeners, when the connection is lost without a word."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio as aioredis
from cortex_workloads.runtime.state import messages

ON_BOTH = ("test_a_listener_hears_what_concerns_its_resource",)


class Silence:
    """Between a listener and Valkey: what is sent through a connection that was made before `quiet` is lost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._quiet: list[asyncio.Event] = []
        self.connections = 0
        self.pings = self.pongs = 0
        self.deaf = False

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        quiet = asyncio.Event()
        self._quiet.append(quiet)
        there, back = await asyncio.open_connection("127.0.0.1", self._port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                self.pings += b"PING" in data
                self.pongs += b"pong" in data
                if not quiet.is_set() and not (self.deaf and b"SUBSCRIBE" in data):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    def quiet(self) -> None:
        for one in self._quiet:
            one.set()


@pytest.fixture
async def silence(state_url: str) -> AsyncIterator[tuple[Silence, str]]:
    before, _, port = state_url.rpartition("/")[0].rpartition(":")
    proxy = Silence(int(port))
    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    yield proxy, f"{before}:{server.sockets[0].getsockname()[1]}/{state_url.rpartition('/')[2]}"
    server.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what others do
            await asyncio.sleep(0.01)


def own_resource() -> str:
    """Other workers' tests use the same channels."""
    return f"workflow:default/{secrets.token_hex(4)}"


async def test_a_listener_hears_what_concerns_its_resource(state_url: str) -> None:
    heard: list[Any] = []
    resource = own_resource()

    async def hear() -> None:
        async for message in messages.listen(state_url, "cortex:proof", resource):
            heard.append(message)

    hearing = asyncio.create_task(hear())
    client = aioredis.from_url(state_url)
    await until(lambda: heard)
    for sent in ("no json", "[]", json.dumps({"resource": "other"}), json.dumps({"resource": resource})):
        await client.publish("cortex:proof", sent)
    await until(lambda: len(heard) >= 2)
    assert heard == [None, {"resource": resource}]
    hearing.cancel()
    await client.aclose()


async def test_a_connection_that_says_nothing_any_more_is_made_again(
    silence: tuple[Silence, str], state_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a node is gone: nobody closes the connection."""
    monkeypatch.setattr(messages, "_PING_SECONDS", 0.1)
    monkeypatch.setattr(messages, "_ANSWER_SECONDS", 30.0)
    proxy, url = silence
    heard: list[Any] = []
    resource = own_resource()

    async def hear() -> None:
        async for message in messages.listen(url, "cortex:proof", resource):
            heard.append(message)

    hearing = asyncio.create_task(hear())
    client = aioredis.from_url(state_url)
    await until(lambda: heard)
    # An idle connection that answers is kept.
    await until(lambda: proxy.pings == proxy.pongs >= 3)
    assert (heard, proxy.connections) == ([None], 1)
    monkeypatch.setattr(messages, "_ANSWER_SECONDS", 0.3)
    proxy.quiet()
    await until(lambda: proxy.connections > 1)
    monkeypatch.setattr(messages, "_ANSWER_SECONDS", 30.0)
    await until(lambda: len(heard) == 2)
    assert heard == [None, None]
    await client.publish("cortex:proof", json.dumps({"resource": resource}))
    await until(lambda: len(heard) == 3)
    hearing.cancel()
    await client.aclose()


async def test_nobody_is_told_to_look_before_messages_come(
    silence: tuple[Silence, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what changes between the look and the subscription is missed."""
    monkeypatch.setattr(messages, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(messages, "_AGAIN_SECONDS", 0.05)
    proxy, url = silence
    proxy.deaf = True
    heard: list[Any] = []

    async def hear() -> None:
        async for message in messages.listen(url, "cortex:proof", "workflow:default/desk"):
            heard.append(message)

    hearing = asyncio.create_task(hear())
    await until(lambda: proxy.connections >= 2)
    assert heard == []
    monkeypatch.setattr(messages, "_ANSWER_SECONDS", 30.0)
    proxy.deaf = False
    await until(lambda: heard)
    hearing.cancel()
