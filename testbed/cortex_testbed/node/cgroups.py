"""The cgroup that all pods of the bed live in; shields the rest from the versions of cgroups.

Whatever a pod started is in there, so this is also how nothing else is ever killed.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

from cortex_testbed.errors import BedError

NAME: Final = "cortex-testbed"
MOUNT: Final = Path("/sys/fs/cgroup")
END_SECONDS: Final = 10.0


def make() -> None:
    """Makes it in every hierarchy. Raises BedError."""
    try:
        for group in _roots():
            group.mkdir(exist_ok=True)
    except OSError as error:
        raise BedError(f"no cgroup for the pods can be made ({error}): the node needs a writable {MOUNT}") from error


def kill() -> None:
    """kill -9 of every process of every pod; returns when they are gone. Raises BedError."""
    deadline = time.monotonic() + END_SECONDS
    while members := _members():
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise BedError(f"processes of pods do not end, even by kill -9: {sorted(members)}")
        time.sleep(0.02)


def remove() -> None:
    """Takes the empty groups away."""
    for root in _roots():
        for path, _, _ in os.walk(root, topdown=False):
            Path(path).rmdir()


def _roots() -> list[Path]:
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT / NAME]
    hierarchies = (path for path in MOUNT.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists())
    return [hierarchy / NAME for hierarchy in hierarchies]


def _members() -> set[int]:
    found: set[int] = set()
    for root in _roots():
        for path, _, _ in os.walk(root):
            try:
                found.update(map(int, Path(path, "cgroup.procs").read_text().split()))
            except OSError:  # a pod's group that went away meanwhile
                continue
    return found
