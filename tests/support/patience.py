"""Limits that are right for a service, and too short for what a test waits for on a busy machine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cortex_workloads.runtime import progress
from cortex_workloads.runtime.cache import far
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.state import functions

ANSWER_SECONDS = 30.0
_LIMITS = {
    progress: ["_TIMEOUT_SECONDS"],
    far: ["_TIMEOUT_SECONDS", "_LATE_SECONDS"],
    functions: ["_TIMEOUT_SECONDS", "_FIRST_SECONDS"],
}
IN_A_PROCESS = f"""
import runpy
from importlib import import_module

for module, names in {[(module.__name__, names) for module, names in _LIMITS.items()]}:
    for name in names:
        setattr(import_module(module), name, {ANSWER_SECONDS})
runpy.run_module(%r, run_name="__main__", alter_sys=True)
"""
"""For `python -c`: a module of the release that waits so long for the shared state, too."""


def with_the_state(patch: pytest.MonkeyPatch) -> None:
    """A shared state that is there is not away because this process, or the server, stood still for half a second. For
    clients that are made from now on; one that refuses connections is away at once none the less."""
    for module, names in _LIMITS.items():
        for name in names:
            patch.setattr(module, name, ANSWER_SECONDS)


async def opened(dsn: str, size: int = 10, **more: Any) -> Lake:
    """A Lake that has answered: one that is still connecting is unavailable to who asks it, after half a second."""
    lake = Lake(dsn, size, **more)
    await lake.open()
    async with asyncio.timeout(60):
        await lake.answered()
    return lake
