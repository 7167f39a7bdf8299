"""The ServiceAccount of a resource's own, when another one is named: it stays as long as pods may be made with it."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_operator.cluster import MemoryCluster, Object, ObjectKey
from cortex_operator.manifests.labels import Part
from cortex_operator.reconcile.accounts import find_old_account
from objects import owned_by

OWN, OTHER = "papers-search", "team"
INDEX = ObjectKey(API_VERSION, "CortexIndex", "default", "papers")
ACCOUNT = ObjectKey("v1", "ServiceAccount", "default", OWN)


def a_deployment(account: str = OTHER, **status: int) -> Object:
    rolled = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, **status}
    spec = {"template": {"spec": {"serviceAccountName": account}}}
    return {"metadata": {"generation": 2}, "spec": spec, "status": rolled}


def a_pod(account: str = OTHER, phase: str = "Running") -> Object:
    return {"metadata": {"name": "pod"}, "spec": {"serviceAccountName": account}, "status": {"phase": phase}}


def a_job(account: str = OTHER) -> Object:
    return {"metadata": {"name": "job"}, "spec": {"template": {"spec": {"serviceAccountName": account}}}}


CASES: list[tuple[str, Object | None, list[Object], list[Object], bool]] = [
    ("nobody names it", a_deployment(), [a_pod()], [a_job()], True),
    ("there is nothing", None, [], [], True),
    ("the Deployment names it", a_deployment(OWN), [], [], False),
    ("the Deployment is being rolled out", a_deployment(updatedReplicas=0), [], [], False),
    ("the Deployment's status is of before", a_deployment(observedGeneration=1), [], [], False),
    ("a pod names it", a_deployment(), [a_pod(OWN)], [], False),
    ("a pod names it that waits", a_deployment(), [a_pod(OWN, "Pending")], [], False),
    ("a pod names it that has ended", a_deployment(), [a_pod(OWN, "Succeeded"), a_pod(OWN, "Failed")], [], True),
    ("a Job names it", a_deployment(), [], [a_job(OWN)], False),
]


@pytest.mark.parametrize(("deployment", "pods", "jobs", "goes"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
@pytest.mark.parametrize(("named", "mine"), [(OTHER, True), (OWN, True), (OTHER, False)])
async def test_it_goes_when_nobody_names_it(
    deployment: Object | None, pods: list[Object], jobs: list[Object], goes: bool, named: str, mine: bool
) -> None:
    cluster = MemoryCluster()
    await cluster.apply(a_cortex_index_manifest())
    owner = await cluster.get(INDEX)
    account: dict[str, Any] = {"apiVersion": "v1", "kind": "ServiceAccount"}
    account["metadata"] = {"name": OWN, "namespace": "default"}
    await cluster.apply(owned_by(account, owner) if mine else account)
    index = a_cortex_index(metadata__uid=owner["metadata"]["uid"], spec__serviceAccountName=named)
    found = await find_old_account(cluster, Part(index, "search"), OWN, deployment, pods, jobs)
    assert [key for key, _ in found] == ([ACCOUNT] if goes and mine and named == OTHER else [])
