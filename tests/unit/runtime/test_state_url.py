"""A URL of the shared state that cannot be read is refused at the start, and never quoted: it holds a password."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cortex_workloads.runtime.errors import InvalidInput
from cortex_workloads.runtime.progress import ProgressStream


@pytest.mark.parametrize(
    "url",
    [
        "hidden",
        "http://:hidden@h:6379",
        "redis://:hid/hidden@h:6379",
        "redis://:p@h:hidden",
        "redis://[hidden",
        "redis://h?hidden=1",
        "redis://h?socket_timeout=hidden",
        "rediss://h?ssl_cert_reqs=hidden",
    ],
)
def test_a_malformed_url_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(InvalidInput, match="CORTEX_STATE_URL") as refused:
        ProgressStream(url)
    assert "hid" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ["", "redis://h", "redis://u:p%2Fq@h:6379/1", "rediss://:p@h:6380/0?health_check_interval=5"]
)
async def test_urls_that_can_be_read_are_taken(url: str) -> None:
    async with ProgressStream(url) as stream:
        assert stream is not None


@pytest.mark.parametrize(
    ("service", "missing"), [("search", "kept answers"), ("graph", "events of runs"), ("gateway", "stale answers")]
)
def test_without_a_url_each_service_says_at_its_start_what_is_missing(
    service: str, missing: str, tmp_path: Path
) -> None:
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text('{"items": [], "endpointSlices": []}')
    ports = {f"CORTEX_PORT_{name}": "0" for name in ("METRICS", "CONTROL", "GRPC", "HTTP")}
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")}
    lake = {"CORTEX_LAKE_DSN": "postgresql://u:p@127.0.0.1:1/lake"}
    env = {**kept, **ports, **lake, "HOME": str(tmp_path), "CORTEX_CATALOGUE_FILE": str(catalogue)}
    told = ""
    command = [sys.executable, "-m", f"cortex_workloads.{service}"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)["message"]
            if "CORTEX_STATE_URL" in told:
                break
        process.kill()
    assert "CORTEX_STATE_URL is not set" in told
    assert missing in told
