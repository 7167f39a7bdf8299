"""The policy of the chart on a real API server: who may delete an index that workflows use."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import a_cortex_index_manifest
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from helm_chart import installed

ALLOW = "cortex.datapunk.io/allow-delete"
Index = Callable[..., str]


@pytest.fixture
def place(kubectl: Kubectl) -> Iterator[str]:
    """A namespace beside that of the release."""
    name = f"test-{secrets.token_hex(6)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def protected(api_server: Path, namespace: str, kubectl: Kubectl, place: str) -> Iterator[None]:
    """The policy is at work in `place`, and there alone: other tests delete indexes at the same time."""
    values = {"watchNamespaces": [place], "admission": {"protectUsedIndexes": True}}
    with installed(api_server, namespace, values=values):
        an_index(kubectl, place, "probe", used_by=1)
        deadline = time.monotonic() + 60
        while not refusal(kubectl, place, "probe", "--dry-run=server"):
            assert time.monotonic() < deadline, "the policy is not at work"
            time.sleep(0.1)
        yield


def an_index(kubectl: Kubectl, namespace: str, name: str, used_by: int = 0, **metadata: Any) -> None:
    manifest = a_cortex_index_manifest(metadata={"namespace": namespace, "name": name, **metadata})
    kubectl("apply", "--filename=-", stdin=json.dumps(manifest))
    users = [{"namespace": "team-a", "name": f"flow-{number:02}"} for number in range(used_by)]
    patch = json.dumps({"status": {"observedGeneration": 1, "usedBy": users}})
    where = f"--namespace={namespace}"
    kubectl("patch", "cortexindex", name, where, "--subresource=status", "--type=merge", f"--patch={patch}")


def refusal(kubectl: Kubectl, namespace: str, name: str, *words: str) -> str:
    """What the API server says against the deletion; empty when it takes it."""
    try:
        kubectl("delete", "cortexindex", name, f"--namespace={namespace}", "--wait=false", *words)
    except BedError as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("protected")
def test_an_index_in_use_is_not_deleted_and_it_is_said_by_whom_and_how_to_go_on(kubectl: Kubectl, place: str) -> None:
    an_index(kubectl, place, "papers", used_by=2)
    said = refusal(kubectl, place, "papers")
    assert "it is used by CortexWorkflow team-a/flow-00, team-a/flow-01; delete these" in said
    command = f"kubectl -n {place} annotate cortexindex papers {ALLOW}=true"
    assert command in said

    kubectl(*command.split()[1:])
    assert refusal(kubectl, place, "papers") == ""


@pytest.mark.usefixtures("protected")
@pytest.mark.parametrize(("used_by", "ends"), [(8, "team-a/flow-07;"), (64, "team-a/flow-07 and 56 more;")])
def test_many_users_are_counted(kubectl: Kubectl, place: str, used_by: int, ends: str) -> None:
    an_index(kubectl, place, "papers", used_by=used_by)
    assert ends in refusal(kubectl, place, "papers")


@pytest.mark.usefixtures("protected")
def test_others_are_deleted_alone_or_all_at_once_but_for_those_in_use(kubectl: Kubectl, place: str) -> None:
    an_index(kubectl, place, "unused")
    an_index(kubectl, place, "allowed", used_by=1, annotations={ALLOW: "true"})
    an_index(kubectl, place, "denied", used_by=1, annotations={ALLOW: "false"})
    manifest = a_cortex_index_manifest(metadata={"namespace": place, "name": "new"})
    kubectl("create", "--filename=-", stdin=json.dumps(manifest))  # nobody has written its status yet
    assert [refusal(kubectl, place, name) for name in ("unused", "allowed", "new")] == [""] * 3
    assert "team-a/flow-00" in refusal(kubectl, place, "denied")

    with pytest.raises(BedError, match="team-a/flow-00"):
        kubectl("delete", "--raw", f"/apis/cortex.datapunk.io/v1alpha1/namespaces/{place}/cortexindexes")
    left = kubectl.get("cortexindexes", f"--namespace={place}")["items"]
    assert sorted(index["metadata"]["name"] for index in left) == ["denied", "probe"]


@pytest.mark.usefixtures("protected")
def test_a_namespace_goes_with_the_indexes_in_use(kubectl: Kubectl, place: str) -> None:
    kubectl("delete", "namespace", place, "--timeout=60s", timeout=90)


@pytest.mark.usefixtures("protected")
def test_garbage_collection_takes_an_index_in_use(kubectl: Kubectl, place: str) -> None:
    where = f"--namespace={place}"
    kubectl("create", "configmap", "owner", where)
    uid = kubectl.get("configmap", "owner", where)["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    an_index(kubectl, place, "papers", used_by=1, ownerReferences=[owner])
    assert refusal(kubectl, place, "papers") != ""
    kubectl("delete", "configmap", "owner", where)
    kubectl("wait", "--for=delete", "cortexindex/papers", where, "--timeout=60s", timeout=90)


@pytest.mark.usefixtures("protected")
def test_namespaces_of_others_are_left_alone(kubectl: Kubectl, namespace: str) -> None:
    an_index(kubectl, namespace, "papers", used_by=1)
    assert refusal(kubectl, namespace, "papers") == ""


def test_without_the_value_nobody_is_refused(api_server: Path, namespace: str, kubectl: Kubectl) -> None:
    with installed(api_server, namespace):
        names = [item["metadata"]["name"] for item in kubectl.get("validatingadmissionpolicies")["items"]]
        assert not [name for name in names if name.startswith(f"{namespace}.")]
