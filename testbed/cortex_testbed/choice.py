"""Which cluster is used, and why: KUBECONFIG's when that is said, kind when Docker answers, else a plane of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cortex_testbed import binaries
from cortex_testbed.errors import BedError

VARIABLE: Final = "CORTEX_TEST_CLUSTER"
PLANE, KIND, EXISTING = KINDS = ("plane", "kind", "existing")
DOCKER_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Choice:
    """`kind` is one of KINDS; `reason` says why in some words."""

    kind: str
    reason: str
    explicit: bool = False
    """Whether somebody said so."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The binaries."""
        kind = () if shutil.which("kind") else ("kind",)
        return {PLANE: binaries.PLANE, KIND: ("kubectl", "kwok", *kind), EXISTING: ("kubectl",)}[self.kind]

    def __str__(self) -> str:
        what = {
            PLANE: "a control plane of this repository with fake nodes",
            KIND: "kind with kind-config.yaml",
            EXISTING: "KUBECONFIG's cluster",
        }
        return f"Cluster: {what[self.kind]}, because {self.reason}"


def choose(environment: Mapping[str, str] = os.environ) -> Choice:
    """Asks Docker at most once. Raises BedError."""
    wanted = environment.get(VARIABLE, "")
    if wanted and wanted not in KINDS:
        raise BedError(f"{VARIABLE}={wanted} is not known: use one of {', '.join(KINDS)}, or leave it unset")
    silence = "" if wanted in (PLANE, EXISTING) else _docker_silence()
    if wanted == KIND and silence:
        raise BedError(f"{VARIABLE}=kind needs Docker and {silence}: start Docker, or use {VARIABLE}=plane")
    if wanted:
        return Choice(wanted, f"{VARIABLE} is {wanted}", explicit=True)
    return Choice(PLANE, silence) if silence else Choice(KIND, "Docker answers")


def _docker_silence() -> str:
    """Why Docker cannot be used; empty when it answers."""
    command = ["docker", "info", "--format", "{{.ServerVersion}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOCKER_SECONDS, check=False)
    except FileNotFoundError:
        return "Docker is not installed"
    except (OSError, subprocess.TimeoutExpired):
        return "Docker does not answer"
    return "Docker does not answer" if done.returncode or not done.stdout.strip() else ""
