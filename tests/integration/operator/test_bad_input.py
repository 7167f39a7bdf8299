"""Whatever a CRD's schema lets through: a pass over it never fails, says what is wrong, and a good spec mends it."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import oracle
import pytest
from anyspec import fields
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_bed import CANARY, Bed, fresh
from pydantic import ValidationError
from walk import MODELS

MANIFESTS = {"CortexIndex": a_cortex_index_manifest(), "CortexWorkflow": a_cortex_workflow_manifest()}
FRESH = {kind: asyncio.run(fresh(manifest)) for kind, manifest in MANIFESTS.items()}


FIELDS = [(kind, name) for kind in MANIFESTS for name in fields(kind)]
EXAMPLES = int(os.environ.get("CORTEX_EXAMPLES", "3"))
"""Per field; their seeds are hypothesis's, which prints how to see a failing one again."""


@pytest.mark.parametrize(("kind", "field"), FIELDS)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_odd_field_is_answered_and_a_good_spec_mends_it(kind: str, field: str, data: st.DataObject) -> None:
    """Beside fields that are right, so that most objects are made."""
    odd = data.draw(fields(kind)[field])
    asyncio.run(_survives(MANIFESTS[kind], {**MANIFESTS[kind]["spec"], field: odd}))


@pytest.mark.parametrize("kind", MANIFESTS)
@settings(max_examples=2 * EXAMPLES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_spec_is_answered_and_a_good_one_mends_it(kind: str, data: st.DataObject) -> None:
    asyncio.run(_survives(MANIFESTS[kind], data.draw(st.fixed_dictionaries({}, optional=fields(kind)))))


async def _survives(good: dict[str, Any], spec: dict[str, Any]) -> None:
    bed = await Bed.made(good)
    bed.store.put({**await bed.resource(good), "spec": spec})
    await bed.settle(good)
    resource = await bed.resource(good)
    found = {c["type"]: c for c in resource["status"]["conditions"]}
    assert resource["status"]["observedGeneration"] == resource["metadata"]["generation"]
    if not _is_readable(resource):
        assert (found["Stalled"]["status"], found["Stalled"]["reason"]) == ("True", "InvalidSpec")
    assert all(c["reason"] and c["message"] for c in found.values() if c["status"] == "False" or c["type"] == "Stalled")
    assert CANARY not in json.dumps([resource, *await bed.children(good)])
    bed.store.put({**await bed.resource(good), "spec": good["spec"]})
    await bed.settle(good)
    assert oracle.differences(await bed.state(good), FRESH[good["kind"]]) == []


def _is_readable(resource: dict[str, Any]) -> bool:
    try:
        MODELS[resource["kind"]].model_validate(resource)
    except ValidationError:
        return False
    return True
