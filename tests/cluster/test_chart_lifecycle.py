"""A release's coming and going: install, upgrade, uninstall, install again. On a control plane of its own: the CRDs of
the shared one belong to the other tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.plane import Plane
from helm_chart import CHART, ROOT, TRIAL, helm

SYSTEM = "cortex-system"
TEAM = "team-a"
CRDS = ("cortexindexes.cortex.datapunk.io", "cortexworkflows.cortex.datapunk.io")
KINDS = "cortexindexes,cortexworkflows"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An admin's kubeconfig."""
    own = Plane(tmp_path_factory.mktemp("chart"))
    own.start()
    yield own.kubeconfig
    own.stop()


def release(plane: Path, verb: str, *words: str | Path, name: str = "cortex") -> str:
    """What helm said; fails with its message."""
    chart = () if verb == "uninstall" else (CHART,)
    done = helm(verb, name, *chart, f"--namespace={SYSTEM}", *words, kubeconfig=plane)
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(plane: Path, verb: str = "install", *words: str) -> str:
    values = [f"--values={TRIAL}", f"--set=resourceNamespaces={{{TEAM}}}"]
    return release(plane, verb, *values, *(["--create-namespace"] if verb == "install" else []), *words)


def workload(owner: dict[str, Any]) -> dict[str, Any]:
    """A Deployment of one pod that belongs to a resource, as the operator's do."""
    labels = {"app": "handbook"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "search", "image": "search"}]}}
    reference = {**{k: owner[k] for k in ("apiVersion", "kind")}, "controller": True}
    reference |= {k: owner["metadata"][k] for k in ("name", "uid")}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "handbook-search", "namespace": TEAM, "ownerReferences": [reference]},
        "spec": {"selector": {"matchLabels": labels}, "template": pod},
    }


def identities(kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """uid and generation of what has to outlive a release: CRDs, resources, their pods, Secrets, the trial's claims."""
    found = [
        *kubectl.get("crds", *CRDS)["items"],
        *kubectl.get(f"{KINDS},deployments,pods,secrets", f"--namespace={TEAM}")["items"],
        *kubectl.get("persistentvolumeclaims", f"--namespace={SYSTEM}")["items"],
    ]
    names = [f"{o['kind']}/{o['metadata']['name']}" for o in found]
    return dict(zip(names, ((o["metadata"]["uid"], o["metadata"].get("generation", 0)) for o in found), strict=True))


def start(plane: Path, kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """A release with an index, a workflow and a pod in a namespace that is not the release's."""
    kubectl("create", "namespace", TEAM)
    install(plane)
    kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in CRDS))
    kubectl("apply", f"--filename={ROOT / 'examples/quickstart'}", f"--namespace={TEAM}")
    kubectl.apply([workload(kubectl.get("cortexindex", "handbook", f"--namespace={TEAM}"))])
    kubectl("wait", "--for=create", "pod", "--selector=app=handbook", f"--namespace={TEAM}", "--timeout=30s")
    for role in ("lake", "state"):
        claim = f"persistentvolumeclaim/data-datapunk-cortex-{role}-0"
        kubectl("wait", "--for=create", claim, f"--namespace={SYSTEM}", "--timeout=30s")
    before = identities(kubectl)
    assert len(before) == len([*CRDS, "index", "workflow", "deployment", "pod", "lake", "state", "claim", "claim"])
    return before


def test_a_release_goes_without_what_people_made_and_comes_back_to_it(plane: Path) -> None:
    kubectl = Kubectl(plane)
    before = start(plane, kubectl)

    install(plane, "upgrade", "--set=gateway.replicas=3")
    assert kubectl.get("deployment", "datapunk-cortex-api", f"--namespace={SYSTEM}")["spec"]["replicas"] == 3
    assert identities(kubectl) == before

    release(plane, "uninstall", "--wait", "--timeout=60s")
    left = "deployments,statefulsets,services,serviceaccounts,secrets,poddisruptionbudgets"
    own = kubectl.get(left, f"--namespace={SYSTEM}", "--selector=app.kubernetes.io/instance=cortex")
    assert own["items"] == []
    bound = kubectl.get("clusterroles,clusterrolebindings", "--selector=app.kubernetes.io/instance=cortex")
    assert bound["items"] == []
    assert identities(kubectl) == before

    install(plane)
    assert identities(kubectl) == before

    other = helm("install", "other", CHART, f"--namespace={SYSTEM}", kubeconfig=plane)
    assert other.returncode != 0
    assert "invalid ownership metadata" in other.stderr
    release(plane, "uninstall")
    release(plane, "install", "--take-ownership", f"--values={TRIAL}", name="other-cortex")
    assert {name: found for name, found in identities(kubectl).items() if name in before} == before

    release(plane, "upgrade", "--reuse-values", "--set=crds.keep=false", name="other-cortex")
    release(plane, "uninstall", "--wait", "--timeout=60s", name="other-cortex")
    assert kubectl("get", "crds", *CRDS, "--ignore-not-found") == ""
