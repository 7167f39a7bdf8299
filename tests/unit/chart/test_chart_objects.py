"""What holds for the release's objects whatever the values: names, settings that their readers know, rights."""

from __future__ import annotations

import json
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from cortex_operator.preflight import (
    LEASE_RIGHTS,
    OWN_RIGHTS,
    RELOAD_RIGHTS,
    RIGHTS,
)
from cortex_operator.settings import OperatorSettings
from cortex_workloads.runtime.resilience.live import Live
from cortex_workloads.runtime.resilience.policies import (
    BreakerPolicy,
    GatewayLimits,
    GatewayPolicies,
    GatewaySearchLimit,
    RetryPolicy,
)
from cortex_workloads.runtime.settings import GatewaySettings, env_name
from helm_chart import CHART, ROOT, TRIAL, Object, containers, objects, pick, render

NAMESPACED = {"watchNamespaces": ["team-a", "team-b"]}


def env(found: list[Object], container: str) -> dict[str, Any]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in containers(found)[container]["env"]}


@pytest.mark.parametrize(
    ("release", "service"),
    [
        ("cortex", "datapunk-cortex-api"),
        ("datapunk-cortex", "datapunk-cortex-api"),
        ("team-cortex", "team-cortex-api"),
        ("search", "search-datapunk-cortex-api"),
        ("a" * 53, "a" * 46 + "-api"),
    ],
)
def test_names_follow_the_release(release: str, service: str) -> None:
    found = objects(render(release=release))

    pick(found, "Service", service)
    assert max(len(o["metadata"]["name"]) for o in found if o["kind"] in ("Service", "Deployment")) <= 63


@pytest.mark.parametrize("release", ["datapunk-cortex", "cortex", "search"])
def test_no_two_objects_have_one_name(release: str) -> None:
    """The release's own namespace may be among those that get the two Secrets."""
    found = objects(render("--values", TRIAL, values={"resourceNamespaces": ["cortex-system"]}, release=release))
    names = [(o["kind"], o["metadata"]["name"], o["metadata"].get("namespace")) for o in found]

    assert len(set(names)) == len(names)


def test_versions_are_the_project_s() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])


def test_the_gateway_knows_each_of_its_settings() -> None:
    known = {env_name(field) for field in GatewaySettings.model_fields}
    found = objects(render("--values", TRIAL, values={"workloads": {"otlpEndpoint": "http://collector:4317"}}))

    assert env(found, "gateway").keys() - known == set()


def test_the_operator_takes_each_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}
    workloads = {f"{kind}Resources": resources for kind in ("search", "graph", "ingest")}
    pool = {"name": "research", "nodeSelector": {"team": "research"}, "tolerations": [{"operator": "Exists"}]}
    values = {
        **NAMESPACED,
        "gpuPools": [pool],
        "autoscaling": {"prometheusAddress": "http://prometheus:9090"},
        "podMonitors": {"enabled": False, "labels": {"release": "prometheus"}},
        "workloads": {**workloads, "otlpEndpoint": "http://c:1", "drainSeconds": 2.5},
    }
    given = env(objects(render(values=values)), "operator")
    for name, value in given.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else "from-the-pod")
    settings = OperatorSettings()

    assert given.keys() == {env_name(field) for field in settings.model_fields_set}
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert [each.to_manifest() for each in settings.gpu_pools] == [pool]
    assert settings.prometheus_address == "http://prometheus:9090"
    assert (settings.pod_monitors, settings.pod_monitor_labels) == (False, {"release": "prometheus"})
    for kind in (settings.search_resources, settings.graph_resources, settings.ingest_resources):
        assert kind.model_dump() == resources


