"""Policies of a gateway that runs: a file changes them without a restart, and one that is wrong is refused and told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.telemetry import REGISTRY

PAPERS = "/v1/namespaces/default/indexes/papers"
DOWN = Unavailable("the Lake is gone", reason="LakeUnreachable")


class Followed:
    """A gateway with a file of policies, and a pod of the index behind it."""

    def __init__(self, world: Any, file: Path) -> None:
        self.world, self.file = world, file

    async def say(self, policies: Any) -> None:
        """Writes the file, and waits until the gateway has read it."""
        before = self.world.shown("cortex_policies_applied_timestamp_seconds")
        self.file.write_text(json.dumps(policies))
        await until(lambda: self.world.shown("cortex_policies_applied_timestamp_seconds") != before)

    async def search(self, **body: Any) -> Any:
        return await self.world.http.post(f"{PAPERS}/search", json={"query": "bees", **body})

    async def policies(self) -> dict[str, Any]:
        part: dict[str, Any] = (await self.world.http.get("/healthz")).json()["parts"]["policies"]
        return part


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing says when the file was read
            await asyncio.sleep(0.02)


@pytest.fixture
async def followed(worlds: Any, tmp_path: Path, state_url: str) -> AsyncIterator[Followed]:
    async with AsyncExitStack() as stack:
        world = worlds(stack, tmp_path, state_url)
        world.shown = lambda name, **labels: REGISTRY.get_sample_value(name, labels)
        file = tmp_path / "policies.json"
        await world.open(policies_file=file)
        await world.pod("papers-search")
        yield Followed(world, file)


async def test_a_limit_is_changed_while_a_call_holds_a_place(followed: Followed) -> None:
    haystack = followed.world.haystack
    haystack.hold = asyncio.Event()
    documents = {"documents": [{"id": "1", "content": "bees fly"}]}
    call = asyncio.create_task(followed.world.http.post(f"{PAPERS}/documents", json=documents))
    await asyncio.wait_for(haystack.holding.wait(), 60)
    await followed.say({"limits": {"writing": {"concurrent": 1}}})
    assert followed.world.shown("cortex_limit", **{"class": "Writing"}) == 1
    refused = await followed.world.http.post(f"{PAPERS}/documents", json=documents)
    assert (refused.status_code, refused.json()["reason"]) == (429, "Overloaded")
    haystack.hold.set()
    assert (await call).status_code == 200
    assert (await followed.world.http.post(f"{PAPERS}/documents", json=documents)).status_code == 200


async def test_the_breaker_of_a_circuit_that_is_there_is_changed(followed: Followed) -> None:
    assert (await followed.search()).status_code == 200
    await followed.say({"breaker": {"minimumCalls": 1, "openSeconds": 600}})
    followed.world.haystack.fail = DOWN
    # Of the window two calls are known, of which one failed.
    assert (await followed.search()).json()["reason"] == "LakeUnreachable"
    assert (await followed.search()).json()["reason"] == "CircuitOpen"
    followed.world.haystack.fail = None
    await followed.say({"breaker": {"openSeconds": 0.01}})
    assert (await followed.search()).status_code == 200


async def test_a_search_without_a_deadline_has_the_time_that_is_set_now(followed: Followed) -> None:
    # So little time is none to find the pod.
    assert (await followed.search()).status_code == 200
    await followed.say({"searchSeconds": 0.05})
    followed.world.haystack.hold_search = asyncio.Event()
    assert (await followed.search()).status_code == 504


async def test_retries_change_with_the_next_call(followed: Followed) -> None:
    # As a call that comes in while its server stops: gRPC tries it again.
    followed.world.haystack.cancels = 10**6
    assert (await followed.search()).status_code == 503
    assert len(followed.world.haystack.searches) >= 4
    await followed.say({"retries": {"attempts": 1}})
    asked = len(followed.world.haystack.searches)
    await followed.search()
    # Once, and once more where the pods are now, if there were others.
    assert len(followed.world.haystack.searches) == asked + 1


async def test_a_wrong_file_is_told_and_what_holds_goes_on(followed: Followed) -> None:
    await followed.say({"limits": {"search": {"concurrent": 7}}})
    assert await followed.policies() == {"ok": True}
    followed.file.write_text(json.dumps({"limits": {"search": {"concurrent": 0}}}))
    await until(lambda: followed.world.shown("cortex_policies_invalid") == 1)
    told = await followed.policies()
    assert (told["ok"], told["reason"]) == (False, "PoliciesInvalid")
    assert "limits.search.concurrent" in told["message"]
    assert followed.world.shown("cortex_limit", **{"class": "Search"}) == 7
    assert (await followed.search()).status_code == 200
    followed.file.unlink()
    await until(lambda: followed.world.shown("cortex_limit", **{"class": "Search"}) == 256)
    assert await followed.policies() == {"ok": True}
