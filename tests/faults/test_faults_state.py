"""The state when what holds it dies: processes and servers are killed at random points, Valkey loses its end or all."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from cortex_workloads.runtime.lake.pool import Lake
from stage import LONG, seed
from state_crash import Crashes, judge, prepared
from state_desk import Desk

SEEDS = 100 if LONG else 10
CRASHES = 12 if LONG else 2
"""Beyond one of each kind."""


@pytest.fixture(scope="session")
def mortal_postgres(own_postgres: Callable[..., Any]) -> Any:
    """One that keeps what it acknowledged when it is killed, shared by the cases of a worker."""
    return own_postgres(durable=True)


@pytest.fixture(scope="session")
def mortal_valkey(own_valkey: Callable[..., Any]) -> Any:
    """One with an append-only file, shared by the cases of a worker."""
    return own_valkey(durable=True)


@pytest.fixture
def mortal_lake(mortal_postgres: Any) -> str:
    """A fresh database on it."""
    name = f"lake_{secrets.token_hex(6)}"
    with psycopg.connect(mortal_postgres.url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    return urlunsplit(urlsplit(mortal_postgres.url)._replace(path=f"/{name}"))


@pytest.mark.parametrize("number", range(SEEDS))
async def test_what_was_acknowledged_is_there_once(
    number: int, mortal_postgres: Any, mortal_valkey: Any, mortal_lake: str, tmp_path: Path
) -> None:
    await prepared(mortal_lake)
    with Crashes(mortal_postgres, mortal_valkey, mortal_lake, tmp_path, f"{seed()}/{number}") as crashes:
        crashes.run(CRASHES)
        crashes.quiet()
        lake = Lake(mortal_lake, 4)
        await lake.open()
        desk = Desk(lake, mortal_valkey.url)
        print(await judge(desk, crashes))
        await desk.close()
        await lake.close()
