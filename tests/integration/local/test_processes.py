"""Processes outlive whoever started them, are found again, and end with all that they started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cortex_cli.local import processes as processes_module
from cortex_cli.local.backoff import Backoff
from cortex_cli.local.launch import LaunchError
from cortex_cli.local.leftovers import anything, end_all
from cortex_cli.local.processes import Process, Processes, ProcessSpec

PARENT = "import subprocess, sys; p = subprocess.Popen(['sleep', '1000']); print(p.pid, flush=True); p.wait()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path)
    yield processes
    for record in processes.records():
        os.killpg(record.pid, signal.SIGKILL)


def spec(processes: Processes, *command: str, name: str = "worker") -> ProcessSpec:
    return ProcessSpec(name, command, dict(os.environ), processes.logs, digest="d", grace_seconds=5)


async def said(processes: Processes, name: str = "worker") -> str:
    async with asyncio.timeout(60):
        while not (line := processes.last_line(name)):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
    return line


async def test_the_exit_code_is_known(processes: Processes) -> None:
    process = processes.start(spec(processes, sys.executable, "-c", "print('bye'); raise SystemExit(7)"))
    assert await process.exited == 7
    assert processes.last_line("worker") == "bye"
    killed = processes.start(spec(processes, "sleep", "1000"))
    killed.kill()
    assert await killed.exited == 137


async def test_stopping_ends_the_whole_group(processes: Processes) -> None:
    process = processes.start(spec(processes, sys.executable, "-c", PARENT))
    child = int(await said(processes))
    await process.stop()
    async with asyncio.timeout(30):
        while lives(child):  # noqa: ASYNC110 - of no child
            await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_who_does_not_listen_is_killed_after_the_grace(processes: Processes) -> None:
    process = processes.start(spec(processes, sys.executable, "-c", DEAF))
    await said(processes)
    await process.stop(grace_seconds=0.1)
    assert process.exited.result() == 137


async def test_another_supervisor_takes_over(processes: Processes, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cortex_cli.local.processes import *\n"
        "import asyncio\n"
        "async def main():\n"
        "    p = Processes(Path(sys.argv[1]))\n"
        "    p.start(ProcessSpec('worker', ('sleep', '1000'), {'PATH': '/usr/bin:/bin'}, Path('/'), 'd'))\n"
        "asyncio.run(main())\n"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(tmp_path)], check=True)
    record = processes.record("worker")
    assert record is not None
    process = processes.adopt(record)
    assert isinstance(process, Process)
    os.kill(record.pid, signal.SIGKILL)
    assert await asyncio.wait_for(process.exited, 60) is None
    assert processes.record("worker") is None


async def test_a_number_that_is_another_process_now_is_not_adopted(processes: Processes) -> None:
    process = processes.start(spec(processes, "sleep", "1000"))
    path = next((processes.logs.parent / "processes").glob("*.json"))
    record = process.record
    path.write_text(path.read_text().replace(f'"start_time": {record.start_time}', '"start_time": 1'))
    assert processes.record("worker") is None
    assert processes.strays() == [process.pid]
    assert anything(processes)
    await end_all(processes)
    assert await process.exited == 137
    assert not anything(processes)


async def test_children_of_known_processes_are_no_strays(processes: Processes) -> None:
    process = processes.start(spec(processes, sys.executable, "-c", PARENT))
    await said(processes)
    assert processes.strays() == []
    await process.stop()


async def test_a_program_that_is_not_there_is_named(processes: Processes) -> None:
    with pytest.raises(LaunchError, match="worker cannot be started: /no/such: No such file"):
        processes.start(spec(processes, "/no/such"))


async def test_logs_are_bounded(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes_module, "LOG_BYTES", 3)
    monkeypatch.setattr(processes_module, "LOGS_KEPT", 2)
    for word in ("first", "second"):
        await processes.start(spec(processes, "echo", word, name="a.b")).exited
    assert processes.log("a.b").read_text() == "second\n"
    assert processes.log("a.b").with_name("a.b.log.1").read_text() == "first\n"
    for number in range(4):
        processes.log(f"a.old-{number}").write_text("x")
    processes.forget("a.b")
    processes.prune_logs()
    assert len(list(processes.logs.glob("*.log"))) == 2


def test_back_off_grows_to_its_limit_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    backoff = Backoff()
    delays = [backoff.after(started=now) for _ in range(10)]
    assert 0.15 <= delays[0] <= 0.2
    assert 7.5 <= delays[-1] <= 10
    assert backoff.after(started=now - 31) <= 0.2
