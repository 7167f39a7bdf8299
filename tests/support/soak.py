"""Case 20: many resources of both kinds, changed, deleted, made again and meddled with at random while faults come and
go; then all of them are held to the oracle at once. The same in a test of a minute and in `make soak`."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import oracle
from cortex_kube.resources import path
from cortex_operator.cluster import Conflict, NotFound, Object, ObjectKey
from cortex_operator.cluster.series import API_VERSION as EVENTS
from cortex_operator.cluster.series import CONTROLLER
from fault_proxy import Asked
from measured_operator import BLOCKS
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
CRASHES: Final = 20
"""At the most, about: an operator that is killed again while it starts does nothing else."""


@dataclass
class Figures:
    """What a soak came to."""

    seed: str
    resources: int
    seconds: float = 0.0
    done: dict[str, int] = field(default_factory=dict)
    rss_mb: tuple[float, float] = (0.0, 0.0)
    blocks: tuple[float, float] = (0.0, 0.0)
    """In use by the interpreter: RSS is that of the busiest moment."""
    settled_seconds: float = 0.0
    """From the last fault to the last resource being as a fresh one."""
    told_seconds: float = 0.0
    """From then to the last Event being written."""
    quiet_seconds: float = 0.0
    writes_when_quiet: dict[str, int] = field(default_factory=dict)
    """By method and path, names left out."""
    events_when_quiet: dict[str, int] = field(default_factory=dict)
    """Of those the Events, by kind and reason, and whether they are of what happened then or before."""


class Soak:
    """Resources in the first namespace of a stage, whose operator may be killed."""

    def __init__(self, judge: Oracle, stage: Stage, seed: str, resources: int) -> None:
        self._judge, self._stage = judge, stage
        self._seed, self._rng = seed, random.Random(seed)
        self._subjects = [judge.subject(stage, KINDS[number % 2]) for number in range(resources)]
        self._spared_until = 0.0
        self.done: Counter[str] = Counter()

    async def run(self, seconds: float, quiet: float, patience: float) -> Figures:
        """`seconds` of it, the last third without crashes: memory is that of one process, from rest to rest. Then until
        all is as it must be, `patience` at the most, and until all Events are told."""
        await _together(self._subjects, self._change)
        await self._until_right(patience)
        await self._act_for(seconds * 2 / 3, seconds * 2 / 3 / CRASHES)
        await self._until_right(patience)
        await self._until_told(patience)
        begun_with = self._memory()
        await self._act_for(seconds / 3)
        settled = await self._until_right(patience)
        told = await self._until_told(patience)
        restless = time.monotonic() + RESTLESS
        while True:
            since, begun = await self._events_version(), datetime.now(UTC)
            writes = await self._writes(quiet)
            events = await self._events(since, begun)
            if not writes or time.monotonic() > restless:
                break
            print(f"still written: {writes} {events}")
        assert not (wrong := await self._wrong()), wrong[:20]
        rss, blocks = zip(begun_with, self._memory(), strict=True)
        return Figures(
            self._seed,
            len(self._subjects),
            seconds,
            dict(self.done),
            rss,
            blocks,
            settled,
            told,
            quiet,
            dict(writes),
            dict(events),
        )

    async def _act_for(self, seconds: float, spared: float | None = None) -> None:
        """With crashes, `spared` seconds apart at the least, on average; None: with none."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await self._act(spared)
        self._stage.heal()

    async def _writes(self, seconds: float) -> Counter[str]:
        since = len(self._stage.proxy.asked)
        await asyncio.sleep(seconds)
        return Counter(_sort(asked) for asked in self._stage.proxy.asked[since:] if asked.writes)

    async def _events_version(self) -> int:
        """Events that are written from now on are newer than that."""
        where = path(EVENTS, "Event", self._stage.namespaces[0])
        answer = await self._judge.api.request("GET", where, query={"limit": "1"})
        return int(answer["metadata"]["resourceVersion"])

    async def _events(self, since: int, begun: datetime) -> Counter[str]:
        """The operator's Events that were written since that version: of what, and whether it happened since `begun`
        or was told late."""
        found, _ = await self._judge.api.list(path(EVENTS, "Event", self._stage.namespaces[0]))
        return Counter(
            f"{event['regarding']['kind']} {event['reason']} {'new' if _seen(event) > begun else 'late'}"
            for event in found
            if int(event["metadata"]["resourceVersion"]) > since and event.get("reportingController") == CONTROLLER
        )

    async def _act(self, spared: float | None) -> None:
        may_crash = spared is not None and time.monotonic() > self._spared_until
        actions: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self._change_some, 50),
            (self._delete_some, 15),
            (self._drift_some, 25),
            (self._fault, 8),
            (self._crash, 2 if may_crash else 0),
        ]
        ((action, _),) = self._rng.choices(actions, [weight for _, weight in actions])
        self.done[action.__name__.strip("_")] += 1
        if action == self._crash and spared is not None:
            self._spared_until = time.monotonic() + self._rng.uniform(0.0, 2 * spared)
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
                found = await self._judge.cluster.get(child)
                meta = {"name": child.name, "namespace": child.namespace, "uid": found["metadata"]["uid"]}
                meta["labels"] = {"app.kubernetes.io/name": "x"}
                claimed = {"apiVersion": child.api_version, "kind": child.kind, "metadata": meta}
                await self._judge.cluster.apply(claimed, field_manager="somebody")
        except (NotFound, Conflict):
            return  # it has gone, or went just now: what names a uid makes nothing

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
        begun = looked = time.monotonic()
        while wrong := await self._wrong():
            took = time.monotonic() - looked
            if not self._stage.operator.lives:
                self._stage.start()  # as a kubelet does
            assert time.monotonic() - begun < patience, f"{len(wrong)} are not as fresh ones: " + "\n".join(wrong[:20])
            # A look at thousands keeps a core as busy as the operator does.
            await asyncio.sleep(max(0.5, 2 * took))
            looked = time.monotonic()
        return time.monotonic() - begun

    async def _until_told(self, patience: float) -> float:
        begun = time.monotonic()
        if not self._stage.operator.lives:
            await self._stage.started()
        while waiting := self._stage.operator.measure("cortex_operator_events_waiting"):
            assert time.monotonic() - begun < patience, f"{waiting:.0f} Events are not told"
            await asyncio.sleep(0.5)
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
        fresh = await self._judge.fresh_states([subject for subject in self._subjects if subject.spec])
        found: list[str] = []
        for subject in self._subjects:
            mine = objects.get(subject.key.name, [])
            if not subject.spec:
                found += [f"left of {subject.key}: {obj['kind']}" for obj in mine]
                continue
            resource = resources[subject.key]
            lost = oracle.orphans(mine, [resource])
            differences = oracle.differences(oracle.state(resource, mine), fresh[subject.key])
            found += [f"{subject.key}: {line}" for line in (*lost, *differences)]
        return found

    def _memory(self) -> tuple[float, float]:
        """RSS in MB, and what the interpreter has in use."""
        operator = self._stage.operator
        return operator.measure("process_resident_memory_bytes") / 1e6, operator.measure(BLOCKS)


def _seen(event: Object) -> datetime:
    return datetime.fromisoformat((event.get("series") or {}).get("lastObservedTime") or event["eventTime"])


def _sort(asked: Asked) -> str:
    words = asked.path.split("/namespaces/")[-1].split("/")
    return f"{asked.method} {'/'.join(words[1:2] + words[3:])}"


async def _together(subjects: list[Subject], work: Callable[[Subject], Awaitable[None]]) -> None:
    gate = asyncio.Semaphore(8)

    async def one(subject: Subject) -> None:
        async with gate:
            await work(subject)

    await asyncio.gather(*map(one, subjects))
