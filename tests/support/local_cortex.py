"""The `cortex` command on this machine, as a user types it, with the real services."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from cortex_cli.local.ports import is_free

PORTS = range(12_000, 20_000)
"""Where nobody else of the tests looks for a free one, who could have it before the gateway."""


def pids(state: Any) -> dict[str, int]:
    """Process ids by component, of those that have one."""
    return {row["component"]: row["pid"] for row in state["rows"] if row["pid"]}


class Cortex:
    """The command in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / ".cortex"
        ports = [port for port in random.sample(PORTS, 100) if is_free(port)][:2]
        self.ports = ("--http-port", str(ports[0]), "--grpc-port", str(ports[1]))
        self.rest = f"http://127.0.0.1:{ports[0]}"

    def __call__(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "cortex_cli.main", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=150)
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def post(self, path: str, body: Any) -> Any:
        """The gateway's answer, parsed."""
        headers = {"content-type": "application/json"}
        asked = urllib.request.Request(self.rest + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked) as reply:
            return json.load(reply)

    def state(self) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "cortex_cli.main", "status", "-o", "json"], cwd=self.folder, capture_output=True
        )
        return json.loads(done.stdout)

    def pids(self) -> dict[str, int]:
        return pids(self.state())

    def kill_supervisor(self) -> None:
        number = json.loads((self.data / "supervisor.json").read_text())["pid"]
        os.kill(number, signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(number).wait(60)

    def processes(self) -> list[psutil.Process]:
        """Whatever still has to do with the folder."""
        return [p for p in psutil.process_iter() if self._is_ours(p)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return str(self.folder) in " ".join([process.cwd(), *process.cmdline()])
        except psutil.Error:
            return False
