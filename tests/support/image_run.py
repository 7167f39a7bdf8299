"""Containers of built images as a restricted pod has them: user 65532, read-only root, /tmp, no rights, no network."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cortex_testbed.images_tools import Buildah

USER = 65532
NAMESPACES = ("pid", "mount", "ipc", "uts", "network")


@dataclass
class Container:
    """A container of an image in the builder's storage, which can be run again and again; `directory` is its own."""

    tool: Buildah
    image: str
    directory: Path
    volumes: Mapping[str, Path] = field(default_factory=dict)
    """Path in the container -> folder."""

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self._id = self.tool.run("from", "--pull=never", self.image)
        self._config = json.loads(self.tool.run("inspect", "--type=image", self.image))["OCIv1"]["config"]

    def close(self) -> None:
        """Removes it."""
        self.tool.run("rm", self._id)

    def run(self, *command: str, seconds: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
        """The image's own command without one; its output is one text."""
        words = self._command(command, env)
        return subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False
        )

    def start(self, **env: str) -> Running:
        """The image's own command, until `stop`."""
        return Running(self._command((), env), self.directory)

    @property
    def config(self) -> dict[str, Any]:
        """The image's configuration: Cmd, Env, User, Labels, StopSignal."""
        config: dict[str, Any] = self._config
        return config

    def _command(self, command: tuple[str, ...], env: Mapping[str, str]) -> list[str]:
        config = self.directory / "config.json"
        config.write_text(json.dumps(self._specification(list(command or self._config["Cmd"]), env)))
        # Mounted where the container runs and nowhere else: nothing is left when it is killed.
        root = shlex.join(self.tool.command("mount", self._id))
        link = f'mount --bind "$({root})" {self.directory / "rootfs"}'
        (self.directory / "rootfs").mkdir(exist_ok=True)
        state, name = self.directory / "runc", self.directory.name
        runc = f"exec runc --root={state} run --bundle={self.directory} {name}"
        return ["unshare", "--mount", "sh", "-euc", f"{link}; {runc}"]

    def _specification(self, command: list[str], env: Mapping[str, str]) -> dict[str, Any]:
        volumes = [
            {"destination": path, "type": "bind", "source": str(folder), "options": ["rbind", "rw"]}
            for path, folder in self.volumes.items()
        ]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": USER, "gid": USER},
                "args": command,
                "env": [*self._config["Env"], *(f"{name}={value}" for name, value in env.items())],
                "cwd": self._config["WorkingDir"],
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["size=64m", "mode=1777"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
                *volumes,
            ],
            "linux": {"namespaces": [{"type": name} for name in NAMESPACES]},
        }


class Running:
    """A container's process in the background."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self._directory = directory
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def ask(self, code: str, until: str, seconds: float = 60) -> str:
        """What the tests' Python prints in the container's network; asked again until the text is in it."""
        deadline = time.monotonic() + seconds
        while True:
            said = self._ask(code)
            if until in said:
                return said
            assert self._process.poll() is None, f"it ended: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"{said}\n{self.log.read_text()}"
            time.sleep(0.1)

    def stop(self, signal: str, seconds: float = 20) -> int:
        """Its exit code after a signal."""
        subprocess.run([*self._runc(), "kill", self._directory.name, signal], check=True)
        return self._process.wait(seconds)

    def _ask(self, code: str) -> str:
        state = subprocess.run([*self._runc(), "state", self._directory.name], capture_output=True, check=False)
        pid = json.loads(state.stdout)["pid"] if state.returncode == 0 else 0
        if not pid:
            return "not started yet"
        command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def _runc(self) -> list[str]:
        return ["runc", f"--root={self._directory / 'runc'}"]
