"""What goes into images: the digest that names them, and the builder's own pip settings, which they must not keep."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from cortex_testbed.paths import ROOT

CONTEXT: Final = ("crds", "images", "kube", "operator", "proto", "requirements", "workloads")
"""Folders that .dockerignore lets through."""
_IGNORED: Final = (".pyc", ".pyi", ".proto")
_NOT_FOR_IMAGES: Final = ("requirements/dev.txt", "requirements/lock.txt")
_PIP_SETTINGS: Final = (
    *("index-url", "extra-index-url", "find-links", "trusted-host", "cert"),
    *("proxy", "timeout", "default-timeout", "retries"),
)
CERTIFICATES: Final = "/run/secrets/ca.crt"
"""Where a build finds those that pip is to trust."""


def digest(*more: str) -> str:
    """Twelve hex digits; others when any file of the context or a text of `more` is another."""
    found = hashlib.sha256("\0".join(more).encode())
    for path in sorted(files()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(ROOT)} {path.stat().st_mode & 0o111} {content}\n".encode())
    return found.hexdigest()[:12]


def files() -> list[Path]:
    """The files of the context."""
    found = [path for folder in CONTEXT for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [
        path for path in found if path.suffix not in _IGNORED and str(path.relative_to(ROOT)) not in _NOT_FOR_IMAGES
    ]


def write_secrets(directory: Path) -> dict[str, Path]:
    """This machine's pip settings as files for the build alone: name of the secret -> file. Empty when it has none."""
    settings = _pip_settings()
    if not settings:
        return {}
    secrets = {"pip.conf": directory / "pip.conf"}
    if certificates := settings.get("cert"):
        settings["cert"] = CERTIFICATES
        secrets["ca.crt"] = Path(certificates)
    lines = [f"{name} = {value}" for name, value in sorted(settings.items())]
    with os.fdopen(os.open(secrets["pip.conf"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n".join(["[global]", *lines]) + "\n")
    return secrets


def _pip_settings() -> dict[str, str]:
    """Of pip's files and environment, as pip itself tells; folders of this machine mean nothing inside a build."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(global|install|:env:)\.([\w-]+)='(.*)'$", said, re.MULTILINE)
    found.sort(key=lambda entry: ("global", "install", ":env:").index(entry[0]))
    settings = {name: value.replace("\\n", " ") for _, name, value in found if name in _PIP_SETTINGS}
    if "://" not in settings.get("find-links", "://"):
        del settings["find-links"]
    return settings
