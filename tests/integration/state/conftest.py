"""A Lake with its schema, and a workflow in it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from cortex_workloads.graph import checkpoints
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from state_desk import Desk


@pytest.fixture
async def lake(lake_dsn: str) -> AsyncIterator[Lake]:
    lake = Lake(lake_dsn, 8)
    await lake.open()
    await migrate(lake)
    await checkpoints.migrate(lake)
    yield lake
    await lake.close()


@pytest.fixture
async def desk(lake: Lake, state_url: str) -> AsyncIterator[Desk]:
    desk = Desk(lake, state_url)
    await desk.ensure()
    yield desk
    await desk.close()
