"""Readiness comes once and stays; what is lost later is degraded."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_workloads.runtime.health import LIVENESS, READINESS, Health
from grpc_health.v1 import health_pb2

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


async def asked(health: Health, service: str) -> Any:
    return (await health.servicer.Check(health_pb2.HealthCheckRequest(service=service), None)).status


async def test_ready_once_everything_expected_was_there() -> None:
    health = Health()
    health.expect("Lake", "Model")
    await health.ok("Lake")
    assert (health.ready, await asked(health, READINESS)) == (False, NOT_SERVING)
    assert await asked(health, LIVENESS) == SERVING
    await health.ok("Model")
    assert (health.ready, await asked(health, READINESS)) == (True, SERVING)


async def test_what_is_lost_later_degrades_and_says_why() -> None:
    health = Health()
    health.expect("Lake")
    await health.failing("Lake", "LakeUnreachable", "refused")
    assert not health.ready
    assert not health.degraded
    await health.ok("Lake")
    await health.failing("Lake", "LakeUnreachable", "gone; check the Secret")
    assert (health.ready, health.degraded) == (True, True)
    assert health.explain()["checks"] == {
        "Lake": {"ok": False, "reason": "LakeUnreachable", "message": "gone; check the Secret"}
    }
    await health.ok("Lake")
    assert not health.degraded


@pytest.mark.parametrize("lost", [True, False])
async def test_draining_withdraws_readiness_for_good(lost: bool) -> None:
    health = Health()
    await health.drain()
    await (health.failing("Lake", "X", "x") if lost else health.ok("Lake"))
    assert (health.ready, await asked(health, READINESS)) == (False, NOT_SERVING)
    assert await asked(health, LIVENESS) == SERVING
