"""Case 20: a minute of everything at once; in `make soak` half an hour, with thousands of resources."""

from __future__ import annotations

import faulthandler
import json
import os
from dataclasses import asdict
from pathlib import Path

from soak import GROWTH, Soak
from stage import LONG, QUIET, Oracle, Stage, seed

RESOURCES = int(os.environ.get("CORTEX_SOAK_RESOURCES", "5000" if LONG else "200"))
SECONDS = float(os.environ.get("CORTEX_SOAK_SECONDS", "1800" if LONG else "60"))
PATIENCE = 1800.0 if LONG else 240.0
RESULT = Path(__file__).parents[2] / "benchmarks/results/soak/soak.json"


async def test_case_20_soak(own_stage: Stage, judge: Oracle) -> None:
    faulthandler.dump_traceback_later(SECONDS + 2 * PATIENCE + 120.0, exit=True)
    own_stage.module = "measured_operator" if LONG else own_stage.module
    await own_stage.started()
    soak = Soak(judge, own_stage, seed(), RESOURCES)
    # Production looks at what is idle every 30 s.
    figures = await soak.run(SECONDS, 70.0 if LONG else QUIET, PATIENCE)
    print(figures)
    if LONG:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    assert not figures.writes_when_quiet, figures.events_when_quiet
    for before, after in (figures.rss_mb, figures.blocks):
        assert after < before * GROWTH
    assert len(figures.done) >= 4
