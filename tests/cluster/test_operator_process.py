from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.preflight import LEASE_RIGHTS, OWN_RIGHTS, RIGHTS
from cortex_testbed.kubectl import Kubectl
from fault_proxy import FaultProxy
from objects import Place, until, until_gone
from operators import OperatorProcess
from relay import relay_to

COLLECTED = 60.0
Starts = Callable[..., OperatorProcess]


@pytest.fixture
def start(api_server: Path, tmp_path: Path) -> Iterator[Starts]:
    """Starts operators, which end with the test."""
    started: list[OperatorProcess] = []

    def start(*namespaces: str, kubeconfig: Path = api_server, **environment: str) -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        started.append(OperatorProcess(kubeconfig, log, *namespaces, **environment))
        return started[-1]

    yield start
    for operator in started:
        operator.kill()


@pytest.fixture
def other_namespace(kubectl: Kubectl) -> Iterator[str]:
    name = f"test-{secrets.token_hex(6)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def children(place: Place) -> list[ObjectKey]:
    return [
        ObjectKey("apps/v1", "Deployment", place.namespace, "papers-search"),
        ObjectKey("v1", "Service", place.namespace, "papers-search"),
        ObjectKey("v1", "Service", place.namespace, "papers-search-headless"),
        ObjectKey("v1", "ServiceAccount", place.namespace, "papers-search"),
        ObjectKey("v1", "ConfigMap", place.namespace, "papers-search"),
        ObjectKey("policy/v1", "PodDisruptionBudget", place.namespace, "papers-search"),
    ]


def owners(obj: Object) -> list[tuple[str, bool]]:
    return [(owner["uid"], owner["controller"]) for owner in obj["metadata"].get("ownerReferences", ())]


def observed(obj: Object) -> bool:
    return bool(obj["status"]["observedGeneration"] == obj["metadata"]["generation"])


def asked_both(index: Object) -> bool:
    """Whether nothing moves any more: two pods are ready and listed, and neither answers."""
    reached = next(c for c in index["status"]["conditions"] if c["type"] == "DataPlaneReachable")
    return index["status"]["readyReplicas"] == 2 and reached["message"].count(":50059) said") == 2


async def secrets_and_index(cluster: KubernetesCluster, place: Place, **overrides: Any) -> Object:
    await cluster.apply(place.secret("cortex-lake", dsn="postgresql://lake.invalid/cortex"))
    await cluster.apply(place.secret("cortex-state", url="redis://state.invalid"))
    await cluster.apply(place.index(**overrides), field_manager="author")
    return await until(cluster, place.papers, observed)


async def marks(cluster: KubernetesCluster, place: Place) -> dict[str, Any]:
    """What changes when the operator writes: our times, generations and the status; controllers' work left out."""
    found: dict[str, Any] = {}
    for key in children(place):
        meta = (await cluster.get(key))["metadata"]
        ours = [entry["time"] for entry in meta["managedFields"] if entry["manager"] == "cortex-operator"]
        found[str(key)] = (meta["uid"], meta.get("generation"), ours)
    index = await cluster.get(place.papers)
    return {**found, "status": index["status"]}


def meanings(status: Object) -> Object:
    """The status without its words."""
    return {**status, "conditions": [{**condition, "message": ""} for condition in status["conditions"]]}


def rights(namespace: str) -> list[Object]:
    """A Role with what the operator says that it needs, here also for itself, for a ServiceAccount `operator`."""
    meta = {"name": "operator", "namespace": namespace}
    needed = (*RIGHTS, *OWN_RIGHTS)
    rules = [{"apiGroups": [group], "resources": [name], "verbs": [*verbs]} for group, name, verbs in needed]
    for group, name, verbs in LEASE_RIGHTS:
        only = {"resourceNames": ["cortex-operator"]}
        rules.append({"apiGroups": [group], "resources": [name], "verbs": [*verbs], **only})
    api = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": api, "kind": "Role", "name": "operator"},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
        },
    ]


