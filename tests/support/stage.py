"""An operator behind a fault proxy, resources that faults happen to, and the oracle that they are held to.

Shields the cases from processes, names and waiting. What is fresh is made by a healthy operator in a namespace of its
own, once per spec.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

import oracle
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_operator.cluster import NotFound, Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from fault_proxy import Asked, FaultProxy, ProxyThread
from memory_bed import CANARY, SECRETS
from operators import OperatorProcess
from walk import NAMED, POOL

KINDS: Final = ("CortexIndex", "CortexWorkflow")
QUIET: Final = 3.0
"""Seconds without a write; the operator looks at everything several times in them."""
LONG: Final = bool(os.environ.get("CORTEX_SOAK"))
"""Whether this is `make soak`: every field, thousands of resources, production's timers."""
RESTLESS: Final = 30.0
"""How long passes that had begun may still write, on a busy machine."""
SETTLED: Final = 90.0
"""Most of it is for a busy machine."""
_CLAIM: Final = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
_BUILD: Final = {"CortexIndex": a_cortex_index_manifest, "CortexWorkflow": a_cortex_workflow_manifest}
_POOLS: Final = json.dumps([{"name": POOL, "nodeSelector": {"pool": POOL}}])


def seed() -> str:
    """Of one test's choices; it is printed, and CORTEX_SEED sets it."""
    found = os.environ.get("CORTEX_SEED") or secrets.token_hex(4)
    print(f"CORTEX_SEED={found}")
    return found


def seeded() -> random.Random:
    """Random choices of one test, the same again with its seed."""
    return random.Random(seed())


