"""Values: every key is described and does something; another key or a wrong value is refused by its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cortex_kinds.labels import LABEL_KEY, LABEL_VALUE
from cortex_workloads.runtime.resilience.policies import GatewayPolicies
from helm_chart import CHART, TRIAL, refusal, render

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
EVERYTHING = {"trial": {"enabled": True}, "resourceNamespaces": ["team-a"]}
"""Values under which each other value shows in what is rendered."""
CHANGES: dict[str, Any] = {
    "fullnameOverride": "other",
    "image.registry": "registry.example.com/team",
    "image.repositoryPrefix": "cortex/",
    "image.tag": "2.0.0",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "another"}],
    "admission.protectUsedIndexes": True,
    "crds.enabled": False,
    "crds.keep": False,
    "watchNamespaces": ["team-a"],
    "resourceNamespaces": ["team-b"],
    "lake.dsn": "postgresql://u:p@db/lake",
    "state.url": "rediss://cache/0",
    "state.existingSecret": "mine",
    "operator.replicas": 3,
    "gateway.replicas": 5,
    "gateway.drainSeconds": 33,
    "gateway.breaker.failureRatio": 0.25,
    "gateway.breaker.minimumCalls": 20,
    "gateway.breaker.windowSeconds": 30,
    "gateway.breaker.openSeconds": 2.5,
    "gateway.breaker.probeSeconds": 20,
    "gateway.breaker.slowSeconds": 3,
    "gateway.retries.attempts": 2,
    "gateway.retries.firstPauseSeconds": 0.5,
    "gateway.retries.longestPauseSeconds": 5,
    "gateway.retries.tokens": 10,
    "gateway.retries.tokenRatio": 0.5,
    "gateway.searchSeconds": 12,
    "gateway.limits.search.concurrent": 48,
    "gateway.limits.search.waiting": 6,
    "gateway.limits.search.waitSeconds": 0.25,
    "gateway.limits.writing.concurrent": 48,
    "gateway.limits.writing.waiting": 6,
    "gateway.limits.writing.waitSeconds": 0.25,
    "gateway.limits.runs.concurrent": 48,
    "gateway.limits.runs.waiting": 6,
    "gateway.limits.runs.waitSeconds": 0.25,
    "gateway.limits.state.concurrent": 48,
    "gateway.limits.state.waiting": 6,
    "gateway.limits.state.waitSeconds": 0.25,
    "gateway.service.annotations": {"a": "b"},
    "gateway.topologySpreadConstraints": [],
    "gpuPools": [{"name": "research", "nodeSelector": {"team": "research"}}],
    "autoscaling.prometheusAddress": "http://prometheus:9090",
    "podMonitors.enabled": False,
    "podMonitors.labels": {"release": "prometheus"},
    "networkPolicy.enabled": False,
    "networkPolicy.monitoringNamespaces": ["observability"],
    "networkPolicy.dns.namespaces": ["dns"],
    "networkPolicy.dns.ports": [8053],
    "networkPolicy.dns.cidrs": ["10.96.0.10/32"],
    "networkPolicy.apiServer.ports": [7443],
    "networkPolicy.apiServer.cidrs": ["10.0.0.1/32"],
    "networkPolicy.gatewayClients": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
    "networkPolicy.extraEgress": [{"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": 443}]}],
    "workloads.logLevel": "DEBUG",
    "reload.enabled": True,
    "workloadUpdates": "Manual",
    "workloads.drainSeconds": 44.5,
    "workloads.otlpEndpoint": "http://collector:4317",
}
POD = {
    "resources": {"requests": {"cpu": "3"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
}
for part in ("operator", "gateway"):
    CHANGES |= {f"{part}.{name}": value for name, value in {**POD, "logLevel": "DEBUG"}.items()}
for part in ("trial.lake", "trial.state"):
    CHANGES |= {f"{part}.{name}": POD[name] for name in ("resources", "nodeSelector", "tolerations")}
    CHANGES |= {f"{part}.password": "another-one", f"{part}.persistence.enabled": False}
    CHANGES |= {f"{part}.persistence.size": "99Gi", f"{part}.persistence.storageClassName": "fast"}
for part in ("search", "graph", "ingest"):
    CHANGES[f"workloads.{part}Resources"] = {"limits": {"cpu": "3"}}


A_POOL = {"name": "research", "nodeSelector": {"team": "research"}}
EGRESS = "/networkPolicy/extraEgress/0"


def egress_to(cidr: str) -> dict[str, Any]:
    return {"extraEgress": [{"to": [{"ipBlock": {"cidr": cidr}}]}]}


def described(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of the schema that has no properties of its own, by its path. `resources` is one value."""
    schema = {**SCHEMA["$defs"].get(schema.get("$ref", "").rpartition("/")[2], {}), **schema}
    if "properties" not in schema or path.endswith("esources"):
        yield path, schema
        return
    for name, inner in schema["properties"].items():
        yield from described(inner, f"{path}.{name}" if path else name)


