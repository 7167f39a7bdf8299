"""Who PostgreSQL runs as: it refuses root, and a machine where all is root has no user made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from cortex_cli.local.launch import LaunchError

NAMESPACE: Final = ("unshare", "-U", "--map-user=1000", "--map-group=1000", "--")
NOBODY: Final = 65534
DROP: Final = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


def unprivileged(directory: Path, program: Path) -> tuple[str, ...]:
    """The words before a command so that it does not run as root and can write `directory`: none for an ordinary user,
    a user namespace as root, or else the user `nobody`, who then owns the directory. Raises LaunchError."""
    if os.geteuid() != 0:
        return ()
    if directory.stat().st_uid != NOBODY and _namespaces_work():
        return NAMESPACE
    if shutil.which(DROP[0]) is None:
        raise LaunchError(
            "PostgreSQL refuses to run as root, user namespaces are not available and setpriv is not installed; "
            "run cortex as an ordinary user"
        )
    for test in (("test", "-x", str(directory.parent)), ("test", "-x", str(program))):
        if subprocess.run([*DROP, *test], capture_output=True, check=False).returncode:
            raise LaunchError(
                f"PostgreSQL refuses to run as root, user namespaces are not available and the user nobody cannot "
                f"reach {test[-1]}; run cortex as an ordinary user, or with a --data-dir and an installation that all "
                f"can read"
            )
    _give(directory)
    return DROP


@cache
def _namespaces_work() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _give(directory: Path) -> None:
    if directory.stat().st_uid == NOBODY:
        return
    for path in [*directory.rglob("*"), directory]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
