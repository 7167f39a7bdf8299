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


WORKLOADS = [module for module in NEEDED if module.startswith("cortex_workloads")]


def ended(module: str, home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")}
    ports = {f"CORTEX_PORT_{name}": "0" for name in ("METRICS", "CONTROL", "GRPC", "HTTP")}
    env = {**kept, **ports, "HOME": str(home), **settings}
    return subprocess.run([sys.executable, "-m", module], env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("module", NEEDED)
def test_without_its_settings_it_ends_with_one_line(module: str, tmp_path: Path) -> None:
    found = ended(module, tmp_path)
    assert found.returncode in (1, 2)
    (line,) = found.stderr.splitlines()
    assert line.startswith(NEEDED[module])


@pytest.mark.parametrize("module", WORKLOADS)
def test_a_malformed_url_of_the_state_is_one_line_that_does_not_quote_it(module: str, tmp_path: Path) -> None:
    found = ended(module, tmp_path, CORTEX_LAKE_DSN="postgresql://u:p@127.0.0.1:1/lake", CORTEX_STATE_URL="nonsense")
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith(
        f"{module.rpartition('.')[2]}: CORTEX_STATE_URL is not the URL of a Valkey or Redis: it does"
    )
    assert "the Secret's key `url`" in line
    assert "nonsense" not in found.stdout + found.stderr


@pytest.mark.parametrize("module", [module for module in WORKLOADS if "gateway" not in module])
def test_a_malformed_address_of_the_lake_is_one_line_that_does_not_quote_it(module: str, tmp_path: Path) -> None:
    found = ended(module, tmp_path, CORTEX_LAKE_DSN="postgresql://u:pass/word@127.0.0.1:5432/lake")
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"{module.rpartition('.')[2]}: CORTEX_LAKE_DSN is not the address of a PostgreSQL")
    assert "the Secret's key `dsn`" in line
    assert "pass/word" not in found.stdout + found.stderr
