"""What images are built on where there is no registry: a small Debian; shields the rest from mmdebstrap."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

PACKAGES: Final = ("ca-certificates", "python3", "usr-is-merged")
HOOKS: Final = "/usr/share/mmdebstrap/hooks/merged-usr"
LEFT_OUT: Final = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)
CLEANING: Final = 'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/debconf/*-old "$1"/var/log/*.log'


def command(archive: Path) -> list[str]:
    """Makes the root file system as a tar file: what debian:bookworm-slim has, and Python."""
    words = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", f"--hook-dir={HOOKS}"]
    words += ["--aptopt=APT::Install-Recommends false", *(f"--dpkgopt={option}" for option in LEFT_OUT)]
    return [*words, f"--customize-hook={CLEANING}", "bookworm", str(archive)]


def digest() -> str:
    """Twelve hex digits; others when it is made otherwise."""
    return hashlib.sha256("\n".join(command(Path("base.tar"))).encode()).hexdigest()[:12]
