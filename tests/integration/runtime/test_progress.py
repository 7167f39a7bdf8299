"""Live progress over a real Valkey, also one that dies."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from cortex_workloads.runtime import progress
from cortex_workloads.runtime.errors import InvalidInput, Unavailable
from cortex_workloads.runtime.progress import ProgressStream, index_key, run_key
from patience import with_the_state


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    with_the_state(monkeypatch)


async def test_entries_are_read_in_order_then_as_they_come(state_url: str) -> None:
    key = run_key("r1")
    async with ProgressStream(state_url) as stream:
        ids = [await stream.append(key, {"event": bytes([n])}) for n in range(3)]
        reading = stream.read(key)
        assert [await anext(reading) for _ in range(3)] == [(ids[n], {"event": bytes([n])}) for n in range(3)]
        waiting = asyncio.ensure_future(anext(reading))
        last = await stream.append(key, {"event": b"late"})
        assert await asyncio.wait_for(waiting, 60) == (last, {"event": b"late"})
        again = stream.read(key, ids[1])
        assert [(await anext(again))[0] for _ in range(2)] == [ids[2], last]
        assert (await stream.last(key) or ("",))[0] == last
        assert await stream.last("nothing") is None


async def test_hundreds_at_once_are_no_absence(state_url: str) -> None:
    async with ProgressStream(state_url) as stream:
        ids = await asyncio.gather(*(stream.append(run_key(f"r{n}"), {"event": b"x"}) for n in range(300)))
    assert all(ids)


async def test_streams_are_bounded_and_expire(state_url: str) -> None:
    key = index_key("default", "papers")
    async with ProgressStream(state_url) as stream:
        for _ in range(400):
            await stream.append(key, {"documents": 1, "rate": 0.5}, maxlen=100, ttl=60)
    with redis.Redis.from_url(state_url) as client:
        assert 100 <= client.xlen(key) < 300
        assert 50_000 < client.pttl(key) <= 60_000


async def test_an_id_that_is_none_is_refused(state_url: str) -> None:
    async with ProgressStream(state_url) as stream:
        with pytest.raises(InvalidInput, match="'yesterday'"):
            await anext(stream.read("key", "yesterday"))


async def test_a_state_that_refuses_to_be_read_is_not_the_fault_of_the_id(
    state_url: str, own_valkey: Callable[..., Any]
) -> None:
    with redis.Redis.from_url(state_url) as client:
        client.set("key", "no stream")
        async with ProgressStream(state_url) as stream:
            with pytest.raises(Unavailable, match=r"refuses to be read \(WRONGTYPE") as raised:
                await anext(stream.read("key", "1-0"))
    assert raised.value.reason == "StateUnreachable"
    server = own_valkey(durable=False)
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-xread")
        async with ProgressStream(server.url) as stream:
            with pytest.raises(Unavailable, match="no permissions"):
                await anext(stream.read("key", "1-0"))
    server.kill()


async def test_without_a_url_nothing_is_told() -> None:
    async with ProgressStream("") as stream:
        assert await stream.append("key", {"a": 1}) == ""
        for ask in (stream.last("key"), stream.ping(), anext(stream.read("key"))):
            with pytest.raises(Unavailable, match="CORTEX_STATE_URL is not set"):
                await ask


async def test_a_dead_state_costs_little_and_is_told_once(
    own_valkey: Callable[..., Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_PAUSE_SECONDS", 0.05)
    server = own_valkey()
    async with ProgressStream(server.url) as stream:
        first = await stream.append("key", {"n": 1})
        reading = stream.read("key", first)
        waiting = asyncio.ensure_future(anext(reading))
        await asyncio.wait({waiting}, timeout=0.1)
        server.kill()
        begun = time.monotonic()
        with caplog.at_level(logging.INFO, "cortex.progress"):
            assert [await stream.append("key", {"n": 2}) for _ in range(200)] == [""] * 200
            assert time.monotonic() - begun < 20
            with pytest.raises(Unavailable, match="does not answer"):
                await stream.last("key")
            server.start()
            async with asyncio.timeout(60):
                while not (second := await stream.append("key", {"n": 3})):
                    await asyncio.wait({waiting}, timeout=0.02)
            assert await asyncio.wait_for(waiting, 60) == (second, {"n": b"3"}), "the reader lived through it"
        told = [record.message for record in caplog.records if "stops" in record.message]
        assert len(told) <= 2
        assert len(told) >= 1


async def test_a_state_that_hangs_does_not_hold_the_writer(
    own_valkey: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    monkeypatch.setattr(progress, "_TIMEOUT_SECONDS", 0.5)
    server = own_valkey()
    async with ProgressStream(server.url) as stream:
        await stream.append("key", {"n": 1})
        os.kill(server.pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            assert [await stream.append("key", {"n": 2}) for _ in range(50)] == [""] * 50
            # It would be 25 if each of them waited.
            assert time.monotonic() - begun < 15
        finally:
            os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize(("option", "value", "usual"), [("maxmemory", 1, 0), ("min-replicas-to-write", 1, 0)])
async def test_a_state_that_takes_nothing_is_not_well(
    own_valkey: Callable[..., Any], option: str, value: int, usual: int
) -> None:
    server = own_valkey(durable=False)
    with redis.Redis.from_url(server.url) as client:
        async with ProgressStream(server.url) as stream:
            await stream.ping()
            client.config_set(option, value)
            with pytest.raises(Unavailable, match="refuses what is written") as raised:
                await stream.ping()
            assert raised.value.reason == "StateUnreachable"
            client.config_set(option, usual)
            await stream.ping()
        assert client.dbsize() == 0
    server.kill()
