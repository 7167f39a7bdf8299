"""A Lake with its schema, and a workflow in it.

A test module's ON_BOTH names the tests that run on Valkey and on Redis; the others run on Valkey.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from cortex_workloads.graph import checkpoints
from cortex_workloads.runtime.lake.migrate import migrate
from cortex_workloads.runtime.lake.pool import Lake
from patience import opened, with_the_state
from state_desk import Desk


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "state_url" in metafunc.fixturenames:
        both = metafunc.function.__name__ in getattr(metafunc.module, "ON_BOTH", ())
        metafunc.parametrize("state_url", ("valkey", "redis")[: 1 + both], indirect=True)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    with_the_state(monkeypatch)


@pytest.fixture
def state_url(request: pytest.FixtureRequest, worker_number: int) -> str:
    """A flushed database of a server of the kind."""
    server: str = request.getfixturevalue("redis_server" if request.param == "redis" else "state_server")
    url = urlunsplit(urlsplit(server)._replace(path=f"/{worker_number}"))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
async def lake(lake_dsn: str) -> AsyncIterator[Lake]:
    lake = await opened(lake_dsn, 8)
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
