"""Limits that are right for a service, and too short for what a test waits for on a busy machine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cortex_workloads.runtime import progress
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import functions

ANSWER_SECONDS = 30.0


def with_the_state(patch: pytest.MonkeyPatch) -> None:
    """A shared state that is there is not away because this process, or the server, stood still for half a second. To
    be called before who uses it is made; one that is gone refuses connections, and is away at once none the less."""
    for name in ("_TIMEOUT_SECONDS", "_FIRST_SECONDS"):
        patch.setattr(functions, name, ANSWER_SECONDS)
    patch.setattr(progress, "_TIMEOUT_SECONDS", ANSWER_SECONDS)


async def opened(dsn: str, size: int = 10, **more: Any) -> Lake:
    """A Lake that has answered: one that is still connecting is unavailable to who asks it, after half a second."""
    lake = Lake(dsn, size, **more)
    await lake.open()
    async with asyncio.timeout(60):
        await lake.answered()
    return lake
