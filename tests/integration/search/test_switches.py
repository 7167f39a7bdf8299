"""A pod goes over to another revision when it is told, not when it looks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cortex_workloads.runtime.state.copies import Copies
from cortex_workloads.runtime.state.functions import Functions
from cortex_workloads.runtime.state.relay import Relay
from cortex_workloads.search import store, switches


async def test_the_message_of_a_switch_is_heard(index: Any, state_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_FRESH_SECONDS", 3600.0)
    functions = Functions(state_url)
    relay = Relay(index.lake, Copies(functions, index.store.resource), index.store.resource)
    await relay.round()
    before = await index.store.current()
    following = asyncio.create_task(switches.follow(state_url, index.store.resource, index.store.forget))
    async with asyncio.timeout(60):
        # What it is told when it begins to listen.
        while index.store._current is not None:  # noqa: ASYNC110 - nothing else says so
            await asyncio.sleep(0.01)
    assert await index.store.current() == before
    made = await index.ensure(chunking={"splitLength": 3})
    assert await index.worker().drain(made.id)
    async with asyncio.timeout(60):
        while (await index.store.current()).id == before.id:
            await relay.round()
            await asyncio.sleep(0.01)
    assert (await index.store.current()).id == made.id
    following.cancel()
    await functions.close()


async def test_a_switch_that_is_told_during_a_look_is_not_passed_over(
    index: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_FRESH_SECONDS", 3600.0)
    before = await index.store.current()
    index.store.forget()
    read, told = asyncio.Event(), asyncio.Event()
    describe = store.revisions.describe

    async def slow(*args: Any) -> Any:
        found = await describe(*args)
        read.set()
        await told.wait()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(store.revisions, "describe", slow)
        looking = asyncio.create_task(index.store.current())
        await read.wait()
    made = await index.ensure(chunking={"splitLength": 3})
    assert await index.worker().drain(made.id)
    index.store.forget()
    told.set()
    assert (await looking).id == before.id
    assert (await index.store.current()).id == made.id
