"""Mounts below a folder, the pods' network namespaces among them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def below(directory: Path) -> list[str]:
    """Where something is mounted in the folder, the innermost first."""
    prefix = f"{directory.absolute()}{os.sep}"
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return sorted((point for point in points if point.startswith(prefix)), reverse=True)


def remove(directory: Path) -> None:
    """Unmounts them all, lazily: whoever still uses one goes on."""
    for point in below(directory):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)
