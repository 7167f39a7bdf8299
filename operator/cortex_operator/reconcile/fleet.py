"""Whose turn it is to move to the operator's release: one resource at a time, each Ready before the next.

Shields the plan from all resources but its own. Nothing is stored: what the Deployments carry (manifests/origin.py) and
what the resources say of themselves decide, so that another operator goes on where this one was.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cortex_operator.cluster import Event, EventType, Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.names import graph_name, search_name
from cortex_operator.manifests.origin import MOVE, RELEASE, Move
from cortex_operator.reconcile.rollout import paused
from cortex_operator.reconcile.sources import of_owned

log = logging.getLogger(__name__)
_NAMES: Final = {"CortexIndex": search_name, "CortexWorkflow": graph_name}
_Place = tuple[str, str, str]
"""Namespace, name and kind: the order of the turns."""


class WorkloadUpdates(StrEnum):
    """How resources move to the operator's release."""

    ONE_AT_A_TIME = "OneAtATime"
    MANUAL = "Manual"
    """Each when its users say so."""


class Stage(StrEnum):
    """Where a resource is that has not arrived yet."""

    MOVING = "Moving"
    """Others wait for it."""
    BEHIND = "Behind"
    STALLED = "Stalled"
    """Behind, and nothing of it goes on: it may be that it cannot move."""


@dataclass(frozen=True)
class Standing:
    """What one resource is told. `release`: the operator's, empty where nobody waits for a turn."""

    release: str = ""
    granted: bool = True
    """Whether it may move now."""
    manual: bool = False
    halted_by: str = ""
    """The resource that did not become Ready."""
    paused: str = ""
    """Why it did not, where somebody paused its Deployment."""


Queues = Mapping[Stage, Sequence[_Place]]


def turn(queues: Queues) -> Sequence[_Place]:
    """Who may move now: the first of those that are behind when nobody moves; at the end those that are stalled, all at
    once, as nobody need wait for them."""
    if queues[Stage.MOVING]:
        return ()
    return queues[Stage.BEHIND][:1] or queues[Stage.STALLED][:]


@dataclass(frozen=True)
class _Heard:
    """The part of an object's newest state that counts."""

    uid: str
    version: int
    release: str = ""
    move: str = ""
    paused: str = ""
    counts: bool = True
    """Of a Deployment: whether it has pods; of a resource: whether it stays."""
    stalled: bool = False
    failed: bool = False
    """Stalled and not Ready."""


class Fleet:
    """All resources, as events tell of them. Belongs to one event loop."""

    def __init__(self, release: str, updates: WorkloadUpdates = WorkloadUpdates.ONE_AT_A_TIME) -> None:
        self._release, self._updates = release, updates
        self._made: dict[_Place, _Heard] = {}
        self._resources: dict[_Place, _Heard] = {}
        self._queues: dict[Stage, list[_Place]] = {stage: [] for stage in Stage}
        self._stages: dict[_Place, Stage] = {}

    @property
    def behind(self) -> int:
        """How many resources are not of the operator's release."""
        return len(self._queues[Stage.BEHIND]) + len(self._queues[Stage.STALLED])

    @property
    def halted_by(self) -> str:
        """The resource for which all others wait in vain; empty: none."""
        place = self._halted()
        return str(_key(place)) if place is not None else ""

    def standing(self, key: ResourceKey, told: str = "") -> Standing:
        """Of one resource, which its users `told` to move to that release, if they did."""
        manual = self._updates is WorkloadUpdates.MANUAL
        mine = not manual and _place(key) in turn(self._queues)
        place = None if manual else self._halted()
        halted = (str(_key(place)), self._made[place].paused) if place is not None else ("", "")
        return Standing(self._release, told == self._release or mine, manual, *halted)

    def hear(self, event: Event) -> Iterator[ResourceKey]:
        """Takes in an event of a Deployment or a resource; those whose turn it is by that."""
        before, halted = turn(self._queues), self.halted_by
        for place in self._take(event):
            self._sort(place)
        if (now := self.halted_by) not in ("", halted):
            log.warning("%s did not become Ready with release %s: no other one moves", now, self._release)
        if self._updates is WorkloadUpdates.ONE_AT_A_TIME and (after := turn(self._queues)) != before:
            yield from map(_key, after)

    def _take(self, event: Event) -> Iterator[_Place]:
        obj = event.object
        if obj["kind"] == "Deployment":
            keys = (key for key in of_owned(event) if _NAMES[key.kind](key.name) == obj["metadata"]["name"])
            for place in map(_place, keys):
                if event.type is not EventType.DELETED:
                    self._tell(place, obj)
                _note(self._made, place, event, _made(obj))
                yield place
        else:
            place = (obj["metadata"]["namespace"], obj["metadata"]["name"], obj["kind"])
            _note(self._resources, place, event, _resource(obj))
            yield place

    def _sort(self, place: _Place) -> None:
        before, after = self._stages.get(place), self._stage(place)
        if before is after:
            return
        if before is not None:
            queue = self._queues[before]
            del queue[bisect_left(queue, place)]
            del self._stages[place]
        if after is not None:
            insort(self._queues[after], place)
            self._stages[place] = after

    def _stage(self, place: _Place) -> Stage | None:
        made, resource = self._made.get(place), self._resources.get(place)
        if made is None or resource is None or not resource.counts or not made.release:
            return None
        if made.release == self._release:
            return Stage.MOVING if made.move else None
        if not made.counts:
            return None
        return Stage.STALLED if resource.stalled else Stage.BEHIND

    def _halted(self) -> _Place | None:
        return next((place for place in self._queues[Stage.MOVING] if self._is_halted(place)), None)

    def _is_halted(self, place: _Place) -> bool:
        """Of one that moves. Of a spec by which nothing can be made no Deployment is applied that could say it."""
        made = self._made[place]
        return made.move == Move.HALTED or bool(made.paused) or self._resources[place].failed

    def _tell(self, place: _Place, obj: Object) -> None:
        before, now = self._made.get(place), _made(obj)
        if now.release != self._release or (before is not None and before.move == now.move):
            return
        if now.move == Move.MOVING:
            log.info("%s moves to release %s, %d more wait", _key(place), self._release, self.behind)


def _note(known: dict[_Place, _Heard], place: _Place, event: Event, heard: _Heard) -> None:
    before = known.get(place)
    if event.type is EventType.DELETED:
        if before is not None and before.uid == heard.uid:
            del known[place]
    elif before is None or before.version <= heard.version:
        known[place] = heard


def _made(deployment: Object) -> _Heard:
    meta = deployment["metadata"]
    notes = meta.get("annotations") or {}
    pods = deployment.get("spec", {}).get("replicas", 1) > 0
    return _Heard(*_identity(meta), notes.get(RELEASE, ""), notes.get(MOVE, ""), paused(deployment), pods)


def _resource(resource: Object) -> _Heard:
    meta, status = resource["metadata"], resource.get("status") or {}
    true = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    stalled, failed = "Stalled" in true, "Stalled" in true and "Ready" not in true
    return _Heard(*_identity(meta), counts="deletionTimestamp" not in meta, stalled=stalled, failed=failed)


def _identity(meta: dict[str, Any]) -> tuple[str, int]:
    return meta["uid"], int(meta["resourceVersion"])


def _place(key: ResourceKey) -> _Place:
    return key.namespace, key.name, key.kind


def _key(place: _Place) -> ResourceKey:
    namespace, name, kind = place
    return ResourceKey(kind, namespace, name)
