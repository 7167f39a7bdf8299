"""What `spec.resilience` allows."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_workloads.runtime.resilience.policies import BreakerPolicy, SearchLimits
from pydantic import ValidationError

BAD_LIMITS: list[tuple[dict[str, Any], str]] = [
    ({"concurrent": 0}, "greater than or equal to 1"),
    ({"concurrent": 10_001}, "less than or equal to 10000"),
    ({"concurrent": "8"}, "valid integer"),
    ({"waiting": -1}, "greater than or equal to 0"),
    ({"wait": "61s"}, "at most 60s"),
    ({"wait": "2m"}, "at most 60s"),
    ({"wait": 5}, "valid string"),
    ({"waitSeconds": 5}, "Extra inputs"),
]
BAD_BREAKERS: list[tuple[dict[str, Any], str]] = [
    ({"failureRatio": 0.5}, "valid string"),
    *(({"failureRatio": ratio}, "pattern") for ratio in ("0", "0.0", ".", "1.1", "2", "50%", "-0.5", "0.5 ")),
    ({"minimumCalls": 0}, "greater than or equal to 1"),
    ({"window": "99ms"}, "at least 100ms"),
    *(({field: "61m"}, "at most 3600s") for field in ("window", "open", "probe", "slow")),
]


@pytest.mark.parametrize(("limit", "says"), BAD_LIMITS)
@pytest.mark.parametrize("name", ["search", "writing"])
def test_a_limit_that_is_wrong_is_refused(name: str, limit: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        a_cortex_index(spec__resilience={"limits": {name: limit}})


@pytest.mark.parametrize(("breaker", "says"), BAD_BREAKERS)
def test_a_breaker_that_is_wrong_is_refused(breaker: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        a_cortex_workflow(spec__resilience={"circuitBreaker": breaker})


@pytest.mark.parametrize("ratio", ["0.5", ".5", "1", "1.0", "0.001", "0.25"])
def test_a_ratio_is_a_string(ratio: str) -> None:
    given = a_cortex_workflow(spec__resilience={"circuitBreaker": {"failureRatio": ratio}}).spec.resilience
    assert given is not None
    assert BreakerPolicy.of(given.circuit_breaker).failure_ratio == float(ratio)


@pytest.mark.parametrize("end", [{"wait": "1ms", "waiting": 0, "concurrent": 1}, {"wait": "1m", "concurrent": 10_000}])
def test_whatever_the_spec_allows_a_pod_takes(end: dict[str, Any]) -> None:
    given = a_cortex_index(spec__resilience={"limits": {"search": end}}).spec.resilience
    assert given is not None
    assert SearchLimits.of(given.limits).search.concurrent == end["concurrent"]
