"""Hybrid search under more load than a pod can answer, with its limits and without; and what a circuit costs a call.

One pod, its PostgreSQL and the generator share this machine's cores. No query is asked twice, so each is embedded.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.overload import calls
from benchmarks.overload.bed import Bed, Beds, beds
from benchmarks.overload.load import Plan

RESULTS: Final = Path(__file__).parents[1] / "results" / "overload"
DEADLINE: Final = 1.0
"""Seconds of a call: an answer in time."""
SECONDS: Final = 15.0
CLIENTS: Final = 8
"""That measure the capacity: more of them bring no more answers."""
OFF: Final = json.dumps({"search": {"concurrent": 10_000}})
TARGETS: Final = {"3x goodput / capacity": 0.8, "10x goodput / capacity": 0.5}
OVERHEAD: Final = "1.05"
"""At most, of a call that does nothing, with 32 at once."""

Figures = dict[str, float]


def run() -> int:
    """Measures and writes the results; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="cortex-overload-") as folder:
        found = asyncio.run(_measure(Path(folder)))
    found["a call"] = asyncio.run(calls.measure())
    rounded = {name: {figure: round(value, 3) for figure, value in of.items()} for name, of in found.items()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "search.json").write_text(json.dumps(rounded, indent=2) + "\n")
    return 0


def table() -> str:
    """The results as Markdown."""
    if not (file := RESULTS / "search.json").exists():
        return ""
    found = json.loads(file.read_text())
    lines = [
        "## Hybrid search under overload\n",
        f"Open loop, deadline {DEADLINE:g} s; capacity: {CLIENTS} clients that wait for their answers.\n",
        "| figure | with limits | without | target |",
        "|---|---|---|---|",
    ]
    for name, value in found["with limits"].items():
        lines.append(f"| {name} | {value:g} | {found['without'][name]:g} | {TARGETS.get(name, '')} |")
    lines += ["\n| an empty call, 32 at once | | target |", "|---|---|---|"]
    for name, value in found["a call"].items():
        lines.append(f"| {name} | {value:g} | {OVERHEAD if name == calls.RATIO else ''} |")
    return "\n".join(lines) + "\n"


async def _measure(folder: Path) -> dict[str, Figures]:
    async with beds(folder) as made:
        return {"with limits": await _pod(made), "without": await _pod(made, CORTEX_LIMITS=OFF)}


async def _pod(made: Beds, **environment: str) -> Figures:
    async with made.pod(CORTEX_QUERY_CACHE_BYTES="0", **environment) as bed:
        await _drive(Plan(bed.address, bed.queries, 3.0, 30.0, clients=CLIENTS, seed=1))
        closed = await _drive(Plan(bed.address, bed.queries, SECONDS, 30.0, clients=CLIENTS, seed=2))
        capacity = len(closed["answered"]) / closed["seconds"]
        figures = {"capacity, answers/s": capacity, "capacity p99 s": _quantile(closed["answered"], 0.99)}
        for times in (3, 10):
            plan = Plan(bed.address, bed.queries, SECONDS, DEADLINE, rate=capacity * times, seed=times)
            figures |= {f"{times}x {name}": value for name, value in (await _open(bed, plan, capacity)).items()}
        return figures


async def _open(bed: Bed, plan: Plan, capacity: float) -> Figures:
    before = bed.cpu_seconds()
    outcome = await _drive(plan)
    in_time = sum(took <= plan.deadline for took in outcome["answered"])
    ends = outcome["ends"]
    return {
        "goodput / capacity": in_time / plan.seconds / capacity,
        "answered p50 s": _quantile(outcome["answered"], 0.5),
        "answered p99 s": _quantile(outcome["answered"], 0.99),
        "refused p50 s": _quantile(outcome["refused"], 0.5),
        "share that ran into the deadline": ends.get("DEADLINE_EXCEEDED", 0) / sum(ends.values()),
        "cores that the pod had": (bed.cpu_seconds() - before) / outcome["seconds"],
        "generator late at most s": outcome["late"],
    }


async def _drive(plan: Plan) -> dict[str, Any]:
    command = (sys.executable, "-c", "from benchmarks.overload import load; load.main()")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    out, _ = await process.communicate(json.dumps(asdict(plan)).encode())
    found: dict[str, Any] = json.loads(out)
    return found


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0
