"""What callers hear of a resource that runs nothing because it was asked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cortex_kinds.conditions import Reason
from cortex_workloads.runtime.catalogue import FileCatalogue
from cortex_workloads.runtime.targets import unavailable


@pytest.mark.parametrize(
    ("reason", "told"),
    [(Reason.SUSPENDED, "Suspended"), (Reason.SCALED_TO_ZERO, "ScaledToZero"), (Reason.READY, "NotReady")],
)
async def test_a_resource_that_was_stopped_says_so(tmp_path: Path, reason: Reason, told: str) -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": reason.value,
        "message": "the words of the operator",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    index = {
        "apiVersion": "cortex.datapunk.io/v1alpha1",
        "kind": "CortexIndex",
        "metadata": {"name": "papers"},
        "status": {"conditions": [ready]},
    }
    (tmp_path / "c").write_text(json.dumps({"items": [index], "endpointSlices": []}))
    async with FileCatalogue(tmp_path / "c") as catalogue:
        error = unavailable(catalogue, "CortexIndex default/papers", "does not answer")
    assert error.reason == told
    assert ("the words of the operator" in str(error)) == (told != "NotReady")
