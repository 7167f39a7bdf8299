"""Case 12 for every field of every object of both kinds, against the in-memory store; tests/cluster has a sample."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

import oracle
import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_operator.cluster import Invalid, Object, ObjectKey
from drift import drifts
from memory_bed import Bed
from walk import WALKS

BUILDERS: dict[str, Any] = {"CortexIndex": a_cortex_index_manifest, "CortexWorkflow": a_cortex_workflow_manifest}
RICH = ("env", "envFrom", "caBundle", "resources", "imagePullSecrets", "template", "placement")


def rich(kind: str, **overrides: Any) -> dict[str, Any]:
    """A manifest of which the pods have something in most of their fields."""
    spec: dict[str, Any] = {}
    for part in WALKS[kind]:
        for name in RICH:
            if isinstance(part.get(name), list):
                spec[name] = [*spec.get(name, ()), *part[name]]
            elif name in part:
                spec[name] = {**spec.get(name, {}), **part[name]}
    spec["caBundle"] = next(part["caBundle"] for part in WALKS[kind] if "caBundle" in part)
    given = {f"spec__{name}": value for name, value in {**spec, **overrides}.items()}
    manifest: dict[str, Any] = BUILDERS[kind](**given)
    return manifest


SHAPES = {
    kind: (
        rich(kind, replicas=3),
        build(spec__autoscaling={"minReplicas": 2, "maxReplicas": 4}),
        build(spec__gpu={"memory": "40Gi"}, spec__replicas=2),
    )
    for kind, build in BUILDERS.items()
}
ADDED = (None, ("HorizontalPodAutoscaler",), ("Deployment",))
"""Of a shape, the kinds with fields that the first one has not."""


@pytest.mark.parametrize("shape", range(3), ids=("rich", "autoscaled", "with-gpu"))
@pytest.mark.parametrize("kind", BUILDERS)
async def test_case_12_every_field_of_every_object_is_repaired(kind: str, shape: int) -> None:
    manifest, added = SHAPES[kind][shape], ADDED[shape]
    bed = await Bed.made(manifest)
    wanted = await bed.state(manifest)
    children = await bed.children(manifest)
    made = {ObjectKey.of(child) for child in children if added is None or child["kind"] in added}
    assert len(children) >= 6
    wrong: list[str] = []
    for key in sorted(made):
        for drifted in drifted_states(await bed.store.get(key)):
            try:
                bed.store.put(drifted)
            except Invalid:
                continue  # an API server refuses it, too: an item of a list without its name
            await (bed.settle if "autoscaling" in manifest["spec"] else bed.look)(manifest)
            wrong += [f"{key}: {line}" for line in oracle.differences(await bed.state(manifest), wanted)]
    assert wrong == []


def drifted_states(obj: Object) -> Iterator[Object]:
    """With every value changed at once, and without each of its fields."""
    found = list(drifts(obj))
    yield reduce(lambda changed, drift: drift.of(changed), (each for each in found if not each.removes), obj)
    yield from (drift.of(obj) for drift in found if drift.removes)


@pytest.mark.parametrize("kind", BUILDERS)
async def test_case_12_every_object_that_is_deleted_is_made_again(kind: str) -> None:
    for manifest in SHAPES[kind]:
        bed = await Bed.made(manifest)
        wanted = await bed.state(manifest)
        for child in await bed.children(manifest):
            await bed.store.delete(ObjectKey.of(child))
            await bed.settle(manifest)
            assert oracle.differences(await bed.state(manifest), wanted) == []


@pytest.mark.parametrize("kind", BUILDERS)
async def test_case_12_what_others_add_is_left_alone(kind: str) -> None:
    manifest = SHAPES[kind][0]
    bed = await Bed.made(manifest)
    for child in await bed.children(manifest):
        key, meta = ObjectKey.of(child), child["metadata"]
        noted = {"labels": {**meta["labels"], "team": "b"}, "annotations": {**meta.get("annotations", {}), "a": "b"}}
        bed.store.put({**child, "metadata": {**meta, **noted}})
        await bed.settle(manifest)
        after = (await bed.store.get(key))["metadata"]
        assert (after["labels"]["team"], after["annotations"]["a"]) == ("b", "b")
