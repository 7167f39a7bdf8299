"""Every flow that the policies of a release and of its resources let through or not: one row each. The policies, the
pods and their ports are those that the chart renders and the operator makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.index import CortexIndex
from cortex_operator.cluster import MemoryCluster
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests import ReleaseSettings, ingest_job
from cortex_operator.manifests.isolation import Isolation
from cortex_operator.reconcile import Reconciler, World
from helm_chart import TRIAL, containers, objects, render
from passes import NoPods
from policy import End, Object, Outside, Pod, passes, pods_of

VALUES = {
    "resourceNamespaces": ["team-a", "team-b", "team-c"],
    "workloads": {"otlpEndpoint": "http://collector.observability:4317"},
    "networkPolicy": {
        "monitoringNamespaces": ["monitoring"],
        "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": 7777}]}],
    },
}
COLLECTOR: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "collector", "namespace": "observability"},
    "spec": {"selector": {"app": "collector"}, "ports": [{"port": 4317, "targetPort": 14317}]},
}
MIRROR = {
    "to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.9/32"]}}],
    "ports": [{"port": 80, "endPort": 90}],
}
OPEN = {
    "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "team-b"}}}
}
RESOURCES = (
    a_cortex_index_manifest(metadata__namespace="team-a", spec__network={"extraEgress": [MIRROR]}),
    a_cortex_index_manifest(metadata__namespace="team-a", metadata__name="tickets"),
    a_cortex_workflow_manifest(metadata__namespace="team-a"),
    a_cortex_index_manifest(metadata__namespace="team-b"),
    a_cortex_workflow_manifest(
        metadata__namespace="team-b",
        metadata__name="answers",
        spec__indexes=[
            {"name": "papers"},
            {"name": "shared", "namespace": "team-a"},
            {"name": "tickets", "namespace": "team-a"},
        ],
    ),
    a_cortex_index_manifest(metadata__namespace="team-a", metadata__name="shared", spec__access=OPEN),
    a_cortex_workflow_manifest(metadata__namespace="team-c"),
)
OTHERS: dict[str, End] = {
    "neighbour": Pod("team-a", {"app": "web"}),
    "stranger": Pod("default", {"app": "web"}),
    "imposter": Pod("default", {"app.kubernetes.io/name": "datapunk-cortex", "app.kubernetes.io/component": "gateway"}),
    "prometheus": Pod("monitoring", {"app": "prometheus"}),
    "collector": Pod("observability", {"app": "collector"}),
    "grafana": Pod("observability", {"app": "grafana"}),
    "coredns": Pod("kube-system", {"k8s-app": "kube-dns"}),
    "openshift-dns": Pod("openshift-dns", {"dns": "default"}),
    "node-dns": Outside("169.254.20.10"),
    "metadata": Outside("169.254.169.254"),
    "apiserver": Outside("10.0.0.1"),
    "internet": Outside("198.51.100.7"),
    "mirror": Outside("203.0.113.8"),
    "not-mirror": Outside("203.0.113.9"),
    "allowed-for-all": Outside("10.9.1.1"),
}
Row = tuple[str, str, int, bool]


def rows(source: str, target: str, yes: tuple[int, ...] = (), no: tuple[int, ...] = ()) -> list[Row]:
    return [*((source, target, port, True) for port in yes), *((source, target, port, False) for port in no)]


GRPC_SEARCH, GRPC_GRAPH, CONTROL, METRICS = 50052, 50053, 50059, 9090
SEARCH = (GRPC_SEARCH, CONTROL, METRICS)
GRAPH = (GRPC_GRAPH, CONTROL, METRICS)
TABLE: list[Row] = [
    # Who may ask an index.
    *rows("gateway", "search", yes=(GRPC_SEARCH, CONTROL), no=(METRICS, 22)),
    *rows("operator", "search", yes=(CONTROL,), no=(GRPC_SEARCH, METRICS)),
    *rows("graph", "search", yes=(GRPC_SEARCH,), no=(CONTROL, METRICS)),
    *rows("graph", "tickets", no=SEARCH),
    *rows("graph", "search-b", no=SEARCH),
    *rows("graph-b", "search-b", yes=(GRPC_SEARCH,)),
    *rows("graph-b", "search", no=SEARCH),
    *rows("graph-b", "shared", yes=(GRPC_SEARCH,), no=(CONTROL, METRICS)),
    *rows("graph-b", "tickets", no=SEARCH),
    *rows("graph", "shared", no=SEARCH),
    *(row for which in ("shared", "search-b") for row in rows("neighbour", which, no=SEARCH)),
    *rows("graph-c", "shared", no=SEARCH),
    *rows("graph-c", "search", no=SEARCH),
    *rows("prometheus", "search", yes=(METRICS,), no=(GRPC_SEARCH, CONTROL)),
    *rows("prometheus", "ingest", yes=(METRICS,)),
    *(row for who in ("neighbour", "stranger", "imposter", "grafana") for row in rows(who, "search", no=SEARCH)),
    *(row for who in ("neighbour", "stranger", "gateway") for row in rows(who, "ingest", no=(METRICS,))),
    *rows("internet", "search", no=SEARCH),
    *rows("search", "search", no=SEARCH),
    *rows("search", "tickets", no=SEARCH),
    *rows("ingest", "search", no=SEARCH),
    # Who may ask a workflow.
    *rows("gateway", "graph", yes=(GRPC_GRAPH, CONTROL), no=(METRICS,)),
    *rows("operator", "graph", yes=(CONTROL,), no=(GRPC_GRAPH, METRICS)),
    *rows("prometheus", "graph", yes=(METRICS,), no=(GRPC_GRAPH, CONTROL)),
    *rows("search", "graph", no=GRAPH),
    *rows("graph-b", "graph", no=GRAPH),
    *(row for who in ("neighbour", "stranger", "imposter", "internet") for row in rows(who, "graph", no=GRAPH)),
    *(row for who in ("graph-b", "graph-c") for row in rows("neighbour", who, no=GRAPH)),
    # Where pods of resources get to.
    *(row for who in ("search", "ingest", "graph") for row in rows(who, "lake", yes=(5432,), no=(22, 6379))),
    *(row for who in ("search", "ingest", "graph") for row in rows(who, "state", yes=(6379,), no=(5432,))),
    *(row for who in ("search", "ingest", "graph") for row in rows(who, "collector", yes=(14317,), no=(80,))),
    *(row for who in ("search", "ingest", "graph") for row in rows(who, "coredns", yes=(53,), no=(443, 9153))),
    *(row for who in ("search", "graph") for row in rows(who, "openshift-dns", yes=(5353,))),
    *(row for who in ("search", "graph") for row in rows(who, "node-dns", yes=(53,), no=(80,))),
    *(row for who in ("search", "ingest", "graph") for row in rows(who, "internet", no=(53, 80, 443, 5432, 6379))),
    *(row for who in ("search", "graph") for row in rows(who, "metadata", no=(80,))),
    *(row for who in ("search", "graph") for row in rows(who, "apiserver", no=(443, 6443))),
    *(row for who in ("search", "graph") for row in rows(who, "gateway", no=(8001, 50051, 9090))),
    *(row for who in ("search", "graph") for row in rows(who, "neighbour", no=(80, 5432))),
    *rows("search", "grafana", no=(4317, 14317)),
    # What fields and values add.
    *rows("search", "mirror", yes=(80, 90), no=(79, 91)),
    *rows("ingest", "mirror", yes=(80,)),
    *rows("search", "not-mirror", no=(80,)),
    *rows("tickets", "mirror", no=(80,)),
    *(row for who in ("search", "tickets", "graph", "gateway") for row in rows(who, "allowed-for-all", yes=(7777,))),
    *(row for who in ("search", "graph") for row in rows(who, "allowed-for-all", no=(443,))),
    # The release's own pods.
    *rows("stranger", "gateway", yes=(8001, 50051), no=(METRICS, 22)),
    *rows("prometheus", "gateway", yes=(METRICS,)),
    *rows("prometheus", "operator", yes=(METRICS,)),
    *rows("stranger", "operator", no=(METRICS,)),
    *rows("gateway", "operator", no=(METRICS,)),
    *(row for who in ("gateway", "operator") for row in rows(who, "apiserver", yes=(443, 6443), no=(22,))),
    *(row for who in ("gateway", "operator") for row in rows(who, "coredns", yes=(53,))),
    *(row for who in ("gateway", "operator") for row in rows(who, "internet", no=(80, 5432))),
    *rows("gateway", "state", yes=(6379,)),
    *rows("gateway", "collector", yes=(4317,)),
    *rows("operator", "allowed-for-all", yes=(7777,)),
    *rows("gateway", "lake", no=(5432,)),
    *rows("operator", "lake", no=(5432,)),
    *rows("operator", "state", no=(6379,)),
    *(row for who in ("neighbour", "stranger", "prometheus") for row in rows(who, "lake", no=(5432,))),
    *(row for who in ("neighbour", "stranger", "prometheus") for row in rows(who, "state", no=(6379,))),
    *rows("lake", "internet", no=(443,)),
    *rows("lake", "coredns", no=(53,)),
    *rows("state", "search", no=SEARCH),
]


@cache
def chart(*words: str) -> tuple[Object, ...]:
    return tuple(objects(render("--values", TRIAL, *words, values=VALUES)))


def release(found: tuple[Object, ...]) -> ReleaseSettings:
    """What the chart tells the operator."""
    env = {e["name"]: e.get("value") for e in containers(found)["operator"]["env"]}
    return ReleaseSettings(
        "registry.invalid/search:1",
        "registry.invalid/graph:1",
        isolation=Isolation.model_validate(json.loads(str(env["CORTEX_ISOLATION"]))),
        otlp_endpoint=str(env["CORTEX_OTLP_ENDPOINT"]),
    )


async def made(found: tuple[Object, ...]) -> MemoryCluster:
    """A cluster with what the chart has and the resources, after a pass over each."""
    cluster = MemoryCluster()
    for obj in (*(o for o in found if o["kind"] in ("Service", "Secret")), COLLECTOR, *RESOURCES):
        await cluster.apply(obj)
    reconcile = Reconciler(World(cluster, NoPods(), release(found)))
    for resource in RESOURCES:
        await reconcile(ResourceKey(resource["kind"], resource["metadata"]["namespace"], resource["metadata"]["name"]))
    return cluster


async def everything(found: tuple[Object, ...]) -> tuple[list[Object], dict[str, End]]:
    """All policies, and what each name of the table is."""
    cluster = await made(found)
    policies = [o for o in found if o["kind"] == "NetworkPolicy"]
    policies += await cluster.list("networking.k8s.io/v1", "NetworkPolicy")
    deployments = {
        (o["metadata"]["namespace"], o["metadata"]["name"]): pods_of(o)
        for o in (*found, *await cluster.list("apps/v1", "Deployment"))
        if o["kind"] in ("Deployment", "StatefulSet")
    }
    papers = CortexIndex.model_validate(RESOURCES[0])
    ends: dict[str, End] = {
        "gateway": deployments["cortex-system", "datapunk-cortex-api"],
        "operator": deployments["cortex-system", "datapunk-cortex-operator"],
        "lake": deployments["cortex-system", "datapunk-cortex-lake"],
        "state": deployments["cortex-system", "datapunk-cortex-state"],
        "search": deployments["team-a", "papers-search"],
        "tickets": deployments["team-a", "tickets-search"],
        "graph": deployments["team-a", "helpdesk-graph"],
        "shared": deployments["team-a", "shared-search"],
        "graph-c": deployments["team-c", "helpdesk-graph"],
        "search-b": deployments["team-b", "papers-search"],
        "graph-b": deployments["team-b", "answers-graph"],
        "ingest": pods_of(ingest_job(papers, "0a1b2c3d4e", release(found))),
        **OTHERS,
    }
    return policies, ends


def wrong(policies: list[Object], ends: dict[str, End]) -> Iterator[Row]:
    """The rows of the table that do not hold."""
    for source, target, port, verdict in TABLE:
        if passes(policies, ends[source], ends[target], port) is not verdict:
            yield source, target, port, verdict


async def test_each_flow_is_let_through_or_not_as_the_table_says() -> None:
    policies, ends = await everything(chart())
    assert len(set(TABLE)) == len(TABLE)
    assert list(wrong(policies, ends)) == []
    assert passes(policies, ends["search"], ends["coredns"], 53, "UDP")
    assert not passes(policies, ends["search"], ends["internet"], 53, "UDP")


async def test_each_policy_and_each_rule_counts() -> None:
    """Without one of them the table does not hold: no rule is there for nothing, and the table sees each."""
    policies, ends = await everything(chart())
    for policy in policies:
        rest = [each for each in policies if each is not policy]
        assert list(wrong(rest, ends)), f"the table holds without {policy}"
    # The others have the same rules.
    one = {("team-a", "papers-search"), ("team-a", "helpdesk-graph")}
    for policy in policies:
        where = (policy["metadata"]["namespace"], policy["metadata"]["name"])
        if where[0] != "cortex-system" and where not in one:
            continue
        rest = [each for each in policies if each is not policy]
        for way, rule in [(w, each) for w in ("ingress", "egress") for each in policy["spec"].get(w, ())]:
            kept = {**policy["spec"], way: [each for each in policy["spec"][way] if each is not rule]}
            assert list(wrong([*rest, {**policy, "spec": kept}], ends)), f"the table holds without {rule} of {policy}"


async def test_switched_off_nothing_is_closed() -> None:
    policies, ends = await everything(chart("--set", "networkPolicy.enabled=false"))
    assert policies == []
    assert {verdict for *_, verdict in wrong(policies, ends)} == {False}


async def test_callers_of_the_gateway_may_be_named() -> None:
    peer = '[{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}}]'
    policies, ends = await everything(chart("--set-json", f"networkPolicy.gatewayClients={peer}"))
    assert list(wrong(policies, ends)) == [("stranger", "gateway", 8001, True), ("stranger", "gateway", 50051, True)]
    assert passes(policies, ends["neighbour"], ends["gateway"], 8001)


async def test_pods_that_look_alike_elsewhere_are_not_meant() -> None:
    """A peer of one namespace is not one of another: all policies of a release, with its pods moved."""
    policies, ends = await everything(chart())
    for name, port in (("gateway", GRPC_SEARCH), ("operator", CONTROL), ("graph", GRPC_SEARCH)):
        pod: Any = ends[name]
        assert passes(policies, pod, ends["search"], port)
        assert not passes(policies, Pod("default", pod.labels, pod.ports), ends["search"], port)
