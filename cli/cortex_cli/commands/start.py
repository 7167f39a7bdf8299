"""How the supervisor comes to run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from cortex_cli.commands.common import fail
from cortex_cli.local import wire
from cortex_cli.local.applied import Applied
from cortex_cli.local.launch import LaunchError, data_directory
from cortex_cli.local.ports import holder, is_free
from cortex_cli.local.processes import Processes, open_log

START_SECONDS: Final = 60.0
SUPERVISOR: Final = "supervisor"


def check_ports(directory: Path, options: dict[str, Any]) -> None:
    """Ends the command when a port of the gateway is taken by somebody else, before anything is started."""
    mine = _own_ports(directory)
    wanted = {**Applied.load(directory / "applied.json").gateway.to_json(), **options}
    for name in ("http_port", "grpc_port"):
        port = wanted[name]
        if port not in mine and not is_free(port):
            fail(
                f"port {port} is held by {holder(port)}, and the gateway needs it; "
                f"stop that, or choose another: cortex up --{name.replace('_', '-')} PORT"
            )
    if wanted["http_port"] == wanted["grpc_port"]:
        fail(f"REST and gRPC cannot both have port {wanted['http_port']}; choose another: cortex up --grpc-port PORT")


def _own_ports(directory: Path) -> set[int]:
    """Ports of processes of this data directory, which the next supervisor takes over."""
    if not (directory / "processes").is_dir():
        return set()
    return {port for record in Processes(directory).records() for port in record.details.get("ports", {}).values()}


def ensure_supervisor(directory: Path) -> None:
    """Returns when a supervisor answers; starts one when none does."""
    if _answers(directory):
        return
    try:
        processes = Processes(data_directory(directory))
    except LaunchError as error:
        fail(str(error))
    path = processes.log(SUPERVISOR)
    with open_log(path) as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "cortex_cli.local.supervisor", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while not _answers(directory):
        if child.poll() is not None or time.monotonic() > deadline:
            fail(f"the supervisor does not start: {processes.last_line(SUPERVISOR)}; log: {path}; try: cortex down")
        time.sleep(0.05)


def _answers(directory: Path) -> bool:
    try:
        wire.ask(directory, "status")
    except wire.NotRunning:
        return False
    return True
