"""Kernel settings that kubelet, kube-proxy and the bridge change: read before, put back afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CHANGED: Final = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def read() -> dict[str, str]:
    """Their values now."""
    found = {}
    for name in CHANGED:
        with contextlib.suppress(OSError):
            found[name] = _path(name).read_text().strip()
    return found


def restore(values: Mapping[str, str]) -> None:
    """Writes those that differ; one that this kernel does not let be written stays."""
    now = read()
    for name, value in values.items():
        if name in CHANGED and now.get(name) != value:
            with contextlib.suppress(OSError):
                _path(name).write_text(value)


def _path(name: str) -> Path:
    return Path("/proc/sys", name)
