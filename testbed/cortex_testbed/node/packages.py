"""What the machine must be and have; shields the rest from package managers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cortex_testbed.errors import BedError

PACKAGES: Final = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "mount": "mount",
    "openssl": "openssl",
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
}
"""Command -> Debian package; the last two make images."""
PLUGINS: Final = "containernetworking-plugins"
_PLUGIN_FOLDERS: Final = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_CAP_SYS_ADMIN: Final = 21


def ensure(say: Callable[[str], None]) -> None:
    """Checks the machine and installs what is missing with apt-get, which may not remove anything. Raises BedError."""
    _check_machine()
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = _missing()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise BedError(f"missing on this machine, which has no apt-get: install the packages of {', '.join(missing)}")
    say(f"Installing Debian packages that are missing: {' '.join(missing)}")
    _apt("update")
    _apt("install", "--yes", "--no-remove", "--no-install-recommends", *missing)
    if still := _missing():
        raise BedError(f"still missing after apt-get install: {', '.join(still)}")


def plugins() -> Path:
    """The folder of the CNI plugins. Raises BedError."""
    for folder in _PLUGIN_FOLDERS:
        if all((folder / name).exists() for name in ("bridge", "host-local", "loopback")):
            return folder
    raise BedError(f"no CNI plugins in {' or '.join(map(str, _PLUGIN_FOLDERS))}: install {PLUGINS}")


def _check_machine() -> None:
    if sys.platform != "linux":
        raise BedError(f"a real node needs Linux, this is {sys.platform}; `make cluster` needs no node")
    if os.geteuid() != 0:
        raise BedError(
            "a real node needs root (containers, a bridge, iptables): run it as root; `make cluster` does not"
        )
    if not _has_capability(_CAP_SYS_ADMIN):
        raise BedError("root without CAP_SYS_ADMIN cannot run containers: use a machine, or a privileged container")


def _has_capability(number: int) -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)


def _missing() -> list[str]:
    packages = {package for command, package in PACKAGES.items() if shutil.which(command) is None}
    try:
        plugins()
    except BedError:
        packages.add(PLUGINS)
    return sorted(packages)


def _apt(*words: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", "-qq", *words], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise BedError(f"apt-get {words[0]} failed; install {', '.join(_missing())} by hand:\n{said}")
