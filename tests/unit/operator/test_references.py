"""Which Secrets and ConfigMaps must be there, and what is said of those that are not."""

from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index, a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_operator.cluster import MemoryCluster, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.reconcile import Reconciler, World
from cortex_operator.reconcile.named import Named
from cortex_operator.reconcile.references import find_references, references
from objects import a_config_map, a_secret
from podfields import FIELDS, NAMES, every_field, named_objects

LAKE = a_secret("cortex-lake", dsn="postgresql://lake.invalid/cortex")
PAPERS = ResourceKey("CortexIndex", "default", "papers")
STATE = a_secret("cortex-state", url="redis://state.invalid")


class Asked(MemoryCluster):
    """A cluster that notes what is read past the caches."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> dict[str, Any]:
        if unwatched:
            self.reads.append(key.name)
        return await super().get(key, unwatched=unwatched)


def a_world(cluster: MemoryCluster, named: Named | None = None) -> World:
    release = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
    return World(cluster, GrpcDataPlane(cluster), release, named=named or Named())


async def missing(spec: dict[str, Any], *objects: dict[str, Any]) -> list[str]:
    cluster = MemoryCluster()
    for obj in (LAKE, STATE, *objects):
        await cluster.apply(obj)
    found = await find_references(a_world(cluster), PAPERS, a_cortex_index(spec=spec).spec)
    return [one.message for one in found.missing]


CASES = {
    "caBundle.configMapRef": ("ConfigMap extra-settings is not there", "create configmap extra-settings --from-lit"),
    "caBundle.secretRef": ("Secret extra-secret is not there", "create secret generic extra-secret"),
    "env.secretKeyRef": ("Secret extra-secret is not there", "--from-literal=token='VALUE'"),
    "envFrom.secretRef": ("Secret extra-secret is not there", "create secret generic extra-secret;"),
    "envFrom.configMapRef": ("ConfigMap extra-settings is not there", "create configmap extra-settings;"),
    "imagePullSecrets": ("Secret extra-secret is not there", "create secret docker-registry"),
}


@pytest.mark.parametrize("field", FIELDS)
async def test_each_field_that_names_an_object_needs_it_and_no_other_field_does(field: str) -> None:
    found = await missing(FIELDS[field])
    assert len(found) == (field in CASES)
    for message in found:
        assert all(words in message for words in CASES[field])
        assert message.endswith("in the folder of -f")


async def test_nothing_is_missing_when_all_is_there() -> None:
    assert await missing(every_field(), *named_objects("default")) == []


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        (a_secret("cortex-lake", dsn="postgresql://u:hush/hush@lake/d"), "dsn"),
        (a_secret("cortex-lake", dsn="mysql://u:hush@lake/d"), "dsn"),
        (a_secret("cortex-state", url="http://:hush@state"), "url"),
    ],
)
async def test_an_address_that_no_pod_could_read_is_named_without_its_words(secret: dict[str, Any], key: str) -> None:
    (message,) = await missing({}, secret)
    assert message.startswith(f"the value of key '{key}' in Secret {secret['metadata']['name']} cannot be read")
    assert f"kubectl -n default patch secret {secret['metadata']['name']} -p " in message
    assert "hush" not in message


@pytest.mark.parametrize(
    ("lake", "reason"), [({"dsn": "lake.invalid:5432"}, "SecretInvalid"), ({"other": "a"}, "SecretKeyMissing")]
)
async def test_pods_are_not_made_for_an_address_that_they_could_not_read_and_come_when_it_is_right(
    lake: dict[str, str], reason: str
) -> None:
    cluster = MemoryCluster()
    for obj in (a_secret("cortex-lake", **lake), STATE, a_cortex_index_manifest()):
        await cluster.apply(obj)
    reconcile, index = Reconciler(a_world(cluster)), ObjectKey(API_VERSION, "CortexIndex", "default", "papers")
    assert await reconcile(PAPERS) == 15
    conditions = {c["type"]: c for c in (await cluster.get(index))["status"]["conditions"]}
    for type in ("Ready", "DependenciesReady"):
        assert (conditions[type]["status"], conditions[type]["reason"]) == ("False", reason)
    assert await cluster.list("apps/v1", "Deployment", namespace="default") == []
    await cluster.apply(LAKE)
    await reconcile(PAPERS)
    assert len(await cluster.list("apps/v1", "Deployment", namespace="default")) == 1


@pytest.mark.parametrize("field", ["env.secretKeyRef", "caBundle.secretRef", "caBundle.configMapRef"])
async def test_a_missing_key_is_named_with_the_command_that_adds_it(field: str) -> None:
    objects = (a_secret(NAMES["Secret"], other="a"), a_config_map(NAMES["ConfigMap"], other="a"))
    (message,) = await missing(FIELDS[field], *objects)
    kind = "ConfigMap" if "configMap" in field else "Secret"
    assert message.startswith(f"{kind} {NAMES[kind]} has no key ")
    assert f'patch {kind.lower()} {NAMES[kind]} -p \'{{"{"data" if kind == "ConfigMap" else "stringData"}"' in message


async def test_an_empty_value_will_do_for_a_variable_but_not_for_certificates() -> None:
    empty = a_secret(NAMES["Secret"], token="", **{"roots.pem": ""})
    assert await missing(FIELDS["env.secretKeyRef"], empty) == []
    assert len(await missing(FIELDS["caBundle.secretRef"], empty)) == 1


async def test_an_object_that_is_named_twice_is_missed_once() -> None:
    spec = {**FIELDS["imagePullSecrets"], "envFrom": [{"secretRef": {"name": NAMES["Secret"]}}] * 2}
    assert len(list(references(a_cortex_index(spec=spec).spec))) > len(await missing(spec))


async def test_what_is_there_is_asked_for_once_a_minute_whoever_names_it_and_what_is_not_each_time() -> None:
    cluster, now = Asked(), [0.0]
    world = a_world(cluster, Named(60.0, clock=lambda: now[0]))
    index = a_cortex_index().spec
    await cluster.apply(LAKE)
    for _ in range(3):
        assert [one.name for one in (await find_references(world, PAPERS, index)).missing] == ["cortex-state"]
    assert cluster.reads == ["cortex-lake", *["cortex-state"] * 3]

    await cluster.apply(STATE)
    cluster.reads.clear()
    for spec in (index, a_cortex_index(metadata__name="other").spec, index):
        assert (await find_references(world, PAPERS, spec)).missing == ()
    assert cluster.reads == ["cortex-state"]
    await find_references(world, ResourceKey("CortexIndex", "elsewhere", "papers"), index)
    assert cluster.reads == ["cortex-state", "cortex-lake", "cortex-state"]

    cluster.reads.clear()
    now[0] = 60.0
    await find_references(world, PAPERS, index)
    assert cluster.reads == ["cortex-lake", "cortex-state"]


async def test_an_object_without_the_key_is_asked_for_each_time_until_it_has_it() -> None:
    cluster = Asked()
    world, index = a_world(cluster), a_cortex_index().spec
    for obj in (a_secret("cortex-lake", url="other"), STATE):
        await cluster.apply(obj)
    for _ in range(2):
        assert [one.found for one in (await find_references(world, PAPERS, index)).missing] == [True]
    assert cluster.reads == ["cortex-lake", "cortex-state", "cortex-lake"]
    await cluster.apply(LAKE)
    assert (await find_references(world, PAPERS, index)).missing == ()


async def test_what_is_remembered_is_bounded_and_holds_no_value() -> None:
    cluster = Asked()
    for number in range(4):
        await cluster.apply(a_secret(f"s{number}", password="hunter2"))
    named = Named(most=2)
    for number in (0, 1, 2, 0):
        found = await named.look(
            ObjectKey("v1", "Secret", "default", f"s{number}"), PAPERS, lambda key: cluster.get(key)
        )
        assert found is not None
        assert found.filled == {"password"}
    assert len(named._known) == 2
    assert "hunter2" not in repr(named._known)