def as_operator(kubectl: Kubectl, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig of the ServiceAccount `operator`."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    token = kubectl("create", "token", "operator", f"--namespace={namespace}").strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    path = tmp_path / "operator.kubeconfig"
    path.write_text(json.dumps(config))
    return path


async def test_an_index_gets_its_objects_which_are_repaired_and_go_with_it(
    api_server: Path, namespace: str, start: Starts
) -> None:
    place = Place(namespace)
    # A renewal that takes long is a warning, too.
    operator = start(namespace, CORTEX_LEASE_SECONDS="120")
    operator.until_ready()
    async with await Api.connect(kubeconfig=api_server) as api:
        cluster = KubernetesCluster(api)
        index = await secrets_and_index(cluster, place, spec__replicas=2)
        for key in children(place):
            child = await until(cluster, key, lambda _: True)
            assert owners(child) == [(index["metadata"]["uid"], True)], key
        assert index["status"]["image"] == "registry.invalid/search:1"
        assert "finalizers" not in index["metadata"]
        assert "annotations" not in index["metadata"]

        deployment, service = children(place)[:2]
        await cluster.apply(_replicas(place, 7), field_manager="somebody")
        await until(cluster, deployment, lambda o: o["spec"]["replicas"] == 2)
        before = await cluster.get(service)
        await cluster.delete(service)
        await until(cluster, service, lambda o: o["metadata"]["uid"] != before["metadata"]["uid"])

        changed = place.index(spec__replicas=1)
        await cluster.apply(changed, field_manager="author")
        await until(cluster, deployment, lambda o: o["spec"]["replicas"] == 1)
        await until_gone(cluster, children(place)[-1])  # one replica has no PodDisruptionBudget
        index = await until(cluster, place.papers, lambda o: observed(o) and o["metadata"]["generation"] == 2)

        await cluster.delete(place.papers)
        for key in children(place):
            await until_gone(cluster, key, COLLECTED)
    assert operator.stop() == 0
    assert operator.messages("stopped") == ["stopped"]
    assert [line for line in operator.lines if line.get("level") in ("ERROR", "WARNING")] == []


async def test_a_config_map_that_is_not_ours_is_seen_when_it_comes(
    api_server: Path, namespace: str, start: Starts
) -> None:
    place = Place(namespace)
    start(namespace).until_ready()
    async with await Api.connect(kubeconfig=api_server) as api:
        cluster = KubernetesCluster(api)
        index = await secrets_and_index(cluster, place, spec__envFrom=[{"configMapRef": {"name": "settings"}}])
        found = {condition["type"]: condition["reason"] for condition in index["status"]["conditions"]}
        assert found["DependenciesReady"] == "ConfigMapNotFound"
        await cluster.apply(place.config_map(HTTPS_PROXY="http://proxy.invalid"), field_manager="author")
        await until(cluster, children(place)[0], lambda _: True)


async def test_an_operator_that_was_killed_finds_everything_and_writes_nothing(
    api_server: Path, namespace: str, start: Starts, tmp_path: Path
) -> None:
    place = Place(namespace)
    async with FaultProxy(tmp_path).before(api_server) as proxy, await Api.connect(kubeconfig=api_server) as api:
        cluster = KubernetesCluster(api)
        # To be killed: the next one waits for so long.
        first = start(namespace, CORTEX_LEASE_SECONDS="9")
        await secrets_and_index(cluster, place, spec__replicas=2)
        deployment = children(place)[0]
        ready = await until(cluster, deployment, lambda o: o.get("status", {}).get("readyReplicas") == 2, 60)
        await until(cluster, place.papers, asked_both)
        assert ready["metadata"]["generation"] == 1
        await rests(first, cluster, place)
        first.kill()
        before = await marks(cluster, place)

        second = start(namespace, kubeconfig=proxy.kubeconfig)
        await passes(second, 1)
        await cluster.apply(_noted(place, "once"), field_manager="somebody")
        await passes(second, 2)
        # A pass that has begun comes to its end: what was asked was done by then.
        assert await asyncio.to_thread(second.stop) == 0
        after = await marks(cluster, place)
        writes = [asked.path.split("/")[-1] for asked in proxy.asked if asked.writes]
        # What gRPC says of an address that nobody has is not always the same; other words are told once.
        assert writes == (["status"] if after != before else [])
        assert {**after, "status": meanings(after["status"])} == {**before, "status": meanings(before["status"])}


async def test_with_rights_in_one_namespace_alone_it_works_there_and_nowhere_else(
    api_server: Path, kubectl: Kubectl, namespace: str, other_namespace: str, start: Starts, tmp_path: Path
) -> None:
    here, there = Place(namespace), Place(other_namespace)
    kubectl.apply(rights(namespace))
    async with await Api.connect(kubeconfig=api_server) as api:
        cluster = KubernetesCluster(api)
        await cluster.apply(there.index(), field_manager="author")
        operator = start(namespace, kubeconfig=as_operator(kubectl, namespace, tmp_path))
        await asyncio.to_thread(operator.until_ready)
        await secrets_and_index(cluster, here)
        await until(cluster, children(here)[0], lambda _: True)
        assert (await cluster.get(there.papers))["status"] == {"observedGeneration": -1}
    assert operator.stop() == 0
    assert operator.messages("forbidden") == []


async def test_rights_that_are_missing_are_named_in_one_line(
    kubectl: Kubectl, namespace: str, start: Starts, tmp_path: Path
) -> None:
    kubectl.apply(rights(namespace)[:1])
    operator = start(namespace, kubeconfig=as_operator(kubectl, namespace, tmp_path))
    assert operator.ends() == 3
    errors = [line["message"] for line in operator.lines if line.get("level") == "ERROR"]
    assert len(errors) == 1
    assert f"get/list/watch/create/patch/delete deployments.apps in namespace {namespace}" in errors[0]
    assert "RBAC" in errors[0]
    assert "watchNamespaces" in errors[0]


async def test_a_namespace_that_takes_its_rights_along_leaves_the_others_served(
    api_server: Path, kubectl: Kubectl, namespace: str, other_namespace: str, start: Starts, tmp_path: Path
) -> None:
    here, there = Place(namespace), Place(other_namespace)
    kubectl.apply(rights(namespace))
    roles = [{**each, "metadata": {**each["metadata"], "namespace": other_namespace}} for each in rights(namespace)[1:]]
    kubectl.apply(roles)
    both = {"CORTEX_WATCH_NAMESPACES": json.dumps([namespace, other_namespace]), "CORTEX_DISCOVERY_SECONDS": "1"}
    kubeconfig = as_operator(kubectl, namespace, tmp_path)
    server = urlsplit(json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    async with (
        relay_to(str(server.hostname), server.port or 443) as relay,
        await Api.connect(kubeconfig=api_server) as api,
    ):
        cluster = KubernetesCluster(api)
        kubeconfig.write_text(kubeconfig.read_text().replace(server.netloc, f"127.0.0.1:{relay.port}"))
        operator = start(namespace, kubeconfig=kubeconfig, **both)
        await asyncio.to_thread(operator.until_ready)
        await secrets_and_index(cluster, there)
        kubectl("delete", "rolebinding", "operator", f"--namespace={other_namespace}")
        await until_refused(kubectl, namespace, other_namespace)
        # A watch that is open stays so until it is opened anew.
        relay.cut()
        assert await asyncio.to_thread(operator.ends) == 0
        assert operator.messages(f"the operator's rights in {other_namespace} have gone")

        operator = start(namespace, kubeconfig=kubeconfig, **both)
        await asyncio.to_thread(operator.until_ready)
        (said,) = operator.messages("nothing is served in namespace")
        assert other_namespace in said
        await secrets_and_index(cluster, here)

        kubectl.apply(roles)
        assert await asyncio.to_thread(operator.ends) == 0
        assert operator.messages(f"the operator may work in {other_namespace} now")


async def until_refused(kubectl: Kubectl, namespace: str, where: str) -> None:
    """Returns when the API server has heard that the ServiceAccount may not look there any more."""
    asked = {"namespace": where, "verb": "watch", "group": "apps", "resource": "deployments"}
    spec = {"user": f"system:serviceaccount:{namespace}:operator", "resourceAttributes": asked}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    words = ("create", "--output=jsonpath={.status.allowed}", "--filename=-")
    async with asyncio.timeout(60):
        while await asyncio.to_thread(kubectl, *words, stdin=json.dumps(review)) == "true":  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def passes(operator: OperatorProcess, count: int) -> None:
    """Returns when so many passes have ended."""
    await asyncio.to_thread(operator.until_measured, "cortex_operator_passes_total", count)


async def rests(operator: OperatorProcess, cluster: KubernetesCluster, place: Place) -> None:
    """Returns when two passes one after the other have found nothing new: controllers may still be at work until then,
    and what they tell last would be news for the next operator."""
    notes, before, calm = itertools.count(), None, 0
    while calm < 2:
        count = await asyncio.to_thread(operator.measure, "cortex_operator_passes_total")
        await cluster.apply(_noted(place, f"rest-{next(notes)}"), field_manager="somebody")
        await passes(operator, int(count) + 1)
        found = await marks(cluster, place)
        now = {**found, "status": meanings(found["status"])}
        calm, before = calm + 1 if now == before else 0, now


def _replicas(place: Place, replicas: int) -> Object:
    meta = {"name": "papers-search", "namespace": place.namespace}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}


def _noted(place: Place, note: str) -> Object:
    """The index as somebody annotates it."""
    meta = {"name": "papers", "namespace": place.namespace, "annotations": {"team.example/note": note}}
    return {"apiVersion": place.papers.api_version, "kind": "CortexIndex", "metadata": meta}


def test_a_namespace_that_does_not_exist_is_warned_of_once(namespace: str, start: Starts) -> None:
    operator = start(namespace, CORTEX_WATCH_NAMESPACES=json.dumps([namespace, "no-such-place", "nor-this"]))
    operator.until_ready()
    (said,) = operator.messages("CORTEX_WATCH_NAMESPACES")
    assert "names no-such-place, nor-this, which do not exist" in said
    assert "kubectl create namespace no-such-place" in said


NESTED = 4_900
"""Schemas within schemas; an API server takes ten thousand levels, of which each has two."""


async def test_a_spec_that_is_nested_as_deeply_as_can_be_stalls_and_all_else_goes_on(
    plane: Kubectl, start: Starts, tmp_path: Path
) -> None:
    place, name = Place(f"deep-{secrets.token_hex(3)}"), "helpdesk"
    plane("create", "namespace", place.namespace)
    schema = '{"type":"object","properties":{"a":' * NESTED + "{}" + "}}" * NESTED
    manifest = json.dumps(place.workflow(metadata__name=name, spec__input={"schema": "SCHEMA"}))
    (tmp_path / "deep.json").write_text(manifest.replace('"SCHEMA"', schema))
    key = ObjectKey(place.papers.api_version, "CortexWorkflow", place.namespace, name)
    group, _, version = key.api_version.partition("/")
    where = f"/apis/{group}/{version}/namespaces/{place.namespace}/cortexworkflows"
    plane("create", "--raw", where, "-f", str(tmp_path / "deep.json"))
    async with await Api.connect(kubeconfig=Path(plane.kubeconfig)) as api:
        cluster = KubernetesCluster(api)
        operator = start(place.namespace, kubeconfig=Path(plane.kubeconfig))
        stalled = await until(cluster, key, lambda o: any(c["type"] == "Stalled" for c in _conditions(o)), 60)
        (said,) = [c["message"] for c in _conditions(stalled) if c["type"] == "Stalled"]
        assert said == "spec: values are nested too deeply: at most 100 levels"
        # By the watch, too, and not in the way of another.
        plane("annotate", "cortexworkflow", name, "a=b", "-n", place.namespace)
        await secrets_and_index(cluster, place)
        plane("delete", "cortexworkflow", name, "-n", place.namespace, "--wait=false")
        await until_gone(cluster, key)
    assert operator.stop() == 0
    assert operator.messages("recursion") == operator.messages("watch ended") == []


def _conditions(obj: Object) -> list[dict[str, Any]]:
    return obj.get("status", {}).get("conditions") or []
