"""Which servers the state works on."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cortex_workloads.runtime.errors import FailedPrecondition
from cortex_workloads.runtime.state import support


@pytest.mark.parametrize(
    ("info", "named"),
    [
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2", "server_name": "valkey"}, "Valkey 9.1.2"),
        ({"redis_version": "7.0.15"}, "Redis 7.0.15"),
    ],
)
def test_tested_servers_are_named(info: dict[str, Any], named: str, caplog: pytest.LogCaptureFixture) -> None:
    assert support.check(info) == named
    assert not caplog.records


@pytest.mark.parametrize(
    "info", [{"redis_version": "7.2.4", "valkey_version": "8.0.1"}, {"redis_version": "8.2.0"}], ids=str
)
def test_others_that_should_work_are_logged(info: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cortex.state"):
        support.check(info)
    assert "is not tested: Valkey 9 and Redis 7 are" in caplog.text


@pytest.mark.parametrize(
    ("info", "named"),
    [
        ({"redis_version": "7.4.0", "dragonfly_version": "df-v1.30.0"}, "it is Dragonfly df-v1.30.0"),
        ({"redis_version": "255.255.255", "keydb_version": "6.3.4"}, "it is KeyDB 6.3.4"),
        ({"redis_version": "7.4.3", "garnet_version": "1.0.80"}, "it is Garnet 1.0.80"),
        ({"redis_version": "6.2.14"}, "it is Redis 6.2.14"),
        ({"redis_version": "7.2.4", "valkey_version": "7.1.0"}, "it is Valkey 7.1.0"),
        ({}, "it is Redis 0"),
    ],
)
def test_others_are_refused_by_name(info: dict[str, Any], named: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        support.check(info)
    assert caught.value.reason == "StateUnsupported"
    assert named in str(caught.value)
    assert "Valkey 7.2 or newer, or Redis 7.0 or newer" in caught.value.remedy
