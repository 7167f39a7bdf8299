"""Where the test bed keeps things: sources below testbed/, all that is made below .build/cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The repository."""
MODULES: Final = ROOT / "testbed" / "go"
POOLS: Final = ROOT / "testbed" / "pools"
CRDS: Final = ROOT / "crds"
KIND_CONFIG: Final = ROOT / "kind-config.yaml"
BUILD: Final = ROOT / ".build" / "cluster"
BIN: Final = BUILD / "bin"
RUN: Final = BUILD / "run"
"""The cluster of `make cluster`."""
