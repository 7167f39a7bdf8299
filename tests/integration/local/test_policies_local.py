"""Policies on this machine: a change of spec.resilience, and of the gateway's ConfigMap, reaches processes that run."""

from __future__ import annotations

import time
from pathlib import Path

from local_cortex import Cortex

RESOURCES = """
apiVersion: cortex.datapunk.io/v1alpha1
kind: CortexIndex
metadata: {name: papers}
spec: {resilience: {limits: {search: {concurrent: %(places)d}}}}
---
apiVersion: cortex.datapunk.io/v1alpha1
kind: CortexWorkflow
metadata: {name: helpdesk}
spec:
  nodes: [{name: say, type: Transform, transform: {set: {answer: "'yes'"}}}]
  edges: [{from: START, to: say}, {from: say, to: END}]
  resilience: {circuitBreaker: {minimumCalls: %(calls)d}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: datapunk-cortex-api-policies, namespace: cortex-system}
data: {policies.yaml: "searchSeconds: %(seconds)d"}
"""
TOLD = (
    "limits.search.concurrent 3 -> 5",
    "breaker.minimumCalls 4 -> 6",
    "searchSeconds 7.0 -> 9.0",
)


def test_a_change_reaches_what_runs(cortex: Cortex) -> None:
    def up(**values: int) -> dict[str, int]:
        (cortex.folder / "all.yaml").write_text(RESOURCES % values)
        cortex("up", "-f", "all.yaml", *cortex.ports)
        return cortex.pids()

    before = up(places=3, calls=4, seconds=7)
    assert up(places=5, calls=6, seconds=9) == before
    deadline = time.monotonic() + 60
    while missing := [told for told in TOLD if told not in logs(cortex.data / "logs")]:
        assert time.monotonic() < deadline, f"not in 60 s: {missing}"
        time.sleep(0.1)
    assert cortex.pids() == before


def logs(folder: Path) -> str:
    return "".join(file.read_text() for file in folder.glob("*.log"))
