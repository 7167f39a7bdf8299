"""Redis as Debian ships it, without installing it; shields the rest from packages and the libraries that they want."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cortex_testbed.errors import BedError
from cortex_testbed.paths import ROOT

PACKAGES: Final = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
"""The server, and what it wants that a plain Debian 12 lacks."""
FOLDER: Final = ROOT / ".build" / "debian"
_REMEDY: Final = (
    "install Redis 7.0 or newer and put `redis-server` on PATH (Debian, Ubuntu: apt-get install redis-server)"
)


@dataclass(frozen=True)
class Program:
    """A command, and the environment that it needs."""

    path: Path
    env: Mapping[str, str]


def redis(say: Callable[[str], None] = print) -> Program:
    """The redis-server on PATH; without one Debian's, unpacked below .build. Several processes may ask at once. Raises
    BedError, with what to install."""
    if found := shutil.which("redis-server"):
        return Program(Path(found), {})
    FOLDER.mkdir(parents=True, exist_ok=True)
    unpacked = FOLDER / "redis"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.exists():
            say(f"Unpacking {', '.join(PACKAGES)} (once)")
            _unpack(unpacked)
    libraries = sorted({str(file.parent) for file in unpacked.rglob("*.so*")})
    program = Program(unpacked / "usr/bin/redis-server", {"LD_LIBRARY_PATH": os.pathsep.join(libraries)})
    done = subprocess.run(
        [program.path, "--version"], env={**os.environ, **program.env}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BedError(f"Debian's redis-server does not run here ({done.stderr.strip()}): {_REMEDY}")
    return program


def _unpack(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as made:
        folder = Path(made)
        folder.chmod(0o755)  # apt's own user reads it
        try:
            if _apt(folder).returncode:
                # The lists are empty, or older than what the archive has.
                subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)
                done = _apt(folder)
                if done.returncode:
                    raise BedError(f"redis-server cannot be had from apt ({_last(done.stderr)}): {_REMEDY}")
            for package in folder.glob("*.deb"):
                subprocess.run(["dpkg-deb", "--extract", package, folder / "root"], check=True, capture_output=True)
        except OSError as error:
            raise BedError(f"redis-server was not found, and neither was {error.filename}: {_REMEDY}") from error
        except subprocess.CalledProcessError as error:
            raise BedError(f"a package of Redis cannot be unpacked ({_last(error.stderr)}): {_REMEDY}") from error
        (folder / "root").rename(target)


def _apt(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "download", *PACKAGES]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _last(said: str | bytes) -> str:
    text = said if isinstance(said, str) else said.decode(errors="replace")
    return (text.strip().splitlines() or ["no reason"])[-1]
