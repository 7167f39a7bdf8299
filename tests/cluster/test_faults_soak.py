"""Case 20: a minute of everything at once."""

from __future__ import annotations

from soak import GROWTH, Soak
from stage import QUIET, Oracle, Stage, seeded

RESOURCES = 200
SECONDS = 60.0
PATIENCE = 120.0


async def test_case_20_soak(own_stage: Stage, judge: Oracle) -> None:
    await own_stage.started()
    figures = await Soak(judge, own_stage, seeded(), RESOURCES).run(SECONDS, QUIET, PATIENCE)
    print(figures)
    assert not figures.writes_when_quiet
    assert figures.rss_mb[1] < figures.rss_mb[0] * GROWTH
    assert len(figures.done) >= 4
