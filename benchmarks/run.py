"""`make bench`: retrieval through the gateway, on known items and on the BEIR data set in the folder $BEIR, if given.

Writes benchmarks/results/NAME.json and a table of all results, ratios first, benchmarks/results/README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import known_items

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Runs what there is to run; returns the exit code."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cortex-known-items-") as folder:
        known_items.write(Path(folder))
        code = retrieval(Path(folder), "known-items")
    if beir := os.environ.get("BEIR"):
        code = code or retrieval(Path(beir), Path(beir).resolve().name)
    if not code:
        (RESULTS / "README.md").write_text(table())
        print(f"results: {RESULTS.relative_to(Path.cwd())}")
    return code


def retrieval(folder: Path, name: str) -> int:
    """`cortex bench retrieval` on one data set."""
    output = str(RESULTS / f"{name}.json")
    command = [sys.executable, "-m", "cortex_cli.main", "bench", "retrieval", "--beir", str(folder), "--output", output]
    return subprocess.run(command, check=False).returncode


def table() -> str:
    """All results as Markdown."""
    lines = [
        "# Retrieval, through the gateway\n",
        "Made by `make bench` (`BEIR=DIR make bench` for a data set in BEIR layout). Milliseconds are of one noisy "
        "machine: compare them within a row only.\n",
        "| data | vector / exact | hybrid / best leg | nDCG@10 text, vector, hybrid | recall@100 | median ms |",
        "|---|---|---|---|---|---|",
    ]
    for file in sorted(RESULTS.glob("*.json")):
        lines.append(row(file.stem, json.loads(file.read_text())))
    return "\n".join(lines) + "\n"


def row(name: str, legs: dict[str, dict[str, Any]]) -> str:
    """One data set's line."""

    def of(measure: str, digits: int) -> str:
        return ", ".join(f"{legs[leg][measure]:.{digits}f}" for leg in ("text", "vector", "hybrid"))

    gain = {leg: figures["ndcg_at_10"] for leg, figures in legs.items()}
    exact, best = gain["vector"] / gain["vector, exact"], gain["hybrid"] / max(gain["text"], gain["vector"])
    figures = (of("ndcg_at_10", 4), of("recall_at_100", 4), of("milliseconds", 1))
    return f"| {name} | {exact:.4f} | {best:.3f} | {' | '.join(figures)} |"


if __name__ == "__main__":
    sys.exit(main())
