"""The search service tells nobody that it runs."""

from __future__ import annotations

import subprocess
import sys


def test_haystack_sends_no_telemetry() -> None:
    code = (
        "import cortex_workloads.search.pipelines\n"
        "from haystack.telemetry import _telemetry\n"
        "print(_telemetry.telemetry)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "None"
