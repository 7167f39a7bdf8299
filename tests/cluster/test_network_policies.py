"""NetworkPolicies on a real API server: it takes what the builders make, one is there before the Secrets are, follows
them, is repaired, and goes when the release wants none; no pod is replaced for any of that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster import NotFound, Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.isolation import Isolation
from cortex_operator.reconcile import Reconciler, World
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from doubles import CountingCluster
from objects import Place
from passes import NoPods

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
EVERY_FIELD: list[dict[str, Any]] = [
    {
        "to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.9/32"]}}],
        "ports": [{"port": 80, "endPort": 90}],
    },
    {"to": [{"podSelector": {"matchLabels": {}, "matchExpressions": []}}], "ports": [{"port": "https"}]},
    {"to": [{"podSelector": {}, "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}]},
    {"to": [{"ipBlock": {"cidr": "2001:db8::/32"}}], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "SCTP"}]},
    {"to": [], "ports": []},
]


@pytest.fixture
async def cluster(api_server: Path) -> AsyncIterator[CountingCluster]:
    async with await Api.connect(kubeconfig=api_server) as api:
        yield CountingCluster(KubernetesCluster(api))


class Passed:
    """Passes over the index `papers`, each with a memory of its own."""

    def __init__(self, cluster: CountingCluster, place: Place) -> None:
        self.cluster, self.place = cluster, place
        self.key = ObjectKey("networking.k8s.io/v1", "NetworkPolicy", place.namespace, "papers-search")

    async def policy(self, release: ReleaseSettings = RELEASE) -> Object:
        await Reconciler(World(self.cluster, NoPods(), release))(
            ResourceKey("CortexIndex", self.place.namespace, "papers")
        )
        return await self.cluster.get(self.key)

    async def deployment(self) -> Object:
        return await self.cluster.get(ObjectKey("apps/v1", "Deployment", self.place.namespace, "papers-search"))


def ports(policy: Object) -> list[Any]:
    """Of the rules of egress behind that of DNS."""
    return [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"][1:]]


async def test_a_policy_is_there_before_the_secrets_follows_them_and_goes_when_none_is_wanted(
    cluster: CountingCluster, namespace: str, kubectl: Kubectl
) -> None:
    place = Place(namespace)
    passed = Passed(cluster, place)
    await cluster.apply(place.index(), field_manager="author")
    assert ports(await passed.policy()) == []
    with pytest.raises(NotFound):
        await passed.deployment()

    await cluster.apply(place.secret("cortex-lake", dsn="postgresql://u:hunter2@db:5432,192.0.2.7:5433/papers"))
    await cluster.apply(place.secret("cortex-state", url="redis://:hunter2@cache.example.com:6380/0"))
    found = await passed.policy()
    # The Service is not there yet, so there is nothing to connect to.
    assert found["spec"]["egress"][1:] == [
        {"to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"port": 5433, "protocol": "TCP"}]},
        {"ports": [{"port": 6380, "protocol": "TCP"}]},
    ]
    assert "hunter2" not in str(found)
    before = await passed.deployment()

    kubectl.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "db", "namespace": namespace},
                "spec": {"selector": {"app": "postgres"}, "ports": [{"port": 5432, "targetPort": "pg"}]},
            }
        ]
    )
    assert {
        "to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}],
        "ports": [{"port": "pg", "protocol": "TCP"}, {"port": 5432, "protocol": "TCP"}],
    } in (await passed.policy())["spec"]["egress"]

    kubectl("-n", namespace, "patch", "networkpolicy/papers-search", "--type=json",
            '-p=[{"op":"add","path":"/spec/ingress/-","value":{}}]')  # fmt: skip
    assert {} in (await cluster.get(passed.key))["spec"]["ingress"]
    repaired = await passed.policy()
    assert {} not in repaired["spec"]["ingress"]
    cluster.writes.clear()
    await passed.policy()
    assert [write for write in cluster.writes if not write.startswith("status ")] == []

    off = replace(RELEASE, isolation=Isolation(enabled=False))
    with pytest.raises(NotFound):
        await passed.policy(off)
    after = await passed.deployment()
    assert after["spec"]["template"] == before["spec"]["template"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


async def test_every_form_of_a_rule_is_taken_and_written_once(cluster: CountingCluster, namespace: str) -> None:
    place = Place(namespace)
    passed = Passed(cluster, place)
    for secret in (place.secret("cortex-lake", dsn="postgresql://h/d"), place.secret("cortex-state", url="redis://h")):
        await cluster.apply(secret)
    await cluster.apply(place.index(spec__network={"extraEgress": EVERY_FIELD}), field_manager="author")
    rules = (await passed.policy())["spec"]["egress"][1:]
    assert rules[1] == {"to": [{"podSelector": {}}], "ports": [{"port": "https", "protocol": "TCP"}]}
    assert rules[-1] == {}
    cluster.writes.clear()
    await passed.policy()
    assert [write for write in cluster.writes if not write.startswith("status ")] == []


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"ports": [{"port": "http", "endPort": 90}]}, "endPort needs a port that is a number"),
        ({"ports": [{"port": 90, "endPort": 80}]}, "endPort needs a port that is a number and not above it"),
        ({"ports": [{"port": 65536}]}, "65535"),
        ({"ports": [{"port": "65536"}]}, "a port is between 1 and 65535"),
        ({"ports": [{"port": "a--b"}]}, "should match"),
        ({"to": [{}]}, "give either ipBlock"),
        ({"to": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}, "give either ipBlock"),
        ({"to": [{"ipBlock": {"cidr": "10.0.0/8"}}]}, "cidr"),
        ({"to": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}, "cidr"),
    ],
)
def test_a_rule_that_no_policy_could_have_is_refused(
    kubectl: Kubectl, namespace: str, rule: dict[str, Any], said: str
) -> None:
    with pytest.raises(BedError, match=said):
        kubectl.apply([Place(namespace).index(spec__network={"extraEgress": [rule]})])
