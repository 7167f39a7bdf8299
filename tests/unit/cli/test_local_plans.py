"""What the controllers decide, as pure functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cortex_cli.local import deployments, endpoints, jobs, volumes
from cortex_cli.local.applied import Applied
from cortex_cli.local.gateway import GatewayOptions, deployment
from cortex_cli.local.store import Store
from cortex_cli.local.templates import HASH, named_ports, pod_of, template_hash
from cortex_operator.cluster.memory import MemoryCluster
from cortex_operator.cluster.port import ObjectKey

TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "search"}]}}


def a_deployment(replicas: int = 2, **strategy: Any) -> Any:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "1", "generation": 3},
        "spec": {"replicas": replicas, "template": TEMPLATE, "strategy": strategy},
    }


def a_pod(name: str, ready: bool = True, new: bool = True, terminating: bool = False, phase: str = "Running") -> Any:
    meta = {"name": name, "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}
    meta |= {"labels": {"app": "web", HASH: template_hash(TEMPLATE) if new else "old"}}
    if terminating:
        meta["deletionTimestamp"] = "2026-01-01T00:00:01Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "kind": "Pod",
        "metadata": meta,
        "spec": {"containers": []},
        "status": {"phase": phase, "conditions": conditions},
    }


def names(pods: tuple[Any, ...]) -> list[str]:
    return [pod["metadata"]["name"] for pod in pods]


@pytest.mark.parametrize(
    ("pods", "create", "delete"),
    [
        ([], 2, []),
        ([a_pod("a"), a_pod("b")], 0, []),
        ([a_pod("a"), a_pod("b"), a_pod("c", ready=False)], 0, ["c"]),
        ([a_pod("a", new=False), a_pod("b", new=False)], 1, []),
        ([a_pod("a", new=False), a_pod("b", new=False), a_pod("n", ready=False)], 0, []),
        ([a_pod("a", new=False), a_pod("b", new=False), a_pod("n")], 0, ["a"]),
        ([a_pod("a", new=False, terminating=True), a_pod("b", new=False), a_pod("n")], 1, []),
        ([a_pod("a", new=False, ready=False), a_pod("b", new=False, ready=False)], 1, ["a", "b"]),
    ],
)
def test_a_rolling_update_never_has_fewer_ready_pods(pods: list[Any], create: int, delete: list[str]) -> None:
    plan = deployments.plan(a_deployment(), pods)
    assert (plan.create, names(plan.delete)) == (create, delete)


def test_percentages_round_as_kubernetes_rounds_them() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    old = [a_pod(str(n), new=False) for n in range(5)]
    plan = deployments.plan(a_deployment(5, **strategy), old)
    assert (plan.create, len(plan.delete)) == (2, 1)


def test_recreate_waits_until_the_old_pods_have_gone() -> None:
    recreate = a_deployment(1, type="Recreate")
    assert names(deployments.plan(recreate, [a_pod("a", new=False)]).delete) == ["a"]
    assert deployments.plan(recreate, [a_pod("a", new=False)]).create == 0
    assert deployments.plan(recreate, [a_pod("a", new=False, terminating=True)]).create == 0
    assert deployments.plan(recreate, []).create == 1


def test_a_deployment_says_how_many_serve() -> None:
    status = deployments.status(a_deployment(), [a_pod("a"), a_pod("b", ready=False), a_pod("c", terminating=True)])
    counts = {name: status[name] for name in ("replicas", "readyReplicas", "updatedReplicas", "observedGeneration")}
    assert counts == {"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "observedGeneration": 3}


def a_job(**spec: Any) -> Any:
    return {
        "kind": "Job",
        "metadata": {"name": "ingest", "namespace": "default"},
        "spec": {"template": TEMPLATE, **spec},
    }


def test_a_job_starts_one_pod_and_waits_longer_after_each_failure() -> None:
    assert jobs.plan(a_job(), []).create
    assert not jobs.plan(a_job(), [a_pod("a")]).create
    failed = a_pod("a", phase="Failed")
    assert jobs.plan(a_job(), [failed]).status["failed"] == 1
    assert not jobs.plan(a_job(suspend=True), []).create


def test_a_job_that_is_deleted_ends_its_pod_and_makes_no_other() -> None:
    job = a_job()
    job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    running = a_pod("a")
    assert jobs.plan(job, [running]).delete == (running,)
    assert not jobs.plan(job, []).create


def test_a_job_that_ended_stays_as_it_is() -> None:
    ended = jobs.plan(a_job(), [a_pod("a", phase="Succeeded")]).status
    assert [c["type"] for c in ended["conditions"]] == ["Complete"]
    again = jobs.plan({**a_job(), "status": ended}, [])
    assert not again.create
    assert again.status == ended


def test_numbers_of_ports_are_local_and_probes_follow() -> None:
    container = {
        "name": "search",
        "ports": [{"name": "grpc", "containerPort": 50052}, {"name": "http", "containerPort": 80, "hostPort": 8080}],
        "readinessProbe": {"grpc": {"port": 50052}},
        "livenessProbe": {"httpGet": {"port": "http", "path": "/"}},
    }
    owner = a_deployment()
    owner["spec"]["template"] = {"spec": {"containers": [container]}}
    pod = pod_of(owner, "web-1", {}, lambda: 20001)
    assert named_ports(pod) == {"grpc": 20001, "http": 8080, "50052": 20001, "80": 8080}
    assert pod["spec"]["containers"][0]["readinessProbe"]["grpc"]["port"] == 20001
    assert container["ports"][0]["containerPort"] == 50052


def test_an_endpoint_of_a_pod_that_leaves_is_not_ready() -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "2"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "grpc", "port": 50052, "targetPort": 50052}]},
    }
    pod = a_pod("a", terminating=True)
    pod["metadata"]["annotations"] = {"cortex.datapunk.io/local-ports": json.dumps({"50052": 20001})}
    (made,) = endpoints.slices(service, [pod])
    assert made["ports"] == [{"name": "grpc", "port": 20001, "protocol": "TCP"}]
    assert made["endpoints"][0]["conditions"]["ready"] is False


def test_only_paths_below_a_mount_lead_into_the_volume() -> None:
    mounts = {"/tmp": Path("/v/tmp"), "/tmp/deep": Path("/v/deep")}
    rewritten = [volumes.rewrite(value, mounts) for value in ("/tmp", "/tmp/a", "/tmp/deep/b", "/tmpfoo", "x /tmp")]
    assert rewritten == ["/v/tmp", "/v/tmp/a", "/v/deep/b", "/tmpfoo", "x /tmp"]


def an_index(name: str) -> Any:
    return {"apiVersion": "cortex.datapunk.io/v1alpha1", "kind": "CortexIndex", "metadata": {"name": name}}


def test_what_is_gone_from_its_path_is_to_be_deleted(tmp_path: Path) -> None:
    applied = Applied.load(tmp_path / "applied.json")
    applied.replace({"/a": [an_index("one"), an_index("two")], "/b": [an_index("two"), an_index("three")]})
    applied.save()
    applied = Applied.load(tmp_path / "applied.json")
    gone = applied.replace({"/a": []})
    assert gone == [ObjectKey("cortex.datapunk.io/v1alpha1", "CortexIndex", "default", "one")]
    applied.remove({ObjectKey("cortex.datapunk.io/v1alpha1", "CortexIndex", "default", "three")})
    assert [key.name for key in applied.objects()] == ["two"]


async def test_of_two_paths_with_the_same_object_the_one_that_was_given_last_wins(tmp_path: Path) -> None:
    cluster, key = MemoryCluster(), ObjectKey("cortex.datapunk.io/v1alpha1", "CortexIndex", "default", "one")
    store = Store(cluster, tmp_path / "applied.json")
    plain: Any = {"/b": [{**an_index("one"), "spec": {}}]}
    changed: Any = {"/a": [{**an_index("one"), "spec": {"replicas": 2}}]}

    async def up(sources: Any) -> tuple[str, Any]:
        said = (await store.apply(sources, {}))[str(key)]
        return said, (await cluster.get(key))["spec"].get("replicas")

    assert await up(plain) == ("Created", None)
    assert await up(changed) == ("Changed", 2)
    assert await up(plain) == ("Changed", None)
    assert await up(plain) == ("Unchanged", None)
    assert await up({}) == ("Unchanged", None)
    store = Store(cluster, tmp_path / "applied.json")
    assert await up({}) == ("Unchanged", None)
    assert await up(changed) == ("Changed", 2)


def test_the_gateway_is_open_to_others_only_when_asked() -> None:
    def environment(options: GatewayOptions) -> dict[str, Any]:
        (container,) = deployment(options)["spec"]["template"]["spec"]["containers"]
        return {v["name"]: v.get("value") for v in container["env"]}

    assert "CORTEX_LISTEN_HOST" not in environment(GatewayOptions())
    assert environment(GatewayOptions(insecure_listen=True))["CORTEX_INSECURE_LISTEN"] == "true"
