"""What was told of each resource of late: which Event begins, which repeats one that is there, which is too many. Pure.

Shields people from floods: the same again counts up the Event that told it first, and a resource that never comes to
rest has a budget.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from cortex_kinds.events import EventReason, Notice

from cortex_operator.cluster.port import Object

API_VERSION: Final = "events.k8s.io/v1"
CONTROLLER: Final = "cortex.datapunk.io/operator"
REPEATS: Final = timedelta(minutes=30)
"""The same within so long since it was told last is a repetition."""
BURST: Final = 20
"""Events that a resource may have at once; then one per `REFILL`."""
REFILL: Final = timedelta(seconds=30)
_KEPT: Final = 4096
_NOTE_BYTES: Final = 1024
"""The API server's limit."""

_Key = tuple[str, EventReason, str]
_V = TypeVar("_V")


@dataclass(frozen=True)
class EventWrite:
    """A request to the API server: an Event to create, or with `repeats` what to merge into the one of that name."""

    namespace: str
    name: str
    body: Object
    repeats: bool = False


@dataclass
class _Series:
    name: str
    last: datetime
    count: int = 1


@dataclass
class _Budget:
    left: float
    since: datetime


def identity(obj: Object) -> Object:
    """The object without all that an Event about it does not say."""
    meta = {name: obj["metadata"][name] for name in ("namespace", "name", "uid")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta}


class EventBook:
    """Turns notices into writes; `reporter` is the pod that tells. Keeps the 4,096 that were told last."""

    def __init__(self, reporter: str) -> None:
        self._reporter = reporter
        self._series: OrderedDict[_Key, _Series] = OrderedDict()
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()

    def enter(self, regarding: Object, notice: Notice, now: datetime) -> EventWrite | None:
        """What to write; None when the resource has used up its budget. What is not written counts all the same."""
        uid, namespace = regarding["metadata"]["uid"], regarding["metadata"]["namespace"]
        key = (uid, notice.reason, notice.note)
        found = self._series.get(key)
        if found is not None and now - found.last <= REPEATS:
            found.count, found.last = found.count + 1, now
            self._series.move_to_end(key)
            body: Object = {"series": {"count": found.count, "lastObservedTime": _micro(now)}}
            return EventWrite(namespace, found.name, body, repeats=True) if self._spend(uid, now) else None
        if not self._spend(uid, now):
            return None
        # In a list by name they stand in the order in which they came.
        name = f"{regarding['metadata']['name']}.{int(now.timestamp() * 1e6):x}{secrets.token_hex(2)}"
        _keep(self._series, key, _Series(name, now))
        return EventWrite(namespace, name, self._event(regarding, notice, name, now))

    def forget(self, regarding: Object, notice: Notice) -> None:
        """The Event is not there any more: the next is a new one."""
        self._series.pop((regarding["metadata"]["uid"], notice.reason, notice.note), None)

    def _spend(self, uid: str, now: datetime) -> bool:
        budget = self._budgets.get(uid) or _Budget(BURST, now)
        earned = max(now - budget.since, timedelta()) / REFILL
        left = min(BURST, budget.left + earned)
        _keep(self._budgets, uid, _Budget(left - 1 if left >= 1 else left, now))
        return left >= 1

    def _event(self, regarding: Object, notice: Notice, name: str, now: datetime) -> Object:
        meta = regarding["metadata"]
        about: dict[str, Any] = {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"]}
        return {
            "apiVersion": API_VERSION,
            "kind": "Event",
            "metadata": {"name": name, "namespace": meta["namespace"]},
            "eventTime": _micro(now),
            "reportingController": CONTROLLER,
            "reportingInstance": self._reporter,
            "action": "Reconcile",
            "reason": notice.reason.value,
            "type": notice.type,
            "note": notice.note.encode()[:_NOTE_BYTES].decode(errors="ignore"),
            "regarding": about | {name: meta[name] for name in ("namespace", "name", "uid")},
        }


def _keep(kept: OrderedDict[Any, _V], key: object, value: _V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > _KEPT:
        kept.popitem(last=False)


def _micro(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
