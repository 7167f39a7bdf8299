"""Policies that change while a process runs: what a file says over the environment, and what of it is refused."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from cortex_workloads.runtime.resilience.live import Live
from cortex_workloads.runtime.resilience.policies import BreakerPolicy, GatewayPolicies
from cortex_workloads.runtime.settings import GatewaySettings, GraphSettings, SearchSettings
from cortex_workloads.runtime.telemetry import REGISTRY

BEGUN = GatewayPolicies(breaker=BreakerPolicy(minimum_calls=7), search_seconds=12)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policies.yaml"


def write(file: Path, said: Any) -> None:
    file.write_text(said if isinstance(said, str) else json.dumps(said))


def invalid() -> float:
    return REGISTRY.get_sample_value("cortex_policies_invalid") or 0.0


def applied() -> float:
    return REGISTRY.get_sample_value("cortex_policies_applied_timestamp_seconds") or 0.0


def test_without_a_file_they_are_those_of_the_environment(file: Path) -> None:
    assert Live(BEGUN).now is Live(BEGUN, file).now is BEGUN


def test_a_file_stands_over_the_environment_field_by_field(file: Path) -> None:
    write(file, "breaker: {openSeconds: 2}\nlimits: {search: {concurrent: 9}}\n")
    now = Live(BEGUN, file).now
    assert (now.breaker.open_seconds, now.breaker.minimum_calls, now.search_seconds) == (2, 7, 12)
    assert (now.limits.search.concurrent, now.limits.search.wait_seconds) == (9, 0.5)


def test_a_change_reaches_who_uses_them_once_and_is_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    live = Live(BEGUN, file)
    heard: list[float] = []
    live.use(lambda now: heard.append(now.search_seconds))
    write(file, {"searchSeconds": 5, "breaker": {"openSeconds": 2}})
    before = applied()
    live.look()
    live.look()
    assert heard == [12, 5]
    assert [record.getMessage() for record in caplog.records] == [
        "policies changed: breaker.openSeconds 5.0 -> 2.0, searchSeconds 12.0 -> 5.0"
    ]
    assert applied() > before
    file.unlink()
    live.look()
    assert (heard, live.now) == ([12, 5, 12], BEGUN)


def test_a_file_that_says_the_same_in_other_words_changes_nothing(file: Path) -> None:
    live = Live(BEGUN, file)
    heard: list[GatewayPolicies] = []
    live.use(heard.append)
    for said in ("", "{}", "{searchSeconds: 12}", "searchSeconds: 12.0  # as it was"):
        write(file, said)
        live.look()
    assert heard == [BEGUN]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"searchSeconds": 5, "breaker": {"failureRatio": 2}}, "breaker.failureRatio"),
        ({"searchSeconds": 5, "breakers": {}}, "breakers"),
        ({"searchSeconds": 5, "limits": {"search": {"concurrent": "8"}}}, "limits.search.concurrent"),
        ({"searchSeconds": 5, "limits": 3}, "limits"),
        ({"searchSeconds": 5, "breaker": None}, "breaker"),
        ("searchSeconds: 5\nbreaker: {", "neither JSON nor YAML"),
        ("searchSeconds: 5\n1: 2", "1"),
        ("[searchSeconds]", "not a mapping"),
        ("\0", "neither JSON nor YAML"),
        ("# " + "x" * 70_000, "larger than 64 KiB"),
    ],
)
def test_what_is_not_valid_is_refused_as_a_whole(
    file: Path, said: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(file, {"searchSeconds": 6})
    live = Live(BEGUN, file)
    caplog.clear()
    write(file, said)
    live.look()
    live.look()
    (told,) = caplog.records
    assert (told.levelno, told.getMessage()) == (logging.ERROR, live.problem)
    for word in (str(file), why, "correct"):
        assert word in live.problem
    assert (live.now.search_seconds, invalid()) == (6, 1)
    write(file, {"searchSeconds": 6})
    live.look()
    assert (live.problem, live.now.search_seconds, invalid()) == ("", 6, 0)


def test_a_file_that_cannot_be_read_is_told(file: Path) -> None:
    file.mkdir()
    live = Live(BEGUN, file)
    assert "cannot be read" in live.problem
    assert live.now is BEGUN


def test_another_key_in_the_place_of_the_right_one_is_told_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    live = Live(BEGUN, file)
    (file.parent / "..data").mkdir()
    live.look()
    assert caplog.records == []
    other = file.with_name("policies.json")
    write(other, {"searchSeconds": 6})
    live.look()
    live.look()
    (told,) = caplog.records
    assert told.levelno == logging.WARNING
    assert f"no policies.yaml in {file.parent}, only policies.json" in told.getMessage()
    assert (live.problem, live.now) == ("", BEGUN)
    other.rename(file)
    live.look()
    assert live.now.search_seconds == 6


async def test_a_volume_that_swaps_its_link_is_followed(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        write(tmp_path / f"..{number}" / "policies.yaml", {"searchSeconds": number})
    data, file = tmp_path / "..data", tmp_path / "policies.yaml"
    data.symlink_to("..1")
    file.symlink_to("..data/policies.yaml")
    async with Live(BEGUN, file) as live:
        heard: list[float] = []
        live.use(lambda now: heard.append(now.search_seconds))
        (tmp_path / "..new").symlink_to("..2")
        os.replace(tmp_path / "..new", data)
        live.look()
    assert heard == [1, 2]


def test_each_process_has_its_policies_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORTEX_BREAKER", '{"openSeconds": 3}')
    monkeypatch.setenv("CORTEX_RETRIES", '{"attempts": 2}')
    monkeypatch.setenv("CORTEX_SEARCH_SECONDS", "8")
    gateway = GatewaySettings().policies
    assert (gateway.breaker.open_seconds, gateway.retries.attempts, gateway.search_seconds) == (3, 2, 8)
    assert GraphSettings().policies.breaker.open_seconds == 3
    monkeypatch.setenv("CORTEX_LIMITS", '{"search": {"concurrent": 3}}')
    assert SearchSettings().policies.limits.search.concurrent == 3
