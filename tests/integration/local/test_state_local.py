"""`cortex state`, as a user types it, with the real services."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from local_cortex import Cortex

WORKFLOW = """
apiVersion: cortex.datapunk.io/v1alpha1
kind: CortexWorkflow
metadata: {name: echo}
spec:
  input: {schema: {type: object, properties: {question: {type: string}}}}
  nodes: [{name: say, type: Transform, transform: {set: {answer: state.question}}}]
  edges: [{from: START, to: say}, {from: say, to: END}]
"""
RUNS = "/v1/namespaces/default/workflows/echo/runs"


def wait_for(path: Path, words: str) -> str:
    deadline = time.monotonic() + 60
    while words not in (said := path.read_text()):
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    return said


def heed_interrupts() -> None:
    """For a child: where tests are run in the background SIGINT is ignored, and so it would be by their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_run_is_read_followed_and_examined(cortex: Cortex) -> None:
    (cortex.folder / "echo.yaml").write_text(WORKFLOW)
    cortex("up", "-f", "echo.yaml", *cortex.ports)
    told, said = cortex.folder / "told", cortex.folder / "said"
    command = [sys.executable, "-m", "cortex_cli.main", "state", "watch", "workflow/echo", "run", "-o", "json"]
    with told.open("w") as out, said.open("w") as err:
        watching = subprocess.Popen(command, cwd=cortex.folder, stdout=out, stderr=err, preexec_fn=heed_interrupts)
    try:
        wait_for(said, "following workflow default/echo")
        run = cortex.post(RUNS, {"input": {"question": "why?"}})["runId"]
        wait_for(told, "RunSucceeded")
    finally:
        watching.send_signal(signal.SIGINT)
        try:
            assert watching.wait(60) == 0
        finally:
            watching.kill()
    changes = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(each["aggregate"], each["type"]) for each in changes] == [
        (f"run/{run}", "RunStarted"),
        (f"run/{run}", "RunSucceeded"),
    ]
    state = yaml.safe_load(
        cortex("state", "get", "workflow/echo", f"run/{run}", "--consistency", "Durable", "-o", "yaml")
    )
    assert (state["source"], state["fields"]["output"]["answer"]) == ("Lake", "why?")
    assert "RunSucceeded" in cortex("state", "history", "workflow/echo", f"run/{run}")
    assert "has no thread/none" in cortex("state", "get", "workflow/echo", "thread/none", code=1)
    assert "workflow default/echo: fine" in cortex("state", "doctor")
    assert "workflow default/echo: fine" in cortex("state", "rebuild", "workflow/echo")
    assert "workflow default/echo: fine" in cortex("state", "doctor", "all", "--gateway", cortex.rest)
    cortex("down")
    assert "no cluster runs" in cortex("state", "doctor", code=1)