def test_the_gateway_follows_its_policies(tmp_path: Path) -> None:
    some = {
        "breaker": {"failureRatio": 0.25, "openSeconds": 2},
        "retries": {"attempts": 2},
        "limits": {"search": {"concurrent": 512, "waiting": 8, "waitSeconds": 0.25}},
        "searchSeconds": 5,
    }
    wanted = GatewayPolicies(
        breaker=BreakerPolicy(failure_ratio=0.25, open_seconds=2),
        retries=RetryPolicy(attempts=2),
        limits=GatewayLimits(search=GatewaySearchLimit(concurrent=512, waiting=8, wait_seconds=0.25)),
        search_seconds=5,
    )
    for values, policies in (({}, GatewayPolicies()), ({"gateway": some}, wanted)):
        found = objects(render(values=values))
        pod = pick(found, "Deployment", "datapunk-cortex-api")["spec"]["template"]["spec"]
        (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "policies"]
        (volume,) = [volume["configMap"] for volume in pod["volumes"] if volume["name"] == "policies"]
        ((key, text),) = pick(found, "ConfigMap", volume["name"])["data"].items()
        assert env(found, "gateway")["CORTEX_POLICIES_FILE"] == f"{mount['mountPath']}/{key}"
        # What is mounted by subPath never changes under a pod that runs.
        assert "subPath" not in mount
        file = tmp_path / key
        file.write_text(text)
        live = Live(GatewaySettings().policies, file)
        assert (live.problem, live.now) == ("", policies)


@pytest.mark.parametrize("part", ["breaker.openSeconds", "retries.attempts", "limits.runs.concurrent", "searchSeconds"])
def test_a_policy_that_changes_replaces_no_gateway(part: str) -> None:
    names = part.split(".")
    changed: Any = 3
    for name in reversed(names):
        changed = {name: changed}
    before, after = objects(render()), objects(render(values={"gateway": changed}))

    assert [o["kind"] for o, other in zip(before, after, strict=True) if o != other] == ["ConfigMap"]


def test_settings_reach_their_readers() -> None:
    resources = {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}
    workloads = {"searchResources": resources, "drainSeconds": 2.5, "logLevel": "DEBUG", "otlpEndpoint": "http://c:1"}
    values = {**NAMESPACED, "workloads": workloads, "image": {"registry": "r.example.com/x", "tag": "9"}}
    found = objects(render(values=values))
    operator, gateway = env(found, "operator"), env(found, "gateway")

    assert json.loads(operator["CORTEX_WATCH_NAMESPACES"]) == json.loads(gateway["CORTEX_WATCH_NAMESPACES"])
    assert json.loads(operator["CORTEX_WATCH_NAMESPACES"]) == ["team-a", "team-b"]
    assert json.loads(operator["CORTEX_SEARCH_RESOURCES"]) == resources
    assert "CORTEX_GRAPH_RESOURCES" not in operator
    assert operator["CORTEX_SEARCH_IMAGE"] == "r.example.com/x/datapunk-cortex-search:9"
    assert operator["CORTEX_GRAPH_IMAGE"] == "r.example.com/x/datapunk-cortex-graph:9"
    assert (operator["CORTEX_DRAIN_SECONDS"], operator["CORTEX_WORKLOAD_LOG_LEVEL"]) == ("2.5", "DEBUG")
    assert operator["CORTEX_OTLP_ENDPOINT"] == gateway["CORTEX_OTLP_ENDPOINT"] == "http://c:1"


def test_a_gateway_pod_has_time_to_drain() -> None:
    pod = pick(objects(render(values={"gateway": {"drainSeconds": 60.5}})), "Deployment", "datapunk-cortex-api")

    assert pod["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 61 + 5 + 5


@pytest.mark.parametrize(("part", "name"), [("gateway", "api"), ("operator", "operator")])
@pytest.mark.parametrize(("replicas", "budgets"), [(0, []), (1, []), (2, [1]), (10, [1])])
def test_a_disruption_budget_from_two_replicas_on(part: str, name: str, replicas: int, budgets: list[int]) -> None:
    other = "operator" if part == "gateway" else "gateway"
    found = objects(render(values={part: {"replicas": replicas}, other: {"replicas": 1}}))

    there = [o for o in found if o["kind"] == "PodDisruptionBudget"]
    assert [o["spec"]["maxUnavailable"] for o in there] == budgets
    assert {o["metadata"]["name"] for o in there} <= {f"datapunk-cortex-{name}"}
    assert pick(found, "Deployment", f"datapunk-cortex-{name}")["spec"]["replicas"] == replicas


def test_an_update_of_the_operator_leaves_no_gap() -> None:
    found = pick(objects(render()), "Deployment", "datapunk-cortex-operator")

    rolling = {"maxSurge": 1, "maxUnavailable": 0}
    assert found["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}


def test_releases_of_one_namespace_have_a_lease_each() -> None:
    leases = {env(objects(render(release=release)), "operator")["CORTEX_LEASE"] for release in ("one", "two")}

    assert len(leases) == 2


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"trial": {"enabled": True}},
        {"gateway": {"podLabels": {"app.kubernetes.io/component": "mine", "team": "a"}}},
    ],
)
def test_every_selector_finds_its_pods_and_no_others(values: dict[str, Any]) -> None:
    found = objects(render(values=values))
    pods = {
        o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"]
        for o in found
        if "template" in o.get("spec", {})
    }
    for item in found:
        selector = item.get("spec", {}).get("selector")
        if selector:
            labels = selector.get("matchLabels", selector)
            matching = [name for name, own in pods.items() if labels.items() <= own.items()]
            assert matching == [item["metadata"]["name"]]


