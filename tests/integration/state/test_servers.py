"""Servers as they are elsewhere: TLS, and a user who may do what the state needs and nothing else."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis.asyncio as aioredis
from cortex_testbed.certificates import Authority
from cortex_workloads.runtime.errors import CortexError, FailedPrecondition
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import messages
from cortex_workloads.runtime.state.aggregates import Consistency, Source, tag
from cortex_workloads.runtime.state.presence import Presence, replicas
from cortex_workloads.runtime.state.volatile import Volatile
from state_desk import DESK, Desk
from tls_proxy import tls_in_front

CALLED = "fcall fcall_ro function|load hgetall zrange zrem unlink scan xread subscribe ping"
"""What the state manager sends."""
WITHIN = "time hget hmget hset del pexpire persist pttl xadd publish zadd zremrangebyscore"
"""What its functions do: a server checks that of who calls them."""
WISHED = "info|server unsubscribe select client|setinfo xrange"
"""What may be missing: it is not known then which server it is, only the database 0 can be used, and followers read the
Lake."""
PATTERNS = ("~cortex:*", "&cortex:*")


@pytest.fixture
async def root(own_valkey: Callable[..., Any]) -> AsyncIterator[tuple[aioredis.Redis, Any]]:
    server = own_valkey(durable=False)
    client = aioredis.from_url(server.url)
    yield client, server.url
    await client.aclose()
    server.kill()


async def allowed(client: aioredis.Redis, url: str, *commands: str) -> str:
    """The URL for a new user who may do that."""
    name, password = secrets.token_hex(4), secrets.token_hex(8)
    rights = ("reset", "on", f">{password}", *PATTERNS, "-@all", *(f"+{command}" for command in commands))
    await client.execute_command("ACL", "SETUSER", name, *rights)
    return f"redis://{name}:{password}@{urlsplit(url).hostname}:{urlsplit(url).port}/0"


async def everything(lake: Lake, url: str) -> None:
    """Does all that the state is for once, and fails where anything of it does not work."""
    desk = Desk(lake, url)
    try:
        await desk.copies.standing()
        await desk.relayed()
        run = await desk.run(secrets.token_hex(4))
        async with aclosing(messages.listen(url, "cortex:state", tag(DESK))) as listening:  # type: ignore[type-var]
            assert await anext(listening) is None
            await desk.relayed()
            assert await anext(listening) is not None
        reply = await desk.reader.read(f"run/{run.id}", Consistency.BOUNDED, 60.0)
        assert reply.source is Source.COPY
        await desk.copies.aggregates()
        await desk.copies.forget([f"run/{run.id}"])
        volatile = Volatile(desk.functions, DESK)
        pod = secrets.token_hex(4)
        await volatile.write(f"session/{pod}", "Set", {"n": 1}, seconds=5.0)
        await volatile.write(f"session/{pod}", "Set", {"n": 1})
        await Presence(volatile, pod, dict).announce()
        assert pod in [state.fields["pod"] for state in await replicas(volatile)]
        await volatile.remove(f"replica/{pod}")
        # Without the stream a watch goes on by the Lake: here it has to be the stream.
        assert await desk.functions.run("XREAD", "STREAMS", desk.copies.stream, "0-0")
    finally:
        await desk.close()


async def test_tls_and_a_user_of_least_rights(lake: Lake, root: tuple[aioredis.Redis, Any], tmp_path: Path) -> None:
    await Desk(lake, "").ensure()
    client, url = root
    plain = urlsplit(await allowed(client, url, *CALLED.split(), *WITHIN.split(), *WISHED.split()))
    authority = Authority(tmp_path / "tls")
    pair = authority.issue("valkey", "/CN=valkey", ["IP:127.0.0.1"])
    with tls_in_front(plain.port or 0, pair.certificate, pair.key) as port:
        user = f"rediss://{plain.username}:{plain.password}@127.0.0.1:{port}/0"
        await everything(lake, f"{user}?ssl_ca_certs={authority.ca.certificate}")
        desk = Desk(lake, user)
        with pytest.raises(CortexError, match="certificate verify failed"):
            await desk.copies.standing()
        await desk.close()


async def test_a_user_needs_these_rights_and_no_others(lake: Lake, root: tuple[aioredis.Redis, Any]) -> None:
    """Without any one of them something of it does not work. (PING is for listeners that hear nothing for long.)"""
    client, url = root
    await Desk(lake, "").ensure()
    rights = [*CALLED.split(), *WITHIN.split()]
    await everything(lake, await allowed(client, url, *rights))
    for right in rights:
        await client.flushdb()
        if right == "function|load":
            await client.function_flush("SYNC")
        if right != "ping":
            user = await allowed(client, url, *(one for one in rights if one != right))
            with pytest.raises((CortexError, AssertionError, aioredis.RedisError, TimeoutError)):
                async with asyncio.timeout(3):
                    await everything(lake, user)
        if right == "function|load":
            await everything(lake, await allowed(client, url, *rights))


async def test_the_same_on_redis(lake: Lake, redis_server: str) -> None:
    client = aioredis.from_url(redis_server)
    await client.flushdb()
    await Desk(lake, "").ensure()
    await everything(lake, await allowed(client, redis_server, *CALLED.split(), *WITHIN.split()))
    await client.aclose()


async def test_what_a_user_may_not_do_is_said(lake: Lake, root: tuple[aioredis.Redis, Any]) -> None:
    client, url = root
    desk = Desk(lake, await allowed(client, url, "ping"))
    with pytest.raises(FailedPrecondition, match="may not do what the state needs") as caught:
        await desk.copies.standing()
    assert caught.value.reason == "StateForbidden"
    await desk.close()
