"""One bed at a time on a machine: the file that says whose, locked for as long as its keeper lives."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Final

from cortex_testbed.errors import BedError

FILE: Final = Path("/run/cortex-testbed.json")
"""Gone after a restart of the machine, as are the traces that it stands for."""


@dataclass(frozen=True)
class Holder:
    """Whose bed it is, or was; `settings` are the sysctls from before it."""

    directory: Path
    keeper: int
    settings: Mapping[str, str] = field(default_factory=dict)


class Claim:
    """The lock on this machine. It is free as soon as the process that took it is gone, however it ended."""

    def __init__(self) -> None:
        self._file: IO[str] | None = None

    def take(self) -> Holder | None:
        """Takes it; the holder before, when that one left its traces. Raises BedError, which names the holder."""
        try:
            file = os.fdopen(os.open(FILE, os.O_RDWR | os.O_CREAT, 0o644), "r+")
        except OSError as error:
            raise BedError(f"{FILE} cannot be opened ({error.strerror}): a node needs root") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read(file)
            file.close()
            whose = f"the one of {holder.directory}, process {holder.keeper}" if holder else "one that just starts"
            raise BedError(f"a machine has room for one node and there is {whose}: end that one first") from error
        self._file = file
        return _read(file)

    def write(self, holder: Holder | None) -> None:
        """Says whose it is; None: nobody's, and nothing is left."""
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()
        if holder:
            json.dump({**asdict(holder), "directory": str(holder.directory)}, self._file)
        self._file.flush()

    def release(self) -> None:
        """Gives it up."""
        if self._file is not None:
            self._file.close()
            self._file = None


def holder() -> Holder | None:
    """Who holds the machine now; None when nobody does, whatever was left."""
    try:
        with FILE.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
    except BlockingIOError:
        with FILE.open() as file:
            return _read(file)
    except OSError:
        return None


def is_clean() -> bool:
    """Whether there is no bed and none has left traces."""
    try:
        return FILE.stat().st_size == 0 and holder() is None
    except FileNotFoundError:
        return True


def _read(file: IO[str]) -> Holder | None:
    try:
        content = json.load(file)
        return Holder(Path(content["directory"]), int(content["keeper"]), content["settings"])
    except (ValueError, KeyError, TypeError):
        return None