async def eventually(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Returns when it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"it did not come to that in {seconds} s"
        await asyncio.sleep(0.02)


class Stage:
    """Namespaces, a fault proxy before the API server, and operators behind it, which end with it; `home` is the
    operators' own namespace."""

    def __init__(self, kubeconfig: Path, directory: Path, home: str, *namespaces: str) -> None:
        self.namespaces = namespaces
        self._home = home
        self._name = f"operator-{secrets.token_hex(4)}"
        self.module = "scaled_operator"
        """What is run as the operator."""
        self._directory = directory
        self._thread = ProxyThread(directory, kubeconfig)
        self._operators: list[OperatorProcess] = []

    @property
    def proxy(self) -> FaultProxy:
        return self._thread.proxy

    @property
    def operator(self) -> OperatorProcess:
        """The one that was started last."""
        return self._operators[-1]

    @property
    def lives(self) -> bool:
        """Whether an operator runs."""
        return bool(self._operators) and self.operator.lives

    def start(self, **environment: str) -> OperatorProcess:
        """One more, with a Lease of its own: the one before is dead, or may lead beside it."""
        number = len(self._operators)
        given = {
            "CORTEX_LEASE": f"{self._name}-{number}",
            "CORTEX_POD": f"operator-{number}",
            "CORTEX_GPU_POOLS": _POOLS,
        }
        given["CORTEX_NAMESPACE"] = self._home
        given["CORTEX_LEASE_SECONDS"] = "30"  # a busy machine is no outage
        log = self._directory / f"operator-{number}.log"
        kubeconfig = self.proxy.kubeconfig
        operator = OperatorProcess(kubeconfig, log, *self.namespaces, module=self.module, **{**given, **environment})
        self._operators.append(operator)
        return operator

    async def started(self, **environment: str) -> OperatorProcess:
        """One more, that sees everything."""
        operator = self.start(**environment)
        await asyncio.to_thread(operator.until_ready, SETTLED)
        return operator

    def heal(self) -> None:
        """No faults any more."""
        fresh = FaultProxy(self._directory)
        for name in ("fault", "too_old", "silence", "lost", "retry_after", "old_lists"):
            setattr(self.proxy, name, getattr(fresh, name))

    def break_streams(self) -> None:
        """Ends all watches."""
        self._thread.break_streams()

    def close(self) -> None:
        """Ends the operators. What they logged must not have a secret in it."""
        for operator in self._operators:
            operator.kill()
        self._thread.close()
        assert all(CANARY not in operator.log for operator in self._operators), "a log has a secret in it"


@dataclass
class _Look:
    """At all objects of a namespace, one at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: int = 0
    ended: int = 0
    found: list[Object] = field(default_factory=list)


class Oracle:
    """Resources of one API server, and whether they are as they must be. `healthy`: a stage without faults, of which
    the last namespace is for what is fresh; `made` remembers what is there."""

    def __init__(self, api: Api, kinds: Sequence[oracle.Collection], healthy: Stage, made: dict[str, str]) -> None:
        self.api = api
        self.cluster = KubernetesCluster(api)
        self._kinds, self._place, self._made = kinds, healthy.namespaces[-1], made
        self._looks: dict[str, _Look] = {}

    def subject(self, stage: Stage, kind: str) -> Subject:
        """A resource that does not exist yet, in the first namespace of a stage."""
        return Subject(self, stage, kind, f"sub{secrets.token_hex(4)}")

    async def fresh(self, kind: str, spec: dict[str, Any]) -> ObjectKey:
        """A resource with that spec to which nothing ever happened."""
        wanted = json.dumps([kind, spec], sort_keys=True)
        if wanted not in self._made:
            name = f"ref{secrets.token_hex(4)}"
            await self.cluster.apply(_manifest(kind, self._place, name, spec), field_manager="author")
            self._made[wanted] = name
        return ObjectKey(API_VERSION, kind, self._place, self._made[wanted])

    async def state(self, key: ObjectKey) -> oracle.State:
        """For comparison."""
        objects = await self.managed(key)
        return oracle.state(await self.cluster.get(key), objects)

    async def managed(self, key: ObjectKey) -> list[Object]:
        """The operator's objects that are named after a resource."""
        return [obj for obj in await self.everything(key.namespace) if obj["metadata"]["name"].startswith(key.name)]

    async def everything(self, namespace: str) -> list[Object]:
        """All objects of a namespace that the operator made; those who ask while somebody looks share the next look."""
        look = self._looks.setdefault(namespace, _Look())
        asked = look.begun
        async with look.lock:
            if look.ended <= asked:
                look.begun += 1
                look.found = await self._look(namespace)
                look.ended = look.begun
            return look.found

    async def _look(self, namespace: str) -> list[Object]:
        return list(chain.from_iterable(await asyncio.gather(*(kind.of(self.api, namespace) for kind in self._kinds))))

    async def fresh_states(self, subjects: Sequence[Subject]) -> dict[ObjectKey, oracle.State]:
        """For each of many the state of a fresh one of its spec as it is now, by one look at all of these."""
        keys = {subject.key: await self.fresh(subject.key.kind, subject.spec) for subject in subjects}
        objects = await self.everything(self._place)
        states = {
            key: oracle.state(
                await self.cluster.get(key), [obj for obj in objects if obj["metadata"]["name"].startswith(key.name)]
            )
            for key in set(keys.values())
        }
        return {key: states[fresh] for key, fresh in keys.items()}

    async def wrong(self, key: ObjectKey, kind: str, spec: dict[str, Any]) -> list[str]:
        """How the resource is not as a fresh one of that spec."""
        fresh = await self.fresh(kind, spec)
        resource, objects = await self.cluster.get(key), await self.managed(key)
        lost = [f"nobody owns {orphan}" for orphan in oracle.orphans(objects, [resource])]
        if not resource.get("status", {}).get("conditions"):
            return ["the operator has not seen it"]
        told = "a secret is told" if CANARY in json.dumps([resource["status"], *objects]) else ""
        found = oracle.differences(oracle.state(resource, objects), await self.state(fresh))
        return [*lost, *found, *filter(None, [told])]


class Subject:
    """One resource of a case: what is done to it, and that it is as it must be in the end."""

    def __init__(self, oracle: Oracle, stage: Stage, kind: str, name: str) -> None:
        self.key = ObjectKey(API_VERSION, kind, stage.namespaces[0], name)
        self.spec: dict[str, Any] = {}
        self._oracle, self._stage = oracle, stage

    @property
    def base(self) -> dict[str, Any]:
        """A spec without pods."""
        return {**_BUILD[self.key.kind]()["spec"], "replicas": 0}

    def child(self, kind: str = "Deployment", api_version: str = "apps/v1") -> ObjectKey:
        """Its Deployment, or another of its objects of that name."""
        suffix = "search" if self.key.kind == "CortexIndex" else "graph"
        return ObjectKey(api_version, kind, self.key.namespace, f"{self.key.name}-{suffix}")

    async def apply(self, **spec: Any) -> None:
        """Somebody applies its base spec with these fields; None takes one away."""
        self.spec = {name: value for name, value in {**self.base, **spec}.items() if value is not None}
        manifest = _manifest(self.key.kind, self.key.namespace, self.key.name, self.spec)
        await self._oracle.cluster.apply(manifest, field_manager="author")

    async def delete(self) -> None:
        await self._oracle.cluster.delete(self.key)

    def writes(self, since: int = 0) -> list[Asked]:
        """The operator's writes to it and to its objects, of all requests but the first `since`."""
        return [asked for asked in self._stage.proxy.asked[since:] if self.concerns(asked) and asked.writes]

    def concerns(self, asked: Asked) -> bool:
        return f"/{self.key.name}" in asked.path

    async def condition(self, type: str) -> str:
        """Its status and reason."""
        conditions = (await self._oracle.cluster.get(self.key)).get("status", {}).get("conditions", ())
        return next((f"{c['status']} {c['reason']}" for c in conditions if c["type"] == type), "")

    async def settles(self, seconds: float = SETTLED) -> None:
        """Returns when it is as a fresh one of its spec."""
        end = time.monotonic() + seconds
        while wrong := await self._oracle.wrong(self.key, self.key.kind, self.spec):
            assert time.monotonic() < end, "\n".join([f"{self.key} is not as a fresh one of {self.spec}:", *wrong[:20]])
            await asyncio.sleep(0.2)

    async def ends(self, seconds: float = SETTLED) -> None:
        """Returns when nothing is left of it."""
        end = time.monotonic() + seconds
        while left := [str(ObjectKey.of(obj)) for obj in await self._left()]:
            assert time.monotonic() < end, f"left of {self.key}: {left}"
            await asyncio.sleep(0.2)

    async def _left(self) -> list[Object]:
        try:
            return [await self._oracle.cluster.get(self.key)]
        except NotFound:
            return await self._oracle.managed(self.key)


async def _writes(subjects: Sequence[Subject], seconds: float) -> list[Asked]:
    """The writes to them in the next so many seconds, and until they are as they must be: a fresh one of another stage,
    and what the garbage collector takes, may be behind."""
    before = [len(subject._stage.proxy.asked) for subject in subjects]
    await asyncio.sleep(seconds)
    await _right(subjects)
    return [asked for subject, since in zip(subjects, before, strict=True) for asked in subject.writes(since)]


async def _right(subjects: Sequence[Subject]) -> None:
    await asyncio.gather(*(subject.settles() if subject.spec else subject.ends() for subject in subjects))


async def rest(*subjects: Subject) -> None:
    """The oracle: all are as fresh ones (what was deleted is gone), and soon nobody writes to them any more."""
    await _right(subjects)
    end = time.monotonic() + RESTLESS
    while busy := await _writes(subjects, QUIET):
        assert time.monotonic() < end, f"writes though nothing is to be done: {busy[:5]}"


def named_objects(namespace: str) -> list[Object]:
    """What the specs name, with canaries in the Secrets."""
    meta = {"namespace": namespace}
    settings = dict.fromkeys(("token", "roots.pem", "ca.crt"), "text")
    return [
        *({"apiVersion": "v1", "kind": "Secret", "metadata": {**meta, "name": name}, "stringData": data}
          for name, data in SECRETS.items()),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**meta, "name": NAMED}, "data": settings},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**meta, "name": NAMED}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {**meta, "name": NAMED}, "spec": _CLAIM},
    ]  # fmt: skip


def _manifest(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> Object:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
