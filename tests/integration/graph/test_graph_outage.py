"""A graph pod whose Valkey goes away under it, or says nothing any more: runs go on, and its copies come back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from cortex_workloads.runtime.state.aggregates import Consistency


@pytest.fixture(autouse=True)
def _patient() -> None:
    """As it is: nothing waits for a shared state that is away."""


@pytest.mark.parametrize("how", ["stopped", "silent"])
async def test_a_pod_goes_on_without_valkey(
    how: str, harness: Any, define: Callable[..., Any], own_valkey: Callable[..., Any]
) -> None:
    server = own_valkey(durable=False)
    client = await harness.start(state_url=server.url)
    (pod,) = harness.pods
    await harness.ready(pod)
    await client.ensure(define())
    given = {"question": "How heavy is a blue whale?"}

    async def run() -> tuple[str, float]:
        run_id, began = str(uuid.uuid4()), time.monotonic()
        events = await client.run(given, run_id=run_id)
        assert events[-1].WhichOneof("event") == "completed"
        return run_id, time.monotonic() - began

    runs, reads = [await run()], list[float]()
    if how == "stopped":
        server.kill()
    else:
        os.kill(server.pid, signal.SIGSTOP)
    end = time.monotonic() + 6.0
    while time.monotonic() < end or len(reads) < 3:
        runs.append(await run())
        began = time.monotonic()
        reply = await pod.state.read(f"run/{runs[-1][0]}", Consistency.BOUNDED, 60.0)
        assert reply.state is not None
        assert reply.state.fields["status"] == "Succeeded"
        reads.append(time.monotonic() - began)
        assert pod.server.health.ready
    # One of them may have met a moment in which the machine was busy.
    assert sorted(reads)[len(reads) // 2] < 3.0
    if how == "stopped":
        server.start()
    else:
        os.kill(server.pid, signal.SIGCONT)
    runs.append(await run())
    async with asyncio.timeout(60):
        while True:
            report = await pod.state.examine()
            at = report.standing.position if report.standing else -1
            if at == report.position and report.replicas:
                break
            await asyncio.sleep(0.1)
    assert (report.problem, report.rows, report.copies) == ("", [], [])
    print(f"{how}: {len(runs)} runs, {max(took for _, took in runs):.2f} s at most")
    server.kill()
