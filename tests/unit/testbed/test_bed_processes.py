"""Processes end with their owner, and nobody else's process is ever signalled."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cortex_testbed.errors import BedError
from cortex_testbed.processes import Processes

STUBBORN = ("bash", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < deadline, f"no {text!r} in {path}"
        time.sleep(0.01)


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    processes.start("stubborn", STUBBORN)
    wait_for(processes.log("stubborn"), "ready")
    processes.stop("stubborn", 0.1)
    assert processes.pid("stubborn") is None
    assert processes.names() == []


def test_one_of_an_earlier_run_is_ended(tmp_path: Path) -> None:
    first = Processes(tmp_path)
    first.start("sleep", ["sleep", "60"])
    pid = first.pid("sleep")
    assert pid is not None
    gone = os.pidfd_open(pid)
    Processes(tmp_path).stop("sleep", 5)
    assert select.select([gone], [], [], 0)[0]
    assert first.ended() == "sleep"


def test_number_that_is_another_process_now_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        record = tmp_path / "processes" / "etcd.json"
        record.parent.mkdir()
        record.write_text(json.dumps({"pid": other.pid, "start_time": 1}))
        processes = Processes(tmp_path)
        assert processes.pid("etcd") is None
        processes.stop("etcd", 0.1)
        assert other.poll() is None
        assert not record.exists()
    finally:
        other.kill()
        other.wait()


def test_all_die_with_their_owner(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from cortex_testbed.processes import Processes;"
        f"Processes(Path({str(tmp_path)!r})).start('stubborn', {STUBBORN!r}); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    wait_for(tmp_path / "processes" / "stubborn.json", "pid")
    pid = Processes(tmp_path).pid("stubborn")
    assert pid is not None
    gone = os.pidfd_open(pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait(60)
    assert select.select([gone], [], [], 60)[0]


def test_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(BedError, match="etcd cannot be started: /nowhere/etcd: No such file or directory"):
        Processes(tmp_path).start("etcd", ["/nowhere/etcd"])
