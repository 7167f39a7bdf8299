"""Kubernetes objects for tests of the operator, and waiting for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.base import API_VERSION
from cortex_operator.cluster import Cluster, EventType, NotFound, Object, ObjectKey


def a_config_map(name: str = "settings", namespace: str = "default", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def a_deployment(name: str = "web", namespace: str = "default", **spec: Any) -> Object:
    """A complete Deployment; `containers` replaces the one container."""
    containers = spec.pop("containers", [{"name": "main", "image": "registry.invalid/web:1"}])
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}},
            **spec,
        },
    }


def a_secret(name: str, namespace: str = "default", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "stringData": data,
    }


@dataclass(frozen=True)
class Place:
    """A namespace of one test's own, and the objects that tests put there."""

    namespace: str

    @property
    def web(self) -> ObjectKey:
        return ObjectKey("apps/v1", "Deployment", self.namespace, "web")

    @property
    def settings(self) -> ObjectKey:
        return ObjectKey("v1", "ConfigMap", self.namespace, "settings")

    @property
    def papers(self) -> ObjectKey:
        return ObjectKey(API_VERSION, "CortexIndex", self.namespace, "papers")

    def deployment(self, name: str = "web", **spec: Any) -> Object:
        return a_deployment(name, self.namespace, **spec)

    def config_map(self, name: str = "settings", **data: str) -> Object:
        return a_config_map(name, self.namespace, **data)

    def secret(self, name: str, **data: str) -> Object:
        return a_secret(name, self.namespace, **data)

    def index(self, **overrides: Any) -> Object:
        return a_cortex_index_manifest(metadata__namespace=self.namespace, **overrides)

    def workflow(self, **overrides: Any) -> Object:
        return a_cortex_workflow_manifest(metadata__namespace=self.namespace, **overrides)


def owned_by(obj: Object, owner: Object) -> Object:
    """The object with a controller ownerReference to `owner`, as stored."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


async def until(cluster: Cluster, key: ObjectKey, holds: Callable[[Object], bool], seconds: float = 60.0) -> Object:
    """The object as soon as `holds` does. Fails with what it was last."""
    last: Object = {}
    try:
        async with asyncio.timeout(seconds), aclosing(cluster.watch(key.api_version, key.kind)) as events:
            async for event in events:
                if ObjectKey.of(event.object) == key:
                    last = event.object
                    if event.type is not EventType.DELETED and holds(last):
                        return last
    except TimeoutError:
        raise AssertionError(f"{key} did not come to that in {seconds} s; it is {last}") from None
    raise AssertionError("a watch never ends by itself")


async def until_gone(cluster: Cluster, key: ObjectKey, seconds: float = 60.0) -> None:
    """Returns when the object is not there."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await cluster.get(key)
            except NotFound:
                return
            await asyncio.sleep(0.02)
