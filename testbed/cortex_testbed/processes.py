"""Processes of the test bed; shields the rest from process ids that are used again and from what a killed run left.

Each one dies with the thread that started it, and has a record (process id and start time) for whoever comes after.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cortex_cli.local.launch import write_private
from cortex_cli.local.processes import start_time

from cortex_testbed.errors import BedError

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Processes:
    """The processes of one folder: `processes/NAME.json` and `logs/NAME.log`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """Starts it in the folder, with this process's environment or `env`. Call it from a thread that lives as long
        as the process should. Raises BedError."""
        log = self.log(name)
        for path in (log.parent, self._record(name).parent):
            path.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                self._started[name] = process = subprocess.Popen(
                    [str(word) for word in command],
                    cwd=self.directory,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    preexec_fn=_die_with_parent,
                )
        except OSError as error:
            raise BedError(f"{name} cannot be started: {command[0]}: {error.strerror}") from error
        write_private(self._record(name), json.dumps({"pid": process.pid, "start_time": start_time(process.pid)}))

    def log(self, name: str) -> Path:
        """Where it writes."""
        return self.directory / "logs" / f"{name}.log"

    def tail(self, name: str, lines: int = 5) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def ended(self) -> str:
        """The name of a process that was started here and has ended by itself, else empty."""
        return next((name for name, process in self._started.items() if process.poll() is not None), "")

    def pidfds(self) -> list[int]:
        """A pidfd of each process that was started here; the caller closes them."""
        return [os.pidfd_open(process.pid) for process in self._started.values() if process.poll() is None]

    def pid(self, name: str) -> int | None:
        """The process id, when it still is this process."""
        pid, started = self._recorded(name)
        return pid if pid and started and start_time(pid) == started else None

    def names(self) -> list[str]:
        """All that have a record, alive or not."""
        return sorted(path.stem for path in self._record("any").parent.glob("*.json"))

    def stop(self, name: str, grace_seconds: float = 5.0) -> None:
        """SIGTERM, then SIGKILL; also of one that an earlier run started. Nothing when it is gone."""
        end(*self._recorded(name), grace_seconds)
        if child := self._started.pop(name, None):
            child.wait()
        self._record(name).unlink(missing_ok=True)

    def _recorded(self, name: str) -> tuple[int, int]:
        """Process id and start time; zeros when there is no record."""
        try:
            record = json.loads(self._record(name).read_text())
        except (OSError, ValueError):
            return 0, 0
        return record["pid"], record["start_time"] or 0

    def _record(self, name: str) -> Path:
        return self.directory / "processes" / f"{name}.json"


def end(pid: int, started: int, grace_seconds: float) -> None:
    """SIGTERM, then SIGKILL; returns when it has ended. Nothing when the number is no process, or a later one's."""
    if not pid:
        return
    with contextlib.suppress(ProcessLookupError), _opened(pid) as pidfd:
        if start_time(pid) != started:
            return
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not _has_ended(pidfd, grace_seconds):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _has_ended(pidfd, 10)


@contextlib.contextmanager
def _opened(pid: int) -> Iterator[int]:
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _has_ended(pidfd: int, seconds: float) -> bool:
    return bool(select.select([pidfd], [], [], seconds)[0])


def end_with_parent(number: int) -> None:
    """This process gets the signal when the thread that started it is gone; 0: nothing."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)


def _die_with_parent() -> None:
    end_with_parent(signal.SIGKILL)
