"""Layers, and the rules of the tree that no linter knows."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_layers_hold() -> None:
    command = [sys.executable, str(ROOT / "tools" / "layers.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_no_package_shadows_a_library() -> None:
    """`operator` is in the standard library; haystack and langgraph are what we build on."""
    roots = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {
        path.parent.name for path in ROOT.glob("*/*/__init__.py")
    }

    assert roots >= {"cortex_operator", "cortex_workloads", "cortex_kinds", "cortex_cli"}
    assert not roots & {"operator", "haystack", "langgraph"}


def test_test_files_have_unique_names_and_no_packages() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))

    assert len(names) > 5
    assert [name for name, count in names.items() if count > 1] == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []
