"""Every field that shapes the pods: it changes the objects, and taking it back restores them."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_workflow
from cortex_operator.cluster import ApplyResult, MemoryCluster, Object, ObjectKey
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job, workflow_objects
from podfields import EXCLUSIVE, FIELDS, every_field

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
OF_A_JOB = {field for field in FIELDS if not field.startswith(("update.", "placement.topology"))}
DEPLOYMENT = ObjectKey("apps/v1", "Deployment", "default", "papers-search")


def objects_of_index(spec: dict[str, Any]) -> tuple[Object, ...]:
    return index_objects(a_cortex_index(spec=spec), RELEASE)


def deployment(spec: dict[str, Any]) -> Object:
    """Without its owner, which is not there: it would be collected."""
    built = objects_of_index(spec)[-1]
    meta = {name: value for name, value in built["metadata"].items() if name != "ownerReferences"}
    return {**built, "metadata": meta}


def objects_of_workflow(spec: dict[str, Any]) -> tuple[Object, ...]:
    fields = {f"spec__{name}": value for name, value in spec.items()}
    return workflow_objects(a_cortex_workflow(**fields), RELEASE)


def job(spec: dict[str, Any]) -> Object:
    return ingest_job(a_cortex_index(spec=spec), "0" * 10, RELEASE)


def container(obj: Object) -> dict[str, Any]:
    found: dict[str, Any] = obj["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("field", FIELDS)
async def test_each_field_changes_the_deployment_and_taking_it_back_restores_it(field: str) -> None:
    cluster = MemoryCluster()
    await cluster.apply(deployment({}))
    before = (await cluster.get(DEPLOYMENT))["spec"]
    assert await cluster.apply(deployment(FIELDS[field])) is not ApplyResult.UNCHANGED
    assert (await cluster.get(DEPLOYMENT))["spec"] != before
    await cluster.apply(deployment({}))
    assert (await cluster.get(DEPLOYMENT))["spec"] == before


@pytest.mark.parametrize("field", FIELDS)
def test_a_workflow_has_each_field_too_and_an_ingest_job_what_is_not_about_many_pods(field: str) -> None:
    assert objects_of_workflow(FIELDS[field])[-1]["spec"] != objects_of_workflow({})[-1]["spec"]
    assert (job(FIELDS[field]) != job({})) == (field in OF_A_JOB)


def test_the_fields_go_together() -> None:
    spec = every_field()
    assert {field.split(".")[0] for field in FIELDS} == spec.keys()
    assert len(spec["env"]) == len([field for field in FIELDS if field.startswith("env.")])
    assert {field.split(".")[1] for field in FIELDS if field.startswith("placement.")} == spec["placement"].keys()
    assert set(EXCLUSIVE) < FIELDS.keys()
    objects_of_index(spec)


def test_a_named_service_account_takes_the_place_of_the_own_one() -> None:
    def kinds(**spec: Any) -> list[str]:
        return [obj["kind"] for obj in objects_of_index(spec)]

    assert "ServiceAccount" in kinds()
    assert "ServiceAccount" not in kinds(serviceAccountName="team")
    assert "ServiceAccount" in kinds(serviceAccountName="papers-search")


def test_what_is_ours_wins() -> None:
    spec = {
        "envFrom": [{"secretRef": {"name": "a"}}],
        "env": [{"name": "HOME", "value": "/nowhere"}],
        "template": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
    }
    plain, built = objects_of_index({})[-1], objects_of_index(spec)[-1]
    assert container(built)["envFrom"][-1:] == container(plain)["envFrom"]
    ours = container(plain)["env"]
    assert container(built)["env"] == [*ours, {"name": "HOME", "value": "/nowhere"}]
    for part, own in (("labels", {"team": "a"}), ("annotations", {"note": "b"})):
        meta = plain["spec"]["template"]["metadata"]
        assert built["spec"]["template"]["metadata"][part] == {**own, **meta[part]}
    assert built["spec"]["selector"] == plain["spec"]["selector"]


def test_a_variable_of_the_spec_wins_over_the_bundles() -> None:
    own = {"name": "SSL_CERT_FILE", "value": "/own"}
    spec = {"caBundle": {"configMapRef": {"name": "roots"}}, "env": [own]}
    found = [variable for variable in container(objects_of_index(spec)[-1])["env"] if variable["name"] == own["name"]]
    assert found == [own]
