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
    following = asyncio.create_task(switches.follow(state_url, index.store.resource, index.store.forget))
    before = await index.store.current()
    async with asyncio.timeout(20):
        # What it is told when it begins to listen.
        while index.store._current is not None:  # noqa: ASYNC110 - nothing else says so
            await asyncio.sleep(0.01)
    assert await index.store.current() == before
    made = await index.ensure(chunking={"splitLength": 3})
    assert await index.worker().drain(made.id)
    async with asyncio.timeout(20):
        while (await index.store.current()).id == before.id:
            await relay.round()
            await asyncio.sleep(0.01)
    assert (await index.store.current()).id == made.id
    following.cancel()
    await functions.close()
