"""A plan that cannot read the operator's settings: what they decided stays as the objects have it."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_cli.planning.asmade import as_made
from cortex_cli.planning.pools import as_told
from cortex_kinds.common import Resources
from cortex_kinds.network import EgressRule
from cortex_operator.cluster import MemoryCluster, Object
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.gpupool import GPUPool
from cortex_operator.manifests.isolation import Isolation, Resolver
from cortex_operator.manifests.optional import POD_MONITOR, SCALED_OBJECT
from cortex_operator.preview.gpus import Fits
from cortex_operator.preview.look import Look
from cortex_operator.preview.report import ResourcePlan
from cortex_operator.preview.run import Proposal
from objects import a_secret
from previews import key_of, own, planned, reconciled

SERVED = frozenset({POD_MONITOR, SCALED_OBJECT})
SMALL = Resources(requests={"cpu": "10m"}, limits={"cpu": "1", "memory": "64Mi"})
PROXY = EgressRule.model_validate({"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"port": 3128}]})
ANYWHERE = EgressRule.model_validate({"ports": [{"port": "https"}]})
POOLS = (
    GPUPool(name="a100", node_selector={"team": "r", "gpu": "a100"}, tolerations=[{"key": "r", "operator": "Exists"}]),
    GPUPool(name="l4", node_selector={"gpu": "l4"}),
)
PLAIN: dict[str, Any] = {"search_image": "own/search:3", "graph_image": "own/graph:3", "served": SERVED}
RELEASES = {
    "usual": {},
    "named otherwise": {
        "namespace": "elsewhere",
        "isolation": Isolation(gateway={"app": "g", "of": "prod"}, operator={"app": "o"}),
    },
    "in the resource's namespace": {"namespace": "default"},
    "many watch": {"isolation": Isolation(monitoring_namespaces=("a", "b"), extra_egress=(PROXY, ANYWHERE))},
    "nobody watches": {"isolation": Isolation(monitoring_namespaces=(), dns=Resolver(namespaces=(), cidrs=()))},
    "resolved otherwise": {"isolation": Isolation(dns=Resolver(namespaces=("dns",), ports=(53,), cidrs=()))},
    "no policies": {"isolation": Isolation(enabled=False)},
    "pods": {
        "search_resources": SMALL,
        "graph_resources": SMALL,
        "image_pull_policy": "Always",
        "drain_seconds": 3.0,
        "log_level": "DEBUG",
        "otlp_endpoint": "http://traces.monitoring:4317",
    },
    "no monitors": {"pod_monitors": False},
    "monitors": {"pod_monitor_labels": {"release": "prometheus"}},
    "pools": {"gpu_pools": POOLS},
    "prometheus": {"prometheus_address": "http://prometheus.monitoring:9090"},
}
QUERY = {"type": "Prometheus", "prometheus": {"query": "q", "threshold": "1"}}
OWN_EGRESS = {"extraEgress": [{"to": [{"ipBlock": {"cidr": "10.2.0.0/16"}}]}]}
INDEX = {
    "spec__network": OWN_EGRESS,
    "spec__gpu": {"count": 1, "pool": "a100"},
    "spec__access": {"allowedNamespaces": {"from": "All"}},
    "spec__placement": {"nodeSelector": {"zone": "a"}, "tolerations": [{"key": "own", "operator": "Exists"}]},
    "spec__resources": {"limits": {"memory": "128Mi"}},
}
CHANGES: dict[str, dict[str, Any]] = {
    "replicas": {"spec__replicas": 2},
    "image": {"spec__image": "own:2"},
    "egress": {"spec__network": {"extraEgress": [*OWN_EGRESS["extraEgress"], {"ports": [{"port": 1}]}]}},
    "access": {"spec__access": {}},
    "placement": {"spec__placement": {"nodeSelector": {"zone": "b"}}},
    "gpus": {"spec__gpu": {"count": 2, "pool": "a100"}},
    "resources": {"spec__resources": {"limits": {"memory": "128Mi", "cpu": "3"}}},
    "suspended": {"spec__suspend": True},
}
MANIFESTS = {
    "index": a_cortex_index_manifest(spec__replicas=2),
    "busy index": a_cortex_index_manifest(**INDEX),
    "scaled index": a_cortex_index_manifest(
        spec__autoscaling={"minReplicas": 1, "maxReplicas": 3, "metrics": [QUERY]}, spec__image="own:1"
    ),
    "workflow": a_cortex_workflow_manifest(spec__network=OWN_EGRESS),
}


async def a_cluster(manifest: Object, **release: Any) -> MemoryCluster:
    cluster = MemoryCluster()
    secrets = a_secret("cortex-lake", dsn="postgresql://pg.lake/d"), a_secret("cortex-state", url="redis://10.9.9.9")
    for secret in secrets:
        await cluster.apply(secret)
    await cluster.apply(manifest, field_manager="author")
    await reconciled(cluster, key_of(manifest), release=ReleaseSettings(**{**PLAIN, **release}))
    return cluster


async def a_plan(cluster: MemoryCluster, manifest: Object) -> ResourcePlan:
    look, key = Look(cluster), key_of(manifest)
    release = await as_made(look, Proposal(key, await look.find(own(key)), manifest), SERVED)
    (plan,) = await planned(cluster, manifest, release=release)
    return plan


@pytest.mark.parametrize("kind", MANIFESTS)
@pytest.mark.parametrize("release", RELEASES)
async def test_what_did_not_change_stays(release: str, kind: str) -> None:
    cluster = await a_cluster(MANIFESTS[kind], **RELEASES[release])

    plan = await a_plan(cluster, MANIFESTS[kind])

    assert plan.objects == ()
    assert not plan.changes


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("release", RELEASES)
async def test_what_changes_is_as_if_the_settings_were_known(release: str, change: str) -> None:
    before, after = a_cortex_index_manifest(**INDEX), a_cortex_index_manifest(**{**INDEX, **CHANGES[change]})
    settings = {**PLAIN, "gpu_pools": POOLS, **RELEASES[release]}
    cluster = await a_cluster(before, **settings)

    plan = await a_plan(cluster, after)

    (known,) = await planned(cluster, after, release=ReleaseSettings(**settings))
    assert plan.objects == known.objects
    assert (plan.action, plan.pods, plan.gpus, plan.revision) == (known.action, known.pods, known.gpus, known.revision)


async def test_drift_that_no_setting_explains_is_still_told() -> None:
    cluster = await a_cluster(MANIFESTS["index"])
    name = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "papers-search", "namespace": "default"}}
    await cluster.apply({**name, "spec": {"selector": {"somebody": "else"}}}, field_manager="somebody")

    plan = await a_plan(cluster, MANIFESTS["index"])

    assert [(change.key.kind, change.drift) for change in plan.objects] == [("Service", True)]


async def placed(manifest: Object, live: Object | None = None) -> ResourcePlan:
    """In a cluster with a node of the pool a100."""
    cluster = await a_cluster(live or a_cortex_index_manifest(metadata__name="other"), gpu_pools=POOLS)
    amounts = {"nvidia.com/gpu": "8", "cpu": "64", "memory": "512Gi", "pods": "110"}
    meta = {"name": "node", "uid": "node", "labels": {"team": "r", "gpu": "a100"}}
    status = {"allocatable": amounts, "capacity": amounts}
    cluster.adopt({"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}, "status": status}, {})
    return await a_plan(cluster, manifest)


async def test_the_nodes_of_a_pool_that_is_not_known_are_not_guessed() -> None:
    new = a_cortex_index_manifest(spec__gpu={"count": 1, "pool": "a100"})
    plan = await placed(new)

    assert plan.placement is not None
    assert plan.placement.fits is Fits.UNKNOWN
    assert plan.placement.message == ("the release's GPU pools are not known, so neither is which nodes pool a100 has")
    assert plan.blocked == ()
    changed = await placed(a_cortex_index_manifest(spec__gpu={"count": 1, "pool": "l4"}), new)
    assert changed.placement is not None
    assert changed.placement.fits is Fits.UNKNOWN
    assert "pool l4" in changed.placement.message
    assert changed.pods.replaced == 1


async def test_a_pool_that_the_operator_refused_is_no_unknown_one() -> None:
    refused = a_cortex_index_manifest(spec__gpu={"count": 1, "pool": "nowhere"})
    cluster = await a_cluster(refused, gpu_pools=POOLS)

    plan = as_told(await a_plan(cluster, refused), await cluster.get(own(key_of(refused))))

    assert not plan.changes
    (blocked,) = plan.blocked
    assert blocked.message.endswith("no pool of this release: there are a100, l4 (chart value gpuPools)")


async def test_a_pool_that_the_pods_have_already_is_known_by_them() -> None:
    before = a_cortex_index_manifest(spec__gpu={"count": 1, "pool": "a100"})
    plan = await placed(a_cortex_index_manifest(spec__gpu={"count": 2, "pool": "a100"}), before)

    assert plan.placement is not None
    assert (plan.placement.fits, plan.placement.message) == (Fits.YES, "fits now on node (1)")