def test_a_namespaced_release_asks_for_nothing_in_the_cluster() -> None:
    found = objects(render(values=NAMESPACED))
    roles = [o for o in found if o["kind"] == "Role"]
    bindings = [o for o in found if o["kind"] == "RoleBinding"]

    assert [o for o in found if o["kind"].startswith("ClusterRole")] == []
    own = {"team-a", "team-b", "cortex-system"}
    assert {(o["roleRef"]["kind"], o["metadata"]["namespace"]) for o in bindings} == {("Role", name) for name in own}
    assert {o["metadata"]["namespace"] for o in roles} == own
    assert "nodes" not in set(chain.from_iterable(rule["resources"] for o in roles for rule in o["rules"]))


def granted(found: list[Object], kind: str, name: str, only: list[str] | None = None) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of the roles of that name, where they are about all objects, or the names `only`."""
    return {
        (group, resource, verb)
        for o in found
        if o["kind"] == kind and o["metadata"]["name"] == name
        for rule in o["rules"]
        if rule.get("resourceNames") == only
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.mark.parametrize(("kind", "values"), [("ClusterRole", {}), ("Role", NAMESPACED)])
def test_the_operator_gets_the_rights_that_it_asks_for_and_no_others(kind: str, values: dict[str, Any]) -> None:
    asked = {(group, resource, verb) for group, resource, verbs in RIGHTS for verb in verbs}
    # Where the API server checks who may block an owner's deletion; and nodes, which it can do without.
    kinds = ("cortexindexes", "cortexworkflows")
    owners = {("cortex.datapunk.io", f"{plural}/finalizers", "update") for plural in kinds}
    nodes = {("", "nodes", "list")} if kind == "ClusterRole" else set()

    found = objects(render(values=values))
    assert granted(found, kind, "cortex-system:datapunk-cortex-operator") == asked | owners | nodes
    own = {(group, resource, verb) for group, resource, verbs in OWN_RIGHTS for verb in verbs}
    assert granted(found, "Role", "datapunk-cortex-operator") == own
    lease = {(group, resource, verb) for group, resource, verbs in LEASE_RIGHTS for verb in verbs}
    assert granted(found, "Role", "datapunk-cortex-operator", [env(found, "operator")["CORTEX_LEASE"]]) == lease
    assert pick(found, "RoleBinding", "datapunk-cortex-operator")["roleRef"]["name"] == "datapunk-cortex-operator"


@pytest.mark.parametrize(("kind", "values"), [("ClusterRole", {}), ("Role", NAMESPACED)])
def test_to_reload_pods_the_operator_gets_the_rights_that_it_asks_for_then_and_no_others(
    kind: str, values: dict[str, Any]
) -> None:
    name = "cortex-system:datapunk-cortex-operator"
    before, found = (objects(render(values={**values, **reload})) for reload in ({}, {"reload": {"enabled": True}}))
    asked = {(group, resource, verb) for group, resource, verbs in RELOAD_RIGHTS for verb in verbs}
    assert granted(found, kind, name) - granted(before, kind, name) == asked
    assert {("", "secrets", "get"), ("", "secrets", "create")} <= granted(found, "Role", "datapunk-cortex-operator")
    assert "CORTEX_RELOAD" not in env(before, "operator")
    assert env(found, "operator")["CORTEX_RELOAD"] == "true"


def test_the_gateway_only_looks() -> None:
    resources = (("cortex.datapunk.io", "cortexindexes"), ("cortex.datapunk.io", "cortexworkflows"))
    looked_at = (*resources, ("discovery.k8s.io", "endpointslices"))

    assert granted(objects(render()), "ClusterRole", "cortex-system:datapunk-cortex-api") == {
        (*resource, verb) for resource in looked_at for verb in ("get", "list", "watch")
    }