def set_at(path: str, value: Any) -> dict[str, Any]:
    """`{a: {b: value}}` for a.b."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def merged(one: Any, other: Any) -> Any:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return {**one, **{name: merged(one.get(name), value) for name, value in other.items()}}


def at(path: str) -> Any:
    value = VALUES
    for name in path.split("."):
        value = value[name]
    return value


# What trial.enabled does, test_chart_trial.py shows.
PATHS = [path for path, _ in described(SCHEMA) if path not in ("global", "trial.enabled")]


@pytest.fixture(scope="module")
def everything() -> str:
    return render(values=EVERYTHING)


def test_values_and_schema_have_the_same_keys() -> None:
    for path in PATHS:
        at(path)

    assert sorted(CHANGES) == sorted(PATHS)


def test_every_key_is_explained_and_every_object_is_closed() -> None:
    def walk(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            yield schema
            for inner in schema.values():
                yield from walk(inner)
        elif isinstance(schema, list):
            for inner in schema:
                yield from walk(inner)

    objects = [schema for schema in walk(SCHEMA) if isinstance(schema.get("properties"), dict)]
    properties = [(name, inner) for schema in objects for name, inner in schema["properties"].items()]

    assert [name for name, inner in properties if not inner.get("description", "").endswith(".")] == []
    assert [schema["description"] for schema in objects if schema.get("additionalProperties") is not False] == []


@pytest.mark.parametrize("path", PATHS)
def test_every_value_does_something(path: str, everything: str) -> None:
    changed = merged(EVERYTHING, set_at(path, CHANGES[path]))

    assert changed != EVERYTHING
    assert render(values=changed) != everything


@pytest.mark.parametrize(
    ("values", "key", "reason"),
    [
        ({"gateway": {"replica": 2}}, "/gateway", "'replica' not allowed"),
        ({"gateway": {"replicas": "many"}}, "/gateway/replicas", "want integer"),
        ({"gateway": {"replicas": -1}}, "/gateway/replicas", "minimum"),
        ({"operator": {"replicas": 11}}, "/operator/replicas", "maximum"),
        ({"operator": {"resources": {"limits": {"cpu": 1}}}}, "/operator/resources/limits/cpu", "want string"),
        ({"operator": {"resources": {"limits": {"memory": "1 Gi"}}}}, "/operator/resources/limits/memory", "pattern"),
        ({"operator": {"securityContext": {}}}, "/operator", "'securityContext' not allowed"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy", "must be one of"),
        ({"image": {"registry": "registry.example.com/"}}, "/image/registry", "pattern"),
        ({"image": {"registry": "https://x"}}, "/image/registry", "pattern"),
        ({"image": {"registry": "x/Upper"}}, "/image/registry", "pattern"),
        ({"image": {"repositoryPrefix": "my cortex-"}}, "/image/repositoryPrefix", "pattern"),
        ({"workloads": {"otlpEndpoint": "notaurl"}}, "/workloads/otlpEndpoint", "pattern"),
        ({"workloads": {"otlpEndpoint": "https://"}}, "/workloads/otlpEndpoint", "pattern"),
        ({"gpuPools": [{"name": "a", "nodeSelector": {"bad key": "x"}}]}, "/gpuPools/0/nodeSelector", "'bad key'"),
        ({"gpuPools": [{"name": "a", "nodeSelector": {"k": "a b"}}]}, "/gpuPools/0/nodeSelector/k", "pattern"),
        ({"podMonitors": {"labels": {"a b": "x"}}}, "/podMonitors/labels", "'a b'"),
        ({"operator": {"podAnnotations": {"a b": "x"}}}, "/operator/podAnnotations", "'a b'"),
        ({"networkPolicy": egress_to("999.1.1.1/33")}, f"{EGRESS}/to/0/ipBlock/cidr", "pattern"),
        ({"networkPolicy": egress_to("10.0.0.0/33")}, f"{EGRESS}/to/0/ipBlock/cidr", "pattern"),
        ({"networkPolicy": egress_to("2001:db8::/129")}, f"{EGRESS}/to/0/ipBlock/cidr", "pattern"),
        ({"networkPolicy": {"extraEgress": [{"ports": [{"port": 0}]}]}}, f"{EGRESS}/ports/0/port", "minimum"),
        ({"networkPolicy": {"apiServer": {"cidrs": ["1.2.3/24"]}}}, "/networkPolicy/apiServer/cidrs/0", "pattern"),
        ({"workloads": {"logLevel": "debug"}}, "/workloads/logLevel", "must be one of"),
        ({"watchNamespaces": "team-a"}, "/watchNamespaces", "want array"),
        ({"watchNamespaces": ["team-a", "team-a"]}, "/watchNamespaces", "equal"),
        ({"watchNamespaces": ["Team A"]}, "/watchNamespaces/0", "pattern"),
        ({"lake": {"dsn": "mysql://db/lake"}}, "/lake/dsn", "pattern"),
        ({"state": {"url": "cache:6379"}}, "/state/url", "pattern"),
        ({"trial": {"lake": {"password": "p@ss word"}}}, "/trial/lake/password", "pattern"),
        ({"fullnameOverride": "Not A Name"}, "/fullnameOverride", "pattern"),
        ({"serviceMonitor": {"enabled": True}}, "''", "'serviceMonitor' not allowed"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], key: str, reason: str) -> None:
    said = refusal(values=values)

    assert f"at '{key.strip(chr(39))}': " in said
    assert reason in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"resourceNamespaces": ["a"]}, "resourceNamespaces: the Secrets need lake.dsn, or trial.enabled=true"),
        (
            {"resourceNamespaces": ["a"], "lake": {"dsn": "postgresql://db/lake"}},
            "resourceNamespaces: the Secrets need state.url, or trial.enabled=true",
        ),
        (
            {"resourceNamespaces": ["a"], "watchNamespaces": ["b"], "trial": {"enabled": True}},
            'resourceNamespaces: "a" is not in watchNamespaces',
        ),
        ({"gpuPools": [A_POOL, A_POOL]}, 'gpuPools: two pools have the name "research"'),
    ],
)
def test_values_that_do_not_fit_together_are_refused_with_the_remedy(values: dict[str, Any], said: str) -> None:
    assert said in refusal(values=values)


@pytest.mark.parametrize(
    "values",
    [
        *({"image": {"registry": name}} for name in ("localhost:5000", "ghcr.io/a-b/c__d", "my_org")),
        *({"image": {"repositoryPrefix": name}} for name in ("", "team/cortex-")),
        *(
            {"workloads": {"otlpEndpoint": address}}
            for address in (
                "https://otel.example.com/v1",
                "collector:4317",
                "dns:///collector.a:4317",
                "http://[::1]:1",
            )
        ),
        *({"networkPolicy": egress_to(cidr)} for cidr in ("0.0.0.0/0", "255.10.0.1/32", "::/0", "::ffff:1.2.3.4/128")),
        {"gpuPools": [{"name": "a", "nodeSelector": {"nvidia.com/gpu.product": "A100-SXM4-80GB", "empty": ""}}]},
        {"gateway": {"service": {"annotations": {"a.example.com/b": "any text: at all"}}}},
    ],
)
def test_what_kubernetes_takes_is_taken(values: dict[str, Any]) -> None:
    render(values=values)


def test_labels_have_the_form_that_the_operator_asks_of_them() -> None:
    defs = SCHEMA["$defs"]
    assert (defs["labelKey"]["pattern"], defs["labelValue"]["pattern"]) == (LABEL_KEY, LABEL_VALUE)
    assert [[*defs[name]["patternProperties"]] for name in ("labels", "annotations")] == [[LABEL_KEY]] * 2


def test_helm_may_set_global_when_this_chart_is_a_part_of_another() -> None:
    assert render("--values", TRIAL, values={"global": {"anything": 1}}) == render("--values", TRIAL)


def test_policies_have_the_bounds_and_defaults_that_the_gateway_has() -> None:
    gateway = SCHEMA["properties"]["gateway"]["properties"]
    model = GatewayPolicies.model_json_schema(by_alias=True)
    chart = {name: gateway[name] for name in model["properties"]}

    assert bounds({"properties": chart}, SCHEMA) == bounds(model, model)
    assert {name: VALUES["gateway"][name] for name in chart} == GatewayPolicies().model_dump(by_alias=True)


def bounds(schema: dict[str, Any], root: dict[str, Any], path: str = "") -> dict[str, tuple[Any, ...]]:
    """Type and bounds of each leaf, by its path."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema:
        return {path: tuple(schema.get(name) for name in ("type", "minimum", "exclusiveMinimum", "maximum"))}
    inner = (bounds(each, root, f"{path}.{name}") for name, each in schema["properties"].items())
    return {leaf: found for one in inner for leaf, found in one.items()}
