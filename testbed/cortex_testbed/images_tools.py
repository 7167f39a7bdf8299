"""docker, podman or buildah, whichever answers; shields the rest from how their words differ."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from cortex_testbed import images_base
from cortex_testbed.errors import BedError
from cortex_testbed.paths import ROOT

CONTAINERFILE: Final = "images/Containerfile"
ANSWER_SECONDS: Final = 10.0
_DU: Final = """
du -xk -d0 /
du -k -d1 /opt/cortex
du -k -d1 /opt/cortex/lib/python3*/site-packages 2>/dev/null || true
"""
_LAST_LINES: Final = 15


class Tool(Protocol):
    """Builds images and looks into them. Raises BedError."""

    name: str

    def build(self, role: str, image: str, secrets: Mapping[str, Path]) -> None:
        """One role's image, by this name."""

    def du(self, image: str) -> str:
        """Lines `KiB<tab>PATH` of the image's folders."""


class Daemon:
    """docker or podman, with the base that the Containerfile names and their own storage."""

    def __init__(self, name: str) -> None:
        self.name = name

    def build(self, role: str, image: str, secrets: Mapping[str, Path]) -> None:
        """See Tool."""
        command = [self.name, "build", *_build_words(role, image, secrets)]
        run(command, f"{role} cannot be built with {self.name}", DOCKER_BUILDKIT="1")

    def du(self, image: str) -> str:
        """See Tool."""
        command = [self.name, "run", "--rm", "--user", "0", "--entrypoint", "sh", image, "-c", _DU]
        return run(command, f"{image} cannot be looked into with {self.name}")


class Buildah:
    """buildah as root, with a base made here and a storage of its own below `directory`.

    Each command has a mount namespace of its own, so that one that is killed leaves no mount."""

    name = "buildah"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        check_buildah()

    def build(self, role: str, image: str, secrets: Mapping[str, Path]) -> None:
        """See Tool."""
        # chroot isolation and a limit of 1024 files also work where resource limits cannot be raised.
        words = ["build", "--layers", "--force-rm", "--pull=never", "--isolation=chroot", "--ulimit=nofile=1024:1024"]
        words += ["--network=host", f"--build-arg=BASE={self._base()}"]
        self.run(*words, *_build_words(role, image, secrets), told=f"{role} cannot be built with buildah")

    def du(self, image: str) -> str:
        """See Tool."""
        container = self.run("from", "--pull=never", image)
        try:
            return self.run("run", "--isolation=chroot", "--user=0", container, "--", "sh", "-c", _DU)
        finally:
            self.run("rm", container)

    def push(self, image: str, destination: str) -> None:
        """Copies it to a destination of another transport."""
        self.run("push", "--quiet", image, destination)

    def has(self, image: str) -> bool:
        """Whether it is in the storage."""
        return bool(self.run("images", "--quiet", "--filter", f"reference={image}"))

    def run(self, *words: str, told: str = "buildah failed") -> str:
        """What it printed."""
        scratch = self._directory / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        return run(["unshare", "--mount", *self.command(*words)], told, TMPDIR=str(scratch))

    def command(self, *words: str) -> list[str]:
        """buildah on this storage."""
        storage = [f"--root={self._directory / 'storage'}", f"--runroot={self._directory / 'run'}"]
        return ["buildah", *storage, "--storage-driver=overlay", *words]

    def _base(self) -> str:
        image = f"localhost/cortex-base:{images_base.digest()}"
        if self.has(image):
            return image
        archive = self._directory / "base.tar"
        run(images_base.command(archive), "the base of the images cannot be made with mmdebstrap")
        container = self.run("from", "scratch")
        self.run("add", "--quiet", container, str(archive))
        self.run("commit", "--quiet", "--rm", container, image)
        archive.unlink()
        return image


def check_buildah() -> None:
    """Raises BedError when images cannot be built with it here."""
    if os.geteuid() != 0:
        raise BedError(
            "images for the test bed need root (buildah, mmdebstrap): run it as root, or use docker or podman"
        )
    if missing := [name for name in ("buildah", "mmdebstrap", "unshare") if shutil.which(name) is None]:
        raise BedError(f"images need {' and '.join(missing)}: apt-get install buildah mmdebstrap util-linux")


def choose(directory: Path) -> Tool:
    """docker or podman when one answers, else buildah. Raises BedError."""
    for name in ("docker", "podman"):
        if _answers(name):
            return Daemon(name)
    try:
        return Buildah(directory)
    except BedError as error:
        raise BedError(f"neither docker nor podman answers, and {error}") from error


def run(command: Sequence[str], told: str, **environment: str) -> str:
    """What a command printed, without spaces around it. Raises BedError: `told`, and its last lines."""
    env = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:])
        raise BedError(f"{told}: {command[0]} ended with {done.returncode}:\n{said}")
    return done.stdout.strip()


def _answers(name: str) -> bool:
    try:
        done = subprocess.run([name, "info"], capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and b"Server:\nERROR" not in done.stdout


def _build_words(role: str, image: str, secrets: Mapping[str, Path]) -> list[str]:
    words = [f"--secret=id={name},src={path}" for name, path in secrets.items()]
    return [*words, f"--build-arg=ROLE={role}", f"--tag={image}", f"--file={CONTAINERFILE}", "."]
