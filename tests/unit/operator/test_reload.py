"""Pods begin anew when a labelled Secret or ConfigMap changes, and for no other change."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from builders import a_cortex_index, a_cortex_index_manifest
from cortex_kinds.base import API_VERSION
from cortex_operator.cluster import Event, EventType, MemoryCluster, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.dataplane_grpc import GrpcDataPlane
from cortex_operator.manifests import ReleaseSettings, index_objects
from cortex_operator.reconcile import Reconciler, World
from cortex_operator.reconcile.named import Named
from cortex_operator.reconcile.references import Found, find_references
from cortex_operator.reconcile.reload import RELOAD_DIGEST, reload_sources, reloaded
from objects import a_config_map, a_secret

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
PAPERS = ResourceKey("CortexIndex", "default", "papers")
PASSWORD = "postgresql://cortex:1234@lake/cortex"
SPEC = {
    "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "proxy", "key": "url", "optional": True}}}],
    "envFrom": [{"secretRef": {"name": "team"}}],
    "imagePullSecrets": [{"name": "registry"}],
}


def labelled(obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "labels": {"cortex.datapunk.io/reload": "true"}}}


OBJECTS = {
    "lake": labelled(a_secret("cortex-lake", dsn=PASSWORD)),
    "state": a_secret("cortex-state", url="redis://state"),
    "proxy": labelled(a_config_map("proxy", url="http://proxy", other="x")),
    "team": labelled(a_secret("team", A="1")),
    "registry": labelled(a_secret("registry", config="x")),
}


async def found(secret: bytes = b"k" * 32, *, suspend: bool = False, **changes: Object) -> Found:
    cluster = MemoryCluster()
    for obj in {**OBJECTS, **changes}.values():
        await cluster.apply(obj)
    world = World(cluster, GrpcDataPlane(cluster), RELEASE, named=Named(secret=secret))
    return await find_references(world, PAPERS, a_cortex_index(spec={**SPEC, "suspend": suspend}).spec)


async def test_what_pods_read_has_a_digest_where_it_is_labelled() -> None:
    reads = (await found()).reads
    assert {name for name, digest in reads.items() if digest} == {
        "secret/cortex-lake", "configmap/proxy", "secret/team"
    }  # fmt: skip
    assert reads["secret/cortex-state"] is None
    assert "secret/registry" not in reads


async def test_the_digest_changes_with_what_is_read_and_with_nothing_else() -> None:
    before = (await found()).reads
    changes = {
        "secret/cortex-lake": labelled(a_secret("cortex-lake", dsn="postgresql://other")),
        "configmap/proxy": labelled(a_config_map("proxy", url="http://other", other="x")),
        "secret/team": labelled(a_secret("team", A="1", B="2")),
    }
    for name, obj in changes.items():
        after = (await found(changed=obj)).reads
        assert {each for each in before if before[each] != after[each]} == {name}
    unread = labelled(a_config_map("proxy", url="http://proxy", other="y"))
    assert (await found(changed=unread)).reads == before


async def test_a_digest_cannot_be_made_without_the_key() -> None:
    plain = {PASSWORD, base64.b64encode(PASSWORD.encode()).decode()}
    guesses = {hashlib.sha256(text.encode()).hexdigest()[:16] for text in plain}
    mine, theirs = (await found()).reads, (await found(b"other" * 8)).reads
    assert mine["secret/cortex-lake"] not in guesses
    assert all(mine[name] != theirs[name] for name, digest in mine.items() if digest)


async def test_without_the_key_nothing_has_a_digest_and_nothing_optional_is_read() -> None:
    assert not any((await found(b"")).reads.values())


def annotation(objects: tuple[Object, ...]) -> str:
    template = next(obj for obj in objects if obj["kind"] == "Deployment")["spec"]["template"]
    return str(template["metadata"]["annotations"].get(RELOAD_DIGEST, ""))


def live(text: str) -> Object:
    return {"spec": {"template": {"metadata": {"annotations": {RELOAD_DIGEST: text}}}}}


def test_the_annotation_holds_what_was_seen_last_of_what_is_still_read() -> None:
    objects = index_objects(a_cortex_index(), RELEASE)

    def now(before: Object | None, **reads: str | None) -> str:
        return annotation(reloaded(before, reads, objects))

    assert now(None, a=None) == ""
    assert now(None, b="2", a="1", c=None) == "a=1,b=2"
    assert now(live("a=1"), a="2") == "a=2"
    assert now(live("a=1"), a=None) == "a=1"
    assert now(live("a=1,b=2"), b=None) == "b=2"
    assert reloaded(None, {"a": None}, objects) == objects


async def test_a_suspended_resource_keeps_its_annotation_and_nothing_is_read() -> None:
    reads = (await found(suspend=True)).reads
    assert set(reads) == {"secret/cortex-lake", "secret/cortex-state", "configmap/proxy", "secret/team"}
    assert not any(reads.values())


async def test_a_change_wakes_those_who_asked_lately_and_what_was_known_is_forgotten() -> None:
    now, asked = [0.0], 0
    named = Named(60.0, clock=lambda: now[0], secret=b"k" * 32)
    lake = ObjectKey("v1", "Secret", "default", "cortex-lake")

    async def read(_: ObjectKey) -> Object:
        nonlocal asked
        asked += 1
        return OBJECTS["lake"]

    def told() -> set[str]:
        (source,) = (each for each in reload_sources(named) if each.kind == "Secret")
        assert dict(source.labels) == {"cortex.datapunk.io/reload": "true"}
        return {key.name for key in source.keys(Event(EventType.MODIFIED, OBJECTS["lake"]))}

    def user(name: str) -> ResourceKey:
        return ResourceKey("CortexIndex", "default", name)

    for name in "ab":
        await named.look(lake, user(name), read)
    assert asked == 1
    assert told() == {"a", "b"}
    assert told() == set()
    await named.look(lake, user("a"), read)
    assert asked == 2
    for seconds in (60.0, 120.0):
        now[0] = seconds
        await named.look(lake, user("b"), read)
    assert told() == {"b"}


async def test_what_was_read_before_a_change_is_not_remembered() -> None:
    named = Named(secret=b"k" * 32)
    lake = ObjectKey("v1", "Secret", "default", "cortex-lake")
    asked: list[Any] = []

    async def read(key: ObjectKey) -> Object:
        asked.append(key)
        if len(asked) == 1:
            assert named.tell(key) == {PAPERS}
        return OBJECTS["lake"]

    for _ in range(3):
        await named.look(lake, PAPERS, read)
    assert len(asked) == 2


async def test_of_a_resource_that_is_gone_nothing_is_kept() -> None:
    cluster, named = MemoryCluster(), Named(secret=b"k" * 32)
    for obj in OBJECTS.values():
        await cluster.apply(obj)
    reconcile = Reconciler(World(cluster, GrpcDataPlane(cluster), RELEASE, named=named))
    keys = [ResourceKey("CortexIndex", "default", name) for name in ("papers", "notes")]
    for key in keys:
        await cluster.apply(a_cortex_index_manifest(metadata__name=key.name, spec__env=SPEC["env"]))
        await reconcile(key)
    assert all(recent | earlier == set(keys) for recent, earlier in named._users.values())
    for key in keys:
        await cluster.delete(ObjectKey(API_VERSION, "CortexIndex", "default", key.name))
        await reconcile(key)
        if key == keys[0]:
            assert {frozenset().union(*users) for users in named._users.values()} == {frozenset(keys[1:])}
    assert named._users == {}
