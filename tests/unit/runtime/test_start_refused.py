"""A process that lacks what it needs says so in one line, with the remedy, and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NEEDED = {
    "cortex_workloads.search": "search: CORTEX_LAKE_DSN is not",
    "cortex_workloads.search.ingest": "ingest: CORTEX_LAKE_DSN is not",
    "cortex_workloads.graph": "graph: CORTEX_LAKE_DSN is not",
    "cortex_workloads.gateway": "gateway: no cluster is configured",
    "cortex_operator": "operator: the environment variable CORTEX_SEARCH_IMAGE is not set",
}


@pytest.mark.parametrize("module", NEEDED)
def test_without_its_settings_it_ends_with_one_line(module: str, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")}
    ports = {f"CORTEX_PORT_{name}": "0" for name in ("METRICS", "CONTROL", "GRPC", "HTTP")}
    env = {**kept, **ports, "HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-m", module], env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode in (1, 2)
    (line,) = ended.stderr.splitlines()
    assert line.startswith(NEEDED[module])
