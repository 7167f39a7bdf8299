"""The rights that docs/state.md lists are enough for all that is done in the shared state, and reach no further."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis.asyncio as aioredis
from cortex_workloads.runtime.cache.shared import Shared
from cortex_workloads.runtime.cache.tally import Tally
from cortex_workloads.runtime.errors import FailedPrecondition
from cortex_workloads.runtime.progress import ProgressStream
from cortex_workloads.runtime.state import messages, presence
from cortex_workloads.runtime.state.aggregates import Consistency, Source, tag
from cortex_workloads.runtime.state.copies import Copies
from cortex_workloads.runtime.state.forget import forget
from cortex_workloads.runtime.state.functions import Functions
from cortex_workloads.runtime.state.manager import StateManager
from redis.exceptions import NoPermissionError
from state_desk import DESK, Desk

PAGE = Path(__file__).parents[3] / "docs" / "state.md"


def rules() -> list[str]:
    """Of the page, without the words up to the password."""
    (line,) = re.findall(r"^```acl\nACL SETUSER cortex on >PASSWORD (.+)\n```$", PAGE.read_text(), re.MULTILINE)
    return str(line).split()


@pytest.fixture
async def user(state_url: str) -> AsyncIterator[Any]:
    """Makes a user with rules; returns the URL by which it connects."""
    admin = aioredis.from_url(state_url)
    made: list[str] = []

    async def make(*given: str) -> str:
        made.append(f"user-{secrets.token_hex(4)}")
        await admin.execute_command("ACL", "SETUSER", made[-1], "on", ">secret", *given)
        parts = urlsplit(state_url)
        return urlunsplit(parts._replace(netloc=f"{made[-1]}:secret@{parts.hostname}:{parts.port}"))

    await admin.function_flush("SYNC")
    yield make
    if made:
        await admin.execute_command("ACL", "DELUSER", *made)
    await admin.aclose()


async def test_the_rights_are_enough(desk: Desk, user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "LIVES_SECONDS", 600.0)
    url = await user(*rules())
    manager = StateManager(desk.lake, url, DESK)
    heard = asyncio.create_task(cast(Any, anext(messages.listen(url, "cortex:invalidate", tag(DESK)))))
    manager.start("pod-1", lambda: {"runs": 1})
    run = await desk.run()
    await desk.store.succeed(run, {}, 1)
    async with asyncio.timeout(60):
        await heard
        while (await manager.read(f"run/{run.id}", Consistency.BOUNDED, 60)).source is not Source.COPY:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        while (await manager.read("replica/pod-1")).state is None:  # noqa: ASYNC110 - what another task does
            await asyncio.sleep(0.02)
        async with aclosing(cast(Any, manager.watch(0))) as changes:
            assert (await anext(changes)).position == 1
    assert (await manager.examine()).problem == ""
    report = await manager.rebuild()
    assert (report.problem, report.copies, len(report.replicas)) == ("", [], 1)
    await manager.close()

    async with ProgressStream(url) as progress:
        await progress.ping()
        assert await progress.append("cortex:{run:x}:events", {"event": "1"})
        assert await progress.last("cortex:{run:x}:events")
        await progress.forget(["cortex:{run:x}:events"])
    shared, tally = Shared("answers", url, 100, 60), Tally(url, "cortex:{index:default/x}:asked:", 10)
    await shared.keep("cortex:{index:default/x}:answer:1", b"1")
    assert await shared.find("cortex:{index:default/x}:answer:1") == b"1"
    await tally.add({b"a": 2})
    assert await tally.top(1) == [b"a"]
    await asyncio.gather(shared.close(), tally.close())
    await forget(url, DESK)
    functions = Functions(url)
    assert await Copies(functions, DESK).aggregates() == []
    await functions.close()


async def test_they_reach_no_further(user: Any) -> None:
    client = aioredis.from_url(await user(*rules()))
    for words in (("SET", "other", "1"), ("GET", "other"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("ACL", "LIST")):
        with pytest.raises(NoPermissionError):
            await client.execute_command(*words)
    await client.aclose()


async def test_a_right_that_is_missing_is_named(desk: Desk, user: Any) -> None:
    manager = StateManager(desk.lake, await user(*rules(), "-fcall_ro"), DESK)
    await desk.run()
    assert "docs/state.md" in (await manager.examine()).problem
    with pytest.raises(FailedPrecondition) as raised:
        await manager._copies.standing()
    assert raised.value.reason == "StateForbidden"
    assert (await manager.read("resource", Consistency.BOUNDED, 60)).source is Source.LAKE
    await manager.close()
