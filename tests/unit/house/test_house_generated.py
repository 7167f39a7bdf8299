"""What is generated is current, and a file that is not is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def generate(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / "generate.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The parts of the repository that generation reads and writes."""
    for folder in ("tools", "proto", "crds", "charts/datapunk-cortex/files", "docs/reference"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                target = tmp_path / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    return tmp_path


def test_committed_files_are_current() -> None:
    done = generate(ROOT)

    assert (done.returncode, done.stdout) == (0, "")


def test_every_stale_missing_and_left_over_file_is_named(copy: Path) -> None:
    (copy / "proto/datapunk/cortex/api_pb2.pyi").write_text("changed")
    (copy / "proto/datapunk/cortex/gone_pb2.py").write_text("left over")
    (copy / "crds/cortex.datapunk.io_cortexindexes.yaml").unlink()
    (copy / "charts/datapunk-cortex/files/crds/gone.yaml").write_text("left over")
    (copy / "docs/reference/conditions.md").write_text("changed")

    done = generate(copy)

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{name} is not current: run `make generate` and commit what it changes"
        for name in (
            "charts/datapunk-cortex/files/crds/gone.yaml",
            "crds/cortex.datapunk.io_cortexindexes.yaml",
            "docs/reference/conditions.md",
            "proto/datapunk/cortex/api_pb2.pyi",
            "proto/datapunk/cortex/gone_pb2.py",
        )
    ]


def test_generate_makes_them_current(copy: Path) -> None:
    (copy / "proto/datapunk/cortex/gone_pb2.py").write_text("left over")
    (copy / "docs/reference/conditions.md").unlink()

    subprocess.run([sys.executable, str(copy / "tools" / "generate.py")], check=True)

    assert generate(copy).stdout == ""
    assert not (copy / "proto/datapunk/cortex/gone_pb2.py").exists()
