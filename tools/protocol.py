"""Checks the protocol: buf's lint, compatibility with the published baseline, and that the baseline is accounted for.

The baseline (proto/baseline/datapunk.cortex.binpb) is what clients rely on. It is replaced only together with a page in
docs/decisions that names its SHA-256 and says why. `--new-baseline` replaces it. Works without a network.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / "proto" / "baseline" / "datapunk.cortex.binpb"
DECISIONS = ROOT / "docs" / "decisions"


def buf(*arguments: str) -> list[str]:
    """What buf finds wrong, a line each. Raises FileNotFoundError when buf is not installed."""
    command = [str(Path(sys.executable).parent / "buf"), *arguments]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "BUF_CACHE_DIR": cache}, check=False
        )
    return (done.stdout + done.stderr).splitlines() if done.returncode else []


def unaccounted(baseline: Path, decisions: Path) -> list[str]:
    """Whether no page of the decisions names the baseline's SHA-256; a message, or nothing."""
    digest = hashlib.sha256(baseline.read_bytes()).hexdigest()
    if any(digest in page.read_text(encoding="utf-8") for page in decisions.glob("*.md")):
        return []
    return [
        f"{baseline.name} changed (SHA-256 {digest}) but no page in docs/decisions names it: write one that says what "
        "changes for clients and why, or restore the baseline"
    ]


def mistakes() -> list[str]:
    """Everything that is wrong with the protocol."""
    breaking = buf("breaking", "proto", "--against", str(BASELINE))
    return [*buf("lint", "proto"), *breaking, *unaccounted(BASELINE, DECISIONS)]


def main() -> int:
    """Checks, or replaces the baseline."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--new-baseline", action="store_true", help="replace the baseline by the protocol as it is")
    found = (
        buf("build", "proto", "--exclude-source-info", "-o", str(BASELINE))
        if parser.parse_args().new_baseline
        else mistakes()
    )
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
