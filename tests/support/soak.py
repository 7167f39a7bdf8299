"""Case 20: many resources of both kinds, changed, deleted, made again and meddled with at random while faults come and
go; then all of them are held to the oracle at once. The same in a test of a minute and in `make soak`."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import oracle
from cortex_operator.cluster import NotFound, Object, ObjectKey
from fault_proxy import Asked
from stage import KINDS, RESTLESS, Oracle, Stage, Subject

SPECS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"suspend": True},
    {"template": {"labels": {"team": "a"}, "annotations": {"team.example/note": "one"}}},
    {"env": [{"name": "PLAIN", "value": "one"}, {"name": "OTHER", "value": "two"}]},
    {"resources": {"requests": {"cpu": "20m"}, "limits": {"memory": "128Mi"}}},
    {"update": {"maxSurge": "25%", "maxUnavailable": 1}, "revisions": {"retain": 4}},
    {"caBundle": {"configMapRef": {"name": "walk", "key": "roots.pem"}}},
    {"image": "registry.invalid/other:2", "imagePullSecrets": [{"name": "walk"}]},
)
GROWTH: Final = 1.15
"""Of the operator's memory, in the last third, at the most."""


@dataclass
class Figures:
    """What a soak came to."""

    seed: str
    resources: int
    seconds: float = 0.0
    done: dict[str, int] = field(default_factory=dict)
    rss_mb: tuple[float, float] = (0.0, 0.0)
    settled_seconds: float = 0.0
    """From the last fault to the last resource being as a fresh one."""
    told_seconds: float = 0.0
    """From then to the last Event being written."""
    quiet_seconds: float = 0.0
    writes_when_quiet: dict[str, int] = field(default_factory=dict)
    """By method and path, names left out."""


