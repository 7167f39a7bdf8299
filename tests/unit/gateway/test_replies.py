"""Replies: a stream that cannot go on says so in the stream, and it counts as an error that was told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from cortex_workloads.gateway import replies
from cortex_workloads.runtime import telemetry
from cortex_workloads.runtime.errors import Unavailable


def told() -> float:
    labels = {"family": "Unavailable", "type": "Unavailable"}
    return telemetry.REGISTRY.get_sample_value("cortex_errors_total", labels) or 0.0


async def broken() -> AsyncIterator[replies.Event]:
    yield "1-0", "step", {"node": "a"}
    raise Unavailable("the pod is gone", reason="StreamBroken")


async def test_a_stream_that_breaks_ends_with_the_problem_and_counts() -> None:
    before = told()
    response: Any = await replies.stream(broken())
    sent = [bytes(chunk) async for chunk in response.body_iterator]
    assert sent[0].startswith(b"id: 1-0\nevent: step\n")
    name, _, data = sent[1].partition(b"\ndata: ")
    assert name == b"event: interrupted"
    problem = orjson.loads(data)
    assert (problem["reason"], problem["family"], problem["retryable"]) == ("StreamBroken", "Unavailable", True)
    assert told() == before + 1
