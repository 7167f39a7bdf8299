"""`spec.storage.models` on a real API server: its rules, a missing claim, the pods and Jobs that mount it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cortex_kinds.index import CortexIndex
from cortex_kube.client import Api
from cortex_operator.cluster import ApplyResult, Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.manifests import ReleaseSettings, ingest_job
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from objects import Place, a_secret, until
from operators import OperatorProcess

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
VOLUME = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}
OWN = {"embedding": {"local": {"model": "e5-small", "sha256": "0" * 64}}}


@pytest.fixture
async def cluster(api_server: Path) -> AsyncIterator[KubernetesCluster]:
    async with await Api.connect(kubeconfig=api_server) as api:
        yield KubernetesCluster(api)


def a_claim(namespace: str) -> Object:
    spec = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": "models", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def reason_of(obj: Object, type: str) -> tuple[str, str]:
    found = next((c for c in obj["status"].get("conditions", ()) if c["type"] == type), None)
    return (found["reason"], found["message"]) if found else ("", "")


async def test_a_missing_claim_is_named_and_pods_mount_it_once_it_is_there(
    cluster: KubernetesCluster, api_server: Path, namespace: str, tmp_path: Path
) -> None:
    place = Place(namespace)
    for secret in (a_secret("cortex-lake", namespace, dsn="postgresql://a.invalid/b"),
                   a_secret("cortex-state", namespace, url="redis://a.invalid")):  # fmt: skip
        await cluster.apply(secret)
    await cluster.apply(place.index(spec={**OWN, "storage": {"models": VOLUME}}), field_manager="author")
    operator = OperatorProcess(api_server, tmp_path / "operator.log", namespace)
    try:
        missing = ("DependenciesReady", "PersistentVolumeClaimNotFound")
        told = await until(cluster, place.papers, lambda o: reason_of(o, missing[0])[0] == missing[1], 60)
        said = reason_of(told, "DependenciesReady")[1]
        assert said.startswith(f"PersistentVolumeClaim models is not there; create it: kubectl -n {namespace} apply -f")
        assert reason_of(told, "Ready")[0] == "PersistentVolumeClaimNotFound"

        await cluster.apply(a_claim(namespace))
        key = ObjectKey("apps/v1", "Deployment", namespace, "papers-search")
        deployment = await until(cluster, key, lambda o: bool(o["spec"]), 60)
    finally:
        operator.kill()
    assert_mounted(deployment["spec"]["template"]["spec"])

    index = CortexIndex.model_validate(await cluster.get(place.papers))
    job = ingest_job(index, "0" * 10, RELEASE)
    assert await cluster.apply(job) is ApplyResult.CREATED
    assert await cluster.apply(job) is ApplyResult.UNCHANGED
    assert_mounted((await cluster.get(ObjectKey.of(job)))["spec"]["template"]["spec"])


def assert_mounted(pod: Object) -> None:
    volume = next(v for v in pod["volumes"] if v["name"] == "models")
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    mount = next(m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "models")
    assert (mount["mountPath"], mount["readOnly"]) == ("/var/lib/cortex/models", True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (OWN, "name it in spec.storage.models"),
        ({**OWN, "storage": {}}, "name it in spec.storage.models"),
        ({"embedding": {"local": {"sha256": "0" * 64}}}, "sha256 is for a model of your own"),
        ({**OWN, "storage": {"models": {"type": "PersistentVolumeClaim"}}}, "given exactly when `type` is"),
        ({"storage": {"models": {**VOLUME, "type": "HostPath"}}}, "Unsupported value"),
        ({"embedding": {"local": {"model": "../a"}}, "storage": {"models": VOLUME}}, "should match"),
        (
            {"embedding": {"local": {"model": "a", "sha256": "0"}}, "storage": {"models": VOLUME}},
            "should match|at least",
        ),
    ],
)
def test_the_api_server_refuses_what_names_no_file(
    kubectl: Kubectl, namespace: str, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(BedError, match=words):
        kubectl.apply([Place(namespace).index(spec=spec)], f"--namespace={namespace}")


@pytest.mark.parametrize(
    "spec", [{"storage": {"models": VOLUME}}, {**OWN, "storage": {"models": VOLUME}}, {"storage": {}}]
)
def test_the_api_server_takes_what_can_work(kubectl: Kubectl, namespace: str, spec: dict[str, Any]) -> None:
    kubectl.apply([Place(namespace).index(spec=spec)], f"--namespace={namespace}")
