"""A local cluster of `cortex up`, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cortex import Cortex


@pytest.fixture
def cortex(tmp_path: Path) -> Iterator[Cortex]:
    cortex = Cortex(tmp_path)
    yield cortex
    cortex("down")
    assert cortex.processes() == []
