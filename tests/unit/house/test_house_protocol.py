"""The protocol stays compatible with its baseline, and the baseline changes only with a decision."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("tools", "proto", "docs/decisions"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*_pb2*"))
    return tmp_path


def check(root: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(root / "tools" / "protocol.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def edit(copy: Path, before: str, after: str) -> None:
    file = copy / "proto/datapunk/cortex/common.proto"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def test_the_protocol_is_clean_and_compatible(copy: Path) -> None:
    assert check(copy) == (0, "")


def test_a_field_that_changes_its_type_breaks_clients(copy: Path) -> None:
    edit(copy, "string namespace = 1;", "int32 namespace = 1;")

    status, output = check(copy)

    assert status == 1
    assert 'Field "1" with name "namespace" on message "ResourceRef" changed type from "string" to "int32"' in output


def test_a_new_field_needs_a_comment_but_no_new_baseline(copy: Path) -> None:
    edit(copy, "string namespace = 1;", "string namespace = 1;\n  // New.\n  string extra = 99;")
    assert check(copy) == (0, "")

    edit(copy, "  // New.\n", "")
    assert "should have a non-empty comment" in check(copy)[1]


def test_a_new_baseline_needs_a_page_that_names_it(copy: Path) -> None:
    edit(copy, "string namespace = 1;", "int32 namespace = 1;")
    assert check(copy, "--new-baseline") == (0, "")

    digest = hashlib.sha256((copy / "proto/baseline/datapunk.cortex.binpb").read_bytes()).hexdigest()
    status, output = check(copy)
    assert status == 1
    assert f"SHA-256 {digest}) but no page in docs/decisions names it" in output

    (copy / "docs/decisions/0099-why.md").write_text(f"The namespace is a number: {digest}")
    assert check(copy) == (0, "")
