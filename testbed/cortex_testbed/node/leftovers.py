"""What a bed leaves on the machine, taken away in order; the same after `down` and after a crash.

Everything is found by what only the bed's own things have: a folder, a socket, a cgroup, a name.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cortex_testbed.node import cgroups, chains, mounts, network, node, sysctls
from cortex_testbed.node.containerd import Containerd
from cortex_testbed.node.kubelet import DEVICE_PLUGINS
from cortex_testbed.processes import Processes

_STOP_ORDER: Final = ("kubelet", "coredns", "kube-proxy", "containerd")


def remove(directory: Path, settings: Mapping[str, str]) -> None:
    """Ends the node of a folder and removes its traces; `settings` are the sysctls from before it. Nothing that is gone
    already is an error. Raises BedError."""
    processes = Processes(directory)
    for name in _STOP_ORDER:
        processes.stop(name, grace_seconds=1)
    containerd = Containerd(directory / "containerd")
    containerd.kill_shims()
    cgroups.kill()
    mounts.remove(directory)
    cgroups.remove()
    network.remove()
    chains.remove()
    sysctls.restore(settings)
    node.forget(directory)
    _remove_device_plugins()


def _remove_device_plugins() -> None:
    shutil.rmtree(DEVICE_PLUGINS, ignore_errors=True)
    with contextlib.suppress(OSError):  # not there, or it holds what another kubelet made
        DEVICE_PLUGINS.parent.rmdir()
