"""The bed's own containerd; shields the rest from its configuration, its shims and `ctr`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cortex_testbed.errors import BedError
from cortex_testbed.node import packages, pause
from cortex_testbed.node.archives import Archives

READY_SECONDS: Final = 20.0
_SHIM: Final = "containerd-shim-runc-v2"
_CONFIG: Final = """\
version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{runc}"
"""


class Containerd:
    """Its folder: `root` (images; kept), `state` and `runc` (what runs; network namespaces are mounted there)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.socket = self.directory / "containerd.sock"
        self._state = self.directory / "state"
        self._archives = Archives(self.directory)

    def command(self, cni: Path) -> list[str]:
        """Writes the configuration; what to run. `cni` is the folder of the network's configuration."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.toml"
        values = {"root": self.directory / "root", "state": self._state, "runc": self.directory / "runc"}
        config.write_text(
            _CONFIG.format(**values, socket=self.socket, pause=pause.IMAGE, plugins=packages.plugins(), cni=cni)
        )
        return ["containerd", "--config", str(config)]

    def wait(self) -> None:
        """Returns when it answers. Raises BedError."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.ctr("version")
                return
            except BedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def load(self, archive: Path) -> list[str]:
        """Imports a docker-archive or OCI archive, unless its images are there; their names. Raises BedError."""
        if not archive.is_file():
            raise BedError(f"no image archive at {archive}: build it first")
        names = self._archives.names(archive)
        if not names or not set(names) <= set(self.ctr("images", "list", "--quiet").split()):
            said = self.ctr("images", "import", str(archive))
            names = re.findall(r"^unpacking (\S+) \(", said, re.MULTILINE)
        self._archives.add(archive, names)
        return names

    def forget_containers(self) -> bool:
        """Removes what it remembers of containers that ran before; whether there were any."""
        names = self.ctr("containers", "list", "--quiet").split()
        if names:
            self.ctr("containers", "delete", *names)
        return bool(names)

    def forget_unused(self) -> None:
        """At the node's start: removes the images that were not imported since its start before."""
        wanted = self._archives.turn()
        lines = [line.split() for line in self.ctr("images", "list").splitlines()[1:]]
        kept = {digest for name, _, digest, *_ in lines if name in wanted}
        if unused := [name for name, _, digest, *_ in lines if digest not in kept]:
            self.ctr("images", "delete", *unused)

    def kill_shims(self) -> None:
        """kill -9 of the shims of this containerd alone, and of every runc that works for them."""
        while pids := list(self._helpers()):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)

    def forget_state(self) -> None:
        """Removes what is left of containers that were killed; needs everything in it unmounted."""
        for address in self._state.glob("io.containerd.runtime.v2.task/*/*/address"):
            socket = Path(address.read_text().removeprefix("unix://"))
            socket.unlink(missing_ok=True)
        for name in (self._state, self.directory / "runc"):
            shutil.rmtree(name, ignore_errors=True)

    def ctr(self, *words: str) -> str:
        """Its output, in the namespace that kubelet uses. Raises BedError."""
        command = ["ctr", "--address", str(self.socket), "--namespace", "k8s.io", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BedError(f"ctr {' '.join(words[:3])} failed: {done.stderr.strip()}")
        return done.stdout

    def _helpers(self) -> Iterator[int]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_helper(entry):
                yield int(entry.name)

    def _is_helper(self, entry: Path) -> bool:
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            ended = (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return False
        name = Path(words[0]).name
        wanted = {_SHIM: str(self.socket), "runc": str(self.directory / "runc" / "k8s.io")}.get(name)
        return wanted in words and not ended