class Soak:
    """Resources in the first namespace of a stage, whose operator may be killed."""

    def __init__(self, judge: Oracle, stage: Stage, seed: str, resources: int) -> None:
        self._judge, self._stage = judge, stage
        self._seed, self._rng = seed, random.Random(seed)
        self._subjects = [judge.subject(stage, KINDS[number % 2]) for number in range(resources)]
        self.done: Counter[str] = Counter()

    async def run(self, seconds: float, quiet: float, patience: float) -> Figures:
        """`seconds` of it, the last third without crashes: memory is that of one process, from rest to rest. Then until
        all is as it must be, `patience` at the most, and until all Events are told."""
        await _together(self._subjects, self._change)
        await self._until_right(patience)
        await self._act_for(seconds * 2 / 3, may_crash=True)
        await self._until_right(patience)
        before = self._rss()
        await self._act_for(seconds / 3, may_crash=False)
        settled = await self._until_right(patience)
        told = await self._until_told(patience)
        restless = time.monotonic() + RESTLESS
        while (writes := await self._writes(quiet)) and time.monotonic() < restless:
            print(f"still written: {writes}")
        assert not (wrong := await self._wrong()), wrong[:20]
        return Figures(
            self._seed,
            len(self._subjects),
            seconds,
            dict(self.done),
            (before, self._rss()),
            settled,
            told,
            quiet,
            dict(writes),
        )

    async def _act_for(self, seconds: float, *, may_crash: bool) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self._act(may_crash=may_crash)
        self._stage.heal()

    async def _writes(self, seconds: float) -> Counter[str]:
        since = len(self._stage.proxy.asked)
        await asyncio.sleep(seconds)
        return Counter(_sort(asked) for asked in self._stage.proxy.asked[since:] if asked.writes)

    async def _act(self, *, may_crash: bool) -> None:
        actions: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._change_some, 50),
            (self._delete_some, 15),
            (self._drift_some, 25),
            (self._fault, 8),
            (self._crash, 2 if may_crash else 0),
        ]
        ((action, _),) = self._rng.choices(actions, [weight for _, weight in actions])
        self.done[action.__name__.strip("_")] += 1
        await action()

    async def _change(self, subject: Subject) -> None:
        await subject.apply(**self._rng.choice(SPECS))

    async def _change_some(self) -> None:
        await _together(self._rng.sample(self._subjects, 5), self._change)

    async def _delete_some(self) -> None:
        """One goes, or one that went comes back."""
        subject = self._rng.choice(self._subjects)
        if subject.spec:
            await subject.delete()
            subject.spec = {}
        else:
            await self._change(subject)

    async def _drift_some(self) -> None:
        """Somebody deletes an object, or claims a field of it."""
        subject = self._rng.choice(self._subjects)
        child = subject.child(*self._rng.choice((("Deployment", "apps/v1"), ("ConfigMap", "v1"), ("Service", "v1"))))
        try:
            if self._rng.random() < 0.5:
                await self._judge.cluster.delete(child)
            else:
                await self._judge.cluster.get(child)
                meta = {"name": child.name, "namespace": child.namespace, "labels": {"app.kubernetes.io/name": "x"}}
                claimed = {"apiVersion": child.api_version, "kind": child.kind, "metadata": meta}
                await self._judge.cluster.apply(claimed, field_manager="somebody")
        except NotFound:
            return

    async def _fault(self) -> None:
        """For a moment."""
        kind = self._rng.choice(("writes", "everything", "streams", "busy"))
        proxy = self._stage.proxy
        if kind == "streams":
            self._stage.break_streams()
            return
        status = {"writes": 500, "everything": 503, "busy": 429}[kind]
        proxy.retry_after = "1" if kind == "busy" else ""
        chance = random.Random(self._rng.random())
        own = "/apis/coordination.k8s.io/"
        proxy.fault = lambda asked: (
            status
            if not asked.path.startswith(own) and (kind == "everything" or asked.writes) and chance.random() < 0.5
            else 0
        )
        await asyncio.sleep(self._rng.uniform(0.2, 1.0))
        self._stage.heal()

    async def _crash(self) -> None:
        self._stage.operator.kill()
        self._stage.start()
        await self._change_some()

    async def _until_right(self, patience: float) -> float:
        begun = time.monotonic()
        while wrong := await self._wrong():
            if not self._stage.operator.lives:
                self._stage.start()  # as a kubelet does
            assert time.monotonic() - begun < patience, f"{len(wrong)} are not as fresh ones: " + "\n".join(wrong[:20])
            await asyncio.sleep(0.5)
        return time.monotonic() - begun

    async def _until_told(self, patience: float) -> float:
        begun = time.monotonic()
        while waiting := self._stage.operator.measure("cortex_operator_events_waiting"):
            assert time.monotonic() - begun < patience, f"{waiting:.0f} Events are not told"
            await asyncio.sleep(0.2)
        return time.monotonic() - begun

    async def _wrong(self) -> list[str]:
        """How resources are not as they must be, of all of them, by one look at everything."""
        place = self._stage.namespaces[0]
        objects: dict[str, list[Object]] = defaultdict(list)
        for obj in await self._judge.everything(place):
            objects[obj["metadata"]["name"].split("-")[0]].append(obj)
        api_version = self._subjects[0].key.api_version
        resources = {
            ObjectKey.of(obj): obj
            for kind in KINDS
            for obj in await self._judge.cluster.list(api_version, kind, namespace=place)
        }
        found: list[str] = []
        for subject in self._subjects:
            mine = objects.get(subject.key.name, [])
            if not subject.spec:
                found += [f"left of {subject.key}: {obj['kind']}" for obj in mine]
                continue
            resource = resources[subject.key]
            lost = oracle.orphans(mine, [resource])
            fresh = await self._judge.remembered(subject.key.kind, subject.spec)
            found += [
                f"{subject.key}: {line}" for line in (*lost, *oracle.differences(oracle.state(resource, mine), fresh))
            ]
        return found

    def _rss(self) -> float:
        if not self._stage.operator.lives:
            self._stage.start()
        return self._stage.operator.measure("process_resident_memory_bytes") / 1e6


def _sort(asked: Asked) -> str:
    words = asked.path.split("/namespaces/")[-1].split("/")
    return f"{asked.method} {'/'.join(words[1:2] + words[3:])}"


async def _together(subjects: list[Subject], work: Callable[[Subject], Awaitable[None]]) -> None:
    gate = asyncio.Semaphore(8)

    async def one(subject: Subject) -> None:
        async with gate:
            await work(subject)

    await asyncio.gather(*map(one, subjects))
