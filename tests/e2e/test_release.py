"""One release of the chart, from its installation to its removal, in the order in which its users live through it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg
import pytest
from cortex_cli.demo.corpus import python_documents
from cortex_cli.gateway import Gateway
from cortex_cli.local.ports import free_port
from cortex_testbed import binaries, images
from cortex_testbed.bed import DIRECTORY, Bed
from psycopg.conninfo import conninfo_to_dict
from release import CHART, KINDS, QUICKSTART, ROOT, Kube, questions, restarts, uids, wait_for

SYSTEM: Final = "cortex-system"
TEAM: Final = "team-a"
INDEX: Final = ("cortexindex", "handbook", TEAM)
WORKFLOW: Final = ("cortexworkflow", "answers", TEAM)
RESOURCES: Final = (INDEX, WORKFLOW)
DOCUMENTS: Final = 150
ASKED: Final = (
    "How do I find out how similar two sequences are?",
    "Which class rotates log files when they grow too large?",
    "How do I compute the median of numeric data?",
)
LATE_SECONDS: Final = 60
CORTEX_USER: Final = 65532


@dataclass
class Release:
    """What is installed, and what was seen while it came up."""

    kube: Kube
    url: str
    ready_after_lake: float
    restarts: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="session")
def kube(bed: Bed) -> Kube:
    """kubectl and helm on the bed."""
    return Kube(bed.kubeconfig, binaries.ensure(("kubectl", "helm")))


@pytest.fixture(scope="session")
def tag(bed: Bed) -> str:
    """The tag of the product's images, which are on the node."""
    bed.import_image(images.build())
    return images.tag()


@pytest.fixture(scope="session")
def release(kube: Kube, tag: str) -> Release:
    """The chart, the quickstart in another namespace, and a PostgreSQL that comes a minute late."""
    for namespace in (SYSTEM, TEAM):
        kube.namespace(namespace)
    shutil.rmtree(DIRECTORY / "volumes", ignore_errors=True)
    kube.apply(a_volume("state"))
    install(kube, tag)
    kube.apply(QUICKSTART, TEAM)
    time.sleep(LATE_SECONDS)  # the late PostgreSQL: its volume comes now
    kube.apply(a_volume("lake"))
    wait_for("PostgreSQL", lambda: is_ready(kube.pods(SYSTEM, component="lake")), 60)
    came = time.monotonic()
    for resource in RESOURCES:
        kube.wait_ready(*resource, seconds=90)
    took = time.monotonic() - came
    seen = restarts([*kube.pods(SYSTEM), *kube.pods(TEAM)])
    return Release(kube, gateway_url(kube), took, seen)


@pytest.fixture
def settled(release: Release) -> Release:
    """The release with the quickstart Ready and its documents embedded, whatever the test before did."""
    ensure(release)
    return release


def install(kube: Kube, tag: str, *scope: str) -> None:
    """helm install of the trial profile, as docs/install.md says."""
    values = ["--set", f"image.registry=localhost,image.tag={tag}"]
    trial = ["-f", str(CHART / "values-trial.yaml")]
    scope = scope or ("--set", f"resourceNamespaces={{{TEAM}}}")
    kube.helm("install", "cortex", str(CHART), "-n", SYSTEM, *trial, *values, *scope)


def a_volume(name: str) -> dict[str, Any]:
    """A PersistentVolume of this machine for the claim of one of the trial's servers, which waits without."""
    path = DIRECTORY / "volumes" / name
    path.mkdir(parents=True, exist_ok=True)
    os.chown(path, CORTEX_USER, CORTEX_USER)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": SYSTEM, "name": f"data-datapunk-cortex-{name}-0"},
            "hostPath": {"path": str(path)},
        },
    }


