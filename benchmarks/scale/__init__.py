"""What the operator costs, and a minimal controller in Go beside it: many suspended CortexIndexes at once, one change
among them, a restart, and nothing to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.scale.measure import Results, both
from benchmarks.scale.phases import Figures

RESULTS: Final = Path(__file__).parents[1] / "results" / "scale"
TARGETS: Final = {
    ("create", "create_to_last_child_p99_s"): 90.0,
    ("create", "cpu_ms_per_index"): 40.0,
    ("create", "rss_mb"): 200.0,
    ("change", "first_write_p50_ms"): 25.0,
    ("change", "first_write_p99_ms"): 250.0,
    ("restart", "ready_s"): 30.0,
    ("restart", "objects_changed"): 0.0,
    ("idle", "cpu_percent"): 3.0,
    ("idle", "objects_changed"): 0.0,
}
"""At most, with 1,000 indexes (idle: 5,000), on 2 cores that the API server shares."""


def run(indexes: int = 1000, idle: float = 0.0, *, alone: bool = False) -> int:
    """Measures and writes the results; returns the exit code."""
    found = both(indexes, idle, alone=alone)
    rounded = {name: {phase: _rounded(of) for phase, of in phases.items()} for name, phases in found.items()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{indexes}.json").write_text(json.dumps(rounded, indent=2) + "\n")
    return 0


def table() -> str:
    """All results as Markdown."""
    lines = [
        "## The operator: suspended CortexIndexes on a real API server\n",
        "controller-runtime: a minimal controller in Go that makes the same children and decides nothing "
        "(benchmarks/controller_runtime).\n",
        "| indexes, phase, figure | cortex / controller-runtime | cortex | controller-runtime | target |",
        "|---|---|---|---|---|",
    ]
    for file in sorted(RESULTS.glob("*.json"), key=lambda file: int(file.stem)):
        lines += _rows(file.stem, json.loads(file.read_text()))
    return "\n".join(lines) + "\n"


def _rows(indexes: str, found: Results) -> Iterator[str]:
    beside = found.get("controller-runtime", {})
    for phase, figures in found["cortex"].items():
        for name, value in figures.items():
            other = beside.get(phase, {}).get(name)
            ratio = f"{value / other:.2f}" if other else ""
            target = TARGETS.get((phase, name))
            told = [ratio, f"{value:g}", "" if other is None else f"{other:g}", "" if target is None else f"{target:g}"]
            yield f"| {indexes} {phase} {name} | {' | '.join(told)} |"


def _rounded(figures: Figures) -> Figures:
    return {name: round(value, 2) for name, value in figures.items()}
