"""Retrieval through the gateway: on known items, and on the BEIR data set in the folder $BEIR, if given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks import known_items

RESULTS: Final = Path(__file__).parent / "results" / "retrieval"


def run() -> int:
    """Measures and writes the results; returns the exit code."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cortex-known-items-") as folder:
        known_items.write(Path(folder))
        code = _measure(Path(folder), "known-items")
    if beir := os.environ.get("BEIR"):
        code = code or _measure(Path(beir), Path(beir).resolve().name)
    return code


def table() -> str:
    """All results as Markdown."""
    lines = [
        "## Retrieval, through the gateway\n",
        "`BEIR=DIR make bench` adds a data set in BEIR layout.\n",
        "| data | vector / exact | hybrid / best leg | nDCG@10 text, vector, hybrid | recall@100 | median ms |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(file.stem, json.loads(file.read_text())) for file in sorted(RESULTS.glob("*.json"))]
    return "\n".join(lines) + "\n"


def _measure(folder: Path, name: str) -> int:
    """`cortex bench retrieval` on one data set."""
    output = str(RESULTS / f"{name}.json")
    command = [sys.executable, "-m", "cortex_cli.main", "bench", "retrieval", "--beir", str(folder), "--output", output]
    return subprocess.run(command, check=False).returncode


def _row(name: str, legs: dict[str, dict[str, Any]]) -> str:
    def of(measure: str, digits: int) -> str:
        return ", ".join(f"{legs[leg][measure]:.{digits}f}" for leg in ("text", "vector", "hybrid"))

    gain = {leg: figures["ndcg_at_10"] for leg, figures in legs.items()}
    exact, best = gain["vector"] / gain["vector, exact"], gain["hybrid"] / max(gain["text"], gain["vector"])
    figures = (of("ndcg_at_10", 4), of("recall_at_100", 4), of("milliseconds", 1))
    return f"| {name} | {exact:.4f} | {best:.3f} | {' | '.join(figures)} |"