def gateway_url(kube: Kube) -> str:
    """The gateway's Service, once it answers (a pod is Ready a moment before the node's rules lead to it).

    On the node a ClusterIP is reached as in a pod."""
    service = kube.get("service", "datapunk-cortex-api", SYSTEM)
    url = f"http://{service['spec']['clusterIP']}:8001"
    wait_for("the gateway's Service to lead to it", lambda: reaches(url), 60)
    return url


def reaches(url: str) -> bool:
    """Whether anybody listens there."""
    try:
        return httpx.get(f"{url}/livez").is_success
    except httpx.TransportError:
        return False


def is_ready(pods: list[Any]) -> bool:
    """Whether there are pods and all are Ready."""
    return bool(pods) and all(
        any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ())) for pod in pods
    )


def ensure(release: Release) -> None:
    """Applies the quickstart with one replica each, waits, pushes the documents; nothing when all is so."""
    release.kube.apply(QUICKSTART, TEAM)
    for kind, name, namespace in RESOURCES:
        release.kube.patch(kind, name, namespace, {"spec": {"replicas": 1, "image": None}})
    for resource in RESOURCES:
        release.kube.wait_ready(*resource)
    with Gateway(release.url) as gateway:
        push(gateway, f"{TEAM}/handbook")


def push(gateway: Gateway, index: str) -> None:
    """Documents, until all are embedded."""
    gateway.push(index, python_documents(DOCUMENTS))
    wait_for("all embedded", lambda: not gateway.progress(index)["waiting"], 120)


def answers(url: str, namespace: str) -> dict[str, Any]:
    """What index and workflow say to the questions: titles and rounded scores, answers and sources."""
    said: dict[str, Any] = {}
    with Gateway(url) as gateway:
        for question in ASKED:
            hits = gateway.search(f"{namespace}/handbook", question, topK=3)["hits"]
            *_, (_, completed) = gateway.run(f"{namespace}/answers", {"question": question})
            output = completed["output"]
            sources = [(s["title"], round(s["score"], 3)) for s in output["sources"]]
            found = [(hit["title"], round(hit["score"], 3)) for hit in hits]
            said[question] = (found, output["answer"], sources)
    return said


def test_a_late_postgresql_breaks_nothing(release: Release) -> None:
    assert release.restarts == {}
    assert release.ready_after_lake <= 15


def test_what_runs_is_restricted_and_owned(settled: Release) -> None:
    kube = settled.kube
    for kind, name, part in (("CortexIndex", "handbook", "search"), ("CortexWorkflow", "answers", "graph")):
        for child in ("deployment", "service", "serviceaccount", "configmap"):
            owners = kube.get(child, f"{name}-{part}", TEAM)["metadata"]["ownerReferences"]
            assert [(o["kind"], o["name"], o["controller"]) for o in owners] == [(kind, name, True)]
    scale = json.loads(
        kube.kubectl(
            "get", "--raw", f"/apis/cortex.datapunk.io/v1alpha1/namespaces/{TEAM}/cortexindexes/handbook/scale"
        )
    )
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
    assert "app.kubernetes.io/component=search" in scale["status"]["selector"]


def test_the_same_manifests_give_the_same_answers_here_and_on_one_machine(settled: Release, tmp_path: Path) -> None:
    here = answers(settled.url, TEAM)
    with locally(tmp_path) as url:
        assert answers(url, "default") == here


