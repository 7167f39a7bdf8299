"""A shared state that is there is waited for, however busy the machine is; the product goes on without it."""

from __future__ import annotations

import pytest
from cortex_workloads.runtime import progress
from cortex_workloads.runtime.cache import far
from cortex_workloads.runtime.state import functions

SECONDS = 30.0
IN_A_PROCESS = f"""
import runpy
from cortex_workloads.runtime import progress
from cortex_workloads.runtime.cache import far
from cortex_workloads.runtime.state import functions

for module in (far, progress, functions):
    module._TIMEOUT_SECONDS = {SECONDS}
far._LATE_SECONDS = {SECONDS}
runpy.run_module(%r, run_name="__main__", alter_sys=True)
"""
"""For `python -c`: a module of the release that waits so long, too."""


def wait_for_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, for clients that are made from now on. One that refuses connections is away at once."""
    for module in (far, progress, functions):
        monkeypatch.setattr(module, "_TIMEOUT_SECONDS", SECONDS)
    monkeypatch.setattr(far, "_LATE_SECONDS", SECONDS)
