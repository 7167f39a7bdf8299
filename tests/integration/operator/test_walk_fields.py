"""Case 9 for every field of both CRDs, against the in-memory store; tests/cluster has a sample of them."""

from __future__ import annotations

from typing import Any

import oracle
import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from memory_bed import Bed, fresh
from walk import WALKS, steps, unwalked

MANIFESTS = {"CortexIndex": a_cortex_index_manifest(), "CortexWorkflow": a_cortex_workflow_manifest()}
STEPS = [step for manifest in MANIFESTS.values() for step in steps(manifest)]


@pytest.mark.parametrize("kind", MANIFESTS)
def test_every_field_of_the_crd_has_a_value_to_walk_over(kind: str) -> None:
    missing = sorted(".".join(path) for path in unwalked(kind))
    assert not missing, (
        f"{kind} has fields that no test changes: {', '.join(missing)}. Give each a value in WALKS of "
        "tests/support/walk.py (a part of a spec that is valid beside the manifest of tests/support/builders.py)"
    )


@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_case_09_a_field_that_comes_and_goes_leaves_what_a_fresh_deployment_has(step: Any) -> None:
    manifest = MANIFESTS[step.kind]
    without, given = ({**manifest, "spec": spec} for spec in (step.without, step.given))
    bed = await Bed.made(without)
    for now, wanted in ((given, await fresh(given)), (without, await bed.state(without))):
        await bed.apply(now)
        assert oracle.differences(await bed.state(now), wanted) == []
        assert oracle.orphans(await bed.children(now), [await bed.resource(now)]) == []


@pytest.mark.parametrize("kind", MANIFESTS)
async def test_case_10_the_way_to_a_spec_does_not_matter(kind: str) -> None:
    """Through every part of the walk, one after the other, and back."""
    manifest = MANIFESTS[kind]
    bed = await Bed.made(manifest)
    for part in WALKS[kind]:
        await bed.apply({**manifest, "spec": {**manifest["spec"], **part}})
    await bed.apply(manifest)
    assert oracle.differences(await bed.state(manifest), await fresh(manifest)) == []
    assert oracle.orphans(await bed.children(manifest), [await bed.resource(manifest)]) == []
