"""Processes that outlive this one; shields the rest from sessions, process ids that are used again, and /proc.

Each process has a record in a file. Whoever comes after this supervisor finds it there and takes the process over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from cortex_cli.local.launch import LaunchError, write_private

MARK: Final = "CORTEX_LOCAL_PROCESS"
"""Environment variable of every process: DIRECTORY:NAME, so that one without a record can be found."""
LOG_BYTES: Final = 16 * 2**20
"""A log above this is put aside (NAME.log.1) when its process starts."""
LOGS_KEPT: Final = 40
"""Logs of pods that are gone."""


@dataclass(frozen=True)
class ProcessSpec:
    """What to run. `digest` is what an adopted process must have been started with; `details` is kept with it."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    digest: str
    stop_signal: int = signal.SIGTERM
    grace_seconds: float = 10.0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProcessRecord:
    """What is known about a process that was started; `start_time` in clock ticks since boot."""

    name: str
    pid: int
    start_time: int
    digest: str
    stop_signal: int
    grace_seconds: float
    details: dict[str, Any]

    @property
    def alive(self) -> bool:
        """Whether it still is this process, and not a later one with its number."""
        return start_time(self.pid) == self.start_time


class Process:
    """A live process, a child or adopted. Belongs to the running event loop."""

    def __init__(self, record: ProcessRecord, pidfd: int) -> None:
        self.record = record
        self.exited: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        """The exit code as a shell counts (128 + signal); None when it was adopted: then nobody can know it."""
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        """Process id, and id of its group and session."""
        return self.record.pid

    async def stop(self, grace_seconds: float | None = None) -> None:
        """Asks it to end, waits, then kills it with its group."""
        self._signal(self.record.stop_signal)
        grace = self.record.grace_seconds if grace_seconds is None else grace_seconds
        done, _ = await asyncio.wait([self.exited], timeout=grace)
        if not done:
            self.kill()
        await asyncio.wait([self.exited])

    def kill(self) -> None:
        """kill -9 of its whole group."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self.kill()  # what it left in its group; its number cannot be another's before it is reaped
        code = _reap(self._pidfd)
        os.close(self._pidfd)
        if not self.exited.done():
            self.exited.set_result(code)


class Processes:
    """The processes of one data directory: `processes/NAME.json` and `logs/NAME.log`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._records = self._directory / "processes"
        self.logs = self._directory / "logs"
        for path in (self._records, self.logs):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def start(self, spec: ProcessSpec) -> Process:
        """Starts it in a session of its own. Raises LaunchError."""
        mark = {MARK: f"{self._directory}:{spec.name}"}
        try:
            with open_log(self.log(spec.name)) as log:
                child = subprocess.Popen(
                    spec.command,
                    env={**spec.env, **mark},
                    cwd=spec.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise LaunchError(f"{spec.name} cannot be started: {spec.command[0]}: {error.strerror}") from error
        pidfd = os.pidfd_open(child.pid)
        child.returncode = 0  # reaped through the pidfd, not by Popen
        record = ProcessRecord(
            name=spec.name,
            pid=child.pid,
            start_time=start_time(child.pid) or 0,
            digest=spec.digest,
            stop_signal=int(spec.stop_signal),
            grace_seconds=spec.grace_seconds,
            details=dict(spec.details),
        )
        write_private(self._path(spec.name), json.dumps(asdict(record)))
        return Process(record, pidfd)

    def adopt(self, record: ProcessRecord) -> Process | None:
        """Takes over a process that another supervisor started; None when it has ended."""
        try:
            pidfd = os.pidfd_open(record.pid)
        except OSError:
            return None
        if not record.alive:
            os.close(pidfd)
            return None
        return Process(record, pidfd)

    def record(self, name: str) -> ProcessRecord | None:
        """The record of a process that still lives."""
        return next((record for record in self.records() if record.name == name), None)

    def records(self) -> list[ProcessRecord]:
        """The records of processes that still live; those of dead ones are removed."""
        return [record for path in sorted(self._records.glob("*.json")) if (record := self._read(path))]

    def forget(self, name: str) -> None:
        """Removes a record."""
        self._path(name).unlink(missing_ok=True)

    def strays(self) -> list[int]:
        """Process ids of what was started here and has no record: a supervisor was killed before it wrote one."""
        known = {record.pid for record in self.records()}
        return [pid for pid in _marked(f"{self._directory}:") if not known & _line(pid)]

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self.logs / f"{name}.log"

    def prune_logs(self) -> None:
        """Removes the oldest logs of processes that have ended for good."""
        live = {self.log(path.stem) for path in self._records.glob("*.json")}
        dead = sorted(set(self.logs.glob("*.*.log")) - live, key=lambda path: path.stat().st_mtime, reverse=True)
        for path in dead[LOGS_KEPT:]:
            path.unlink(missing_ok=True)
            path.with_name(path.name + ".1").unlink(missing_ok=True)

    def last_line(self, name: str) -> str:
        """The last line that a process wrote, for a message; at most 512 characters. Of JSON its `message`."""
        try:
            with self.log(name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return _words(lines[-1].strip())[-512:] if lines else ""

    def _path(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _read(self, path: Path) -> ProcessRecord | None:
        try:
            record = ProcessRecord(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            record = None
        if record is None or not record.alive:
            path.unlink(missing_ok=True)
            return None
        return record


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when there is none, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def open_log(path: Path) -> IO[bytes]:
    """A log to be written on, after one that has become too long was put aside."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


def _reap(pidfd: int) -> int | None:
    try:
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def _line(pid: int) -> set[int]:
    """The process and those that it descends from."""
    line = set()
    while pid > 1:
        line.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return line


def _marked(start: str) -> Iterator[int]:
    wanted = f"{MARK}={start}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(variable.startswith(wanted) for variable in variables):
            yield int(entry.name)


def _words(line: str) -> str:
    """What a line says: lines of the services are JSON objects."""
    try:
        said = json.loads(line)
    except ValueError:
        return line
    return str(said.get("message", line)) if isinstance(said, dict) else line
