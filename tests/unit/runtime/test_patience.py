"""Work on the Lake that goes on over outages: when it begins anew, and that this is counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.lake import patience
from cortex_workloads.runtime.telemetry import REGISTRY


def again() -> float:
    return REGISTRY.get_sample_value("cortex_retries_total", {"what": "Lake"}) or 0.0


async def test_work_begins_anew_after_an_outage_and_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_AGAIN_SECONDS", 0)
    lake: Any = SimpleNamespace(reachable=True, identity=SimpleNamespace(error=None))
    left, before = [Unavailable("away"), Unavailable("away")], again()

    async def work() -> str:
        if left:
            raise left.pop()
        return "done"

    assert await patience.persistently(lake, work) == "done"
    assert again() == before + 2


async def test_with_another_lake_it_does_not_begin_anew() -> None:
    lake: Any = SimpleNamespace(reachable=True, identity=SimpleNamespace(error=Unavailable("another")))
    before = again()

    async def work() -> None:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        await patience.persistently(lake, work)
    assert again() == before