@contextlib.contextmanager
def locally(directory: Path) -> Iterator[str]:
    """The URL of the quickstart by `cortex up`, with the same documents."""
    port, cortex = free_port(), [sys.executable, "-m", "cortex_cli.main"]
    data = ["--data-dir", str(directory / "data")]
    up = ["up", "-f", str(QUICKSTART), "--http-port", str(port), "--grpc-port", str(free_port()), *data]
    subprocess.run([*cortex, *up], check=True, cwd=ROOT, timeout=180)
    try:
        url = f"http://127.0.0.1:{port}"
        with Gateway(url) as gateway:
            push(gateway, "default/handbook")
        yield url
    finally:
        subprocess.run([*cortex, "down", *data], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_rolling_change_fails_no_query(settled: Release, replicas: int) -> None:
    kube = settled.kube
    for resource in RESOURCES:
        kube.patch(*resource, {"spec": {"replicas": replicas}})
    for resource in RESOURCES:
        kube.wait_ready(*resource)
    before = uids(kube.pods(TEAM))
    with questions(settled.url, f"{TEAM}/handbook", f"{TEAM}/answers") as load:
        for resource in RESOURCES:
            kube.patch(*resource, {"spec": {"resources": {"limits": {"memory": f"{2000 + replicas}Mi"}}}})
        for resource in RESOURCES:
            kube.wait_ready(*resource, seconds=180)
        wait_for("the old pods gone", lambda: not uids(kube.get("pods", namespace=TEAM)) & before, 60)
    assert load.failures == []
    assert load.asked > 20


def test_an_eviction_waits_for_the_other_replica_and_a_single_one_can_always_go(settled: Release) -> None:
    kube = settled.kube
    kube.patch(*INDEX, {"spec": {"replicas": 2}})
    kube.wait_ready(*INDEX)
    wait_for("the PodDisruptionBudget", lambda: allowed_disruptions(kube) == 1, 30)
    first, second = kube.pods(TEAM, component="search")
    evict(kube, first)
    with pytest.raises(AssertionError, match="violate the pod's disruption budget"):
        evict(kube, second)
    kube.wait_ready(*INDEX)
    kube.patch(*INDEX, {"spec": {"replicas": 1}})
    kube.wait_ready(*INDEX)
    wait_for("no PodDisruptionBudget", lambda: not kube.find("pdb", "handbook-search", TEAM), 30)
    evict(kube, wait_for("one pod", lambda: one(kube.pods(TEAM, component="search")), 30))
    kube.wait_ready(*INDEX)


def allowed_disruptions(kube: Kube) -> int:
    """How many pods the index's PodDisruptionBudget lets go now."""
    budget = kube.find("pdb", "handbook-search", TEAM) or {}
    return int(budget.get("status", {}).get("disruptionsAllowed", 0))


def one(pods: list[Any]) -> Any | None:
    """The only one of them."""
    return pods[0] if len(pods) == 1 else None


def evict(kube: Kube, pod: Any) -> None:
    """The eviction API, as `kubectl drain` calls it."""
    meta = {"name": pod["metadata"]["name"], "namespace": TEAM}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
    path = f"/api/v1/namespaces/{TEAM}/pods/{meta['name']}/eviction"
    kube.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


@pytest.mark.parametrize("component", ["search", "graph"])
def test_a_killed_pod_is_replaced_and_loses_nothing(settled: Release, component: str) -> None:
    kube = settled.kube
    (pod,) = kube.pods(TEAM, component=component)
    before = answers(settled.url, TEAM)
    kube.kubectl("delete", "pod", pod["metadata"]["name"], "-n", TEAM, "--grace-period=0", "--force")
    for resource in RESOURCES:
        kube.wait_ready(*resource)
    assert answers(settled.url, TEAM) == before


def test_a_killed_operator_goes_on_where_it_was(settled: Release) -> None:
    kube = settled.kube
    before = uids(kube.pods(TEAM))
    (pod,) = kube.pods(SYSTEM, component="operator")
    kube.kubectl("delete", "pod", pod["metadata"]["name"], "-n", SYSTEM, "--grace-period=0", "--force")
    kube.patch(*INDEX, {"spec": {"replicas": 2}})
    kube.wait_ready(*INDEX)
    assert before < uids(kube.pods(TEAM))


def test_an_image_that_does_not_start_is_named_by_ready(settled: Release) -> None:
    kube = settled.kube
    kube.patch(*INDEX, {"spec": {"image": "localhost/no-such-image:1"}})

    def named() -> bool:
        said = kube.condition(*INDEX, "Ready").get("message", "")
        return "container search" in said and "ImagePull" in said and "no-such-image" in said

    wait_for("Ready names the image", named, 60, lambda: str(kube.condition(*INDEX, "Ready")))
    assert answers(settled.url, TEAM), "the pod before goes on"


def test_deleting_leaves_nothing_but_the_data(settled: Release) -> None:
    kube = settled.kube
    before = answers(settled.url, TEAM)
    given = left_in(kube, TEAM)
    kube.kubectl("delete", "-n", TEAM, "-f", str(QUICKSTART), "--wait")
    wait_for("an empty namespace", lambda: not left_in(kube, TEAM), 60, lambda: str(left_in(kube, TEAM)))
    assert given, "the check sees what is there"
    kube.apply(QUICKSTART, TEAM)
    for resource in RESOURCES:
        kube.wait_ready(*resource)
    with Gateway(settled.url) as gateway:
        assert gateway.progress(f"{TEAM}/handbook")["documents"] == DOCUMENTS
    assert answers(settled.url, TEAM) == before


def left_in(kube: Kube, namespace: str) -> set[str]:
    """What is in the namespace, but for what Kubernetes and the release put there."""
    kinds = (
        f"{KINDS},deployments,replicasets,pods,services,endpointslices,serviceaccounts,configmaps,jobs,"
        "poddisruptionbudgets,horizontalpodautoscalers,networkpolicies,persistentvolumeclaims,leases"
    )
    named = set(kube.kubectl("get", kinds, "-n", namespace, "-o", "name").split())
    return named - {"serviceaccount/default", "configmap/kube-root-ca.crt"}


def test_a_second_installation_adopts_what_the_first_one_left(settled: Release, tag: str) -> None:
    kube = settled.kube
    before = uids(kube.pods(TEAM))
    kube.helm("uninstall", "cortex", "-n", SYSTEM, "--wait")
    for kind, name, namespace in RESOURCES:
        assert kube.find(kind, name, namespace)
    assert uids(kube.pods(TEAM)) == before
    install(kube, tag)
    wait_for("all of the release", lambda: is_ready(kube.pods(SYSTEM)), 120)
    for resource in RESOURCES:
        kube.wait_ready(*resource)
    assert uids(kube.pods(TEAM)) == before
    assert restarts(kube.pods(TEAM)) == {}
    settled.url = gateway_url(kube)
    with Gateway(settled.url) as gateway:
        assert gateway.progress(f"{TEAM}/handbook")["documents"] == DOCUMENTS


def test_an_index_under_delete_takes_its_data_with_it(settled: Release) -> None:
    kube, gone = settled.kube, ("cortexindex", "short-lived", TEAM)
    kube.apply(an_index_under_delete(), TEAM)
    kube.wait_ready(*gone)
    with Gateway(settled.url) as gateway:
        gateway.push(f"{TEAM}/short-lived", python_documents(20))
        wait_for("all embedded", lambda: not gateway.progress(f"{TEAM}/short-lived")["waiting"], 60)
        kept = gateway.progress(f"{TEAM}/handbook")["documents"]
    tables = in_lake(kube, TABLES)
    assert in_lake(kube, ROWS) == "1"
    assert kube.get(*gone)["metadata"]["finalizers"] == ["cortex.datapunk.io/data-cleanup"]

    # The Lake's trial is a small one: what takes minutes at most is over in seconds here.
    kube.kubectl("delete", "cortexindex", "short-lived", "-n", TEAM, "--wait", "--timeout=120s", timeout=150)

    assert in_lake(kube, ROWS) == "0"
    assert int(in_lake(kube, TABLES)) < int(tables)
    wait_for("no Job and no Secret of it", lambda: not cleanups(kube), 60, lambda: str(cleanups(kube)))
    recorded = kube.find("configmap", "datapunk-cortex-orphans", SYSTEM) or {}
    assert "CortexIndex.team-a.short-lived" not in recorded.get("data", {})
    with Gateway(settled.url) as gateway:
        assert gateway.progress(f"{TEAM}/handbook")["documents"] == kept


TABLES: Final = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname ~ '^queue_[0-9]+$'"
ROWS: Final = f"SELECT count(*) FROM resources WHERE namespace = '{TEAM}' AND name = 'short-lived'"


def an_index_under_delete() -> dict[str, Any]:
    """An index whose data goes with it."""
    return {
        "apiVersion": "cortex.datapunk.io/v1alpha1",
        "kind": "CortexIndex",
        "metadata": {"name": "short-lived"},
        "spec": {"deletionPolicy": "Delete"},
    }


def in_lake(kube: Kube, query: str) -> str:
    """One value from the trial's PostgreSQL: on the node a ClusterIP is reached as in a pod."""
    dsn = base64.b64decode(kube.get("secret", "cortex-lake", TEAM)["data"]["dsn"]).decode()
    host = str(conninfo_to_dict(dsn)["host"])
    address = kube.get("service", host.split(".")[0], SYSTEM)["spec"]["clusterIP"]
    with psycopg.connect(dsn, hostaddr=address) as connection:
        found = connection.execute(query.encode()).fetchone()
    assert found is not None
    return str(found[0])


def cleanups(kube: Kube) -> list[str]:
    """Objects of Jobs that drop data."""
    selector = "app.kubernetes.io/component=cleanup"
    return kube.kubectl("get", "jobs,secrets,pods", "-n", SYSTEM, "-l", selector, "-o", "name").split()


def test_deletions_end_while_the_operator_is_gone(settled: Release) -> None:
    kube = settled.kube
    kube.helm("uninstall", "cortex", "-n", SYSTEM, "--wait")
    kube.kubectl("delete", "-n", TEAM, "-f", str(QUICKSTART), "--wait", "--timeout=60s")
    wait_for("an empty namespace", lambda: not left_in(kube, TEAM), 60, lambda: str(left_in(kube, TEAM)))
    kube.apply(QUICKSTART, TEAM)
    kube.kubectl("delete", "namespace", TEAM, "--wait", "--timeout=90s")


def test_a_release_for_some_namespaces_has_no_rights_beyond_them(kube: Kube, tag: str) -> None:
    kube.helm("uninstall", "cortex", "-n", SYSTEM, "--ignore-not-found", "--wait")
    for namespace in (SYSTEM, "team-b", "team-c"):
        kube.namespace(namespace)
    for name in ("lake", "state"):
        kube.apply(a_volume(name))
    install(kube, tag, "--set", "watchNamespaces={team-b},resourceNamespaces={team-b}")
    mine = "app.kubernetes.io/instance=cortex"
    assert kube.kubectl("get", "clusterroles,clusterrolebindings", "-l", mine, "-o", "name") == ""
    for namespace in ("team-b", "team-c"):
        kube.apply(QUICKSTART, namespace)
    kube.apply(a_gpu_index(), "team-b")
    for kind, name, _ in RESOURCES:
        kube.wait_ready(kind, name, "team-b")
    placed = kube.condition("cortexindex", "on-gpu", "team-b", "Schedulable")
    assert placed["status"] != "True"
    assert "nodes" in placed["message"]
    assert "cannot be" in placed["message"]
    assert not kube.pods("team-c")
    assert not kube.condition("cortexindex", "handbook", "team-c", "Ready")


def a_gpu_index() -> dict[str, Any]:
    """An index that wants what this node does not have."""
    spec = {"gpu": {"vendor": "NVIDIA", "count": 1}}
    return {
        "apiVersion": "cortex.datapunk.io/v1alpha1",
        "kind": "CortexIndex",
        "metadata": {"name": "on-gpu"},
        "spec": spec,
    }
