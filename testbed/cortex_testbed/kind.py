"""A cluster of kind, in Docker; shields the rest from kind's command line."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from cortex_testbed import binaries
from cortex_testbed.errors import BedError
from cortex_testbed.paths import KIND_CONFIG


class Kind:
    """One cluster, whose name is its folder's: what a killed run left is found again, and nobody else's is touched."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.kubeconfig = self.directory / "admin.kubeconfig"
        self.name = "cortex-" + hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]

    def start(self) -> None:
        """Returns when its nodes are ready. Raises BedError."""
        self.stop()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._run("create", "cluster", f"--config={KIND_CONFIG}", "--wait=120s")

    def stop(self) -> None:
        """Deletes it; nothing when it is not there. Raises BedError."""
        self._run("delete", "cluster")

    def _run(self, *words: str) -> None:
        program = shutil.which("kind") or binaries.ensure(["kind"]) / "kind"
        command = [str(program), *words, f"--name={self.name}", f"--kubeconfig={self.kubeconfig}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BedError(f"kind {' '.join(words)}: {done.stderr.strip()[-1500:]}")
