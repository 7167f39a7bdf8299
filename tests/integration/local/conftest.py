"""A local cluster of `cortex up`, in a folder of its own."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cortex import Cortex

PATIENCE = 400.0
"""Seconds after which a test hangs: on a busy machine a dozen commands and starts of servers take minutes."""


@pytest.fixture
def cortex(tmp_path: Path) -> Iterator[Cortex]:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    cortex = Cortex(tmp_path)
    yield cortex
    cortex("down")
    assert cortex.processes() == []
