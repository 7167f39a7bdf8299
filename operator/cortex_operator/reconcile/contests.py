"""Who changes an object back as often as the operator puts it right.

An autoscaler that was made by hand and the operator would go on for ever, and make and end pods each time. Once that is
seen it is told, and the operator takes its time from then on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cortex_operator.cluster import Object, ObjectKey

_MANY: Final = 5
_WITHIN: Final = timedelta(minutes=2)
_COUNTED: Final = "deployment.kubernetes.io/"
PAUSE: Final = timedelta(seconds=30)
"""Between two times that the same is put right, once it is contested."""


@dataclass
class _Contest:
    """`what`: how the object was found, and how it was to be."""

    what: bytes
    times: list[datetime]


class Contests:
    """Of all objects; what is not put right any more is forgotten."""

    def __init__(self) -> None:
        self._contests: dict[ObjectKey, _Contest] = {}

    def pause(self, found: Object, wanted: Object, now: datetime) -> float:
        """Seconds until an object that was found like this may be made as wanted; 0: now."""
        contest = self._contests.get(ObjectKey.of(wanted))
        if contest is None or len(contest.times) < _MANY or contest.what != _digest(found, wanted):
            return 0.0
        return max(0.0, (contest.times[-1] + PAUSE - now).total_seconds())

    def note(self, found: Object, wanted: Object, now: datetime) -> bool:
        """An object that was found like this was made as wanted. True when it is contested from now on."""
        for key in [key for key, one in self._contests.items() if now - one.times[-1] > _WITHIN]:
            del self._contests[key]
        what = _digest(found, wanted)
        before = self._contests.get(ObjectKey.of(wanted))
        recent = [at for at in before.times if now - at <= _WITHIN] if before and before.what == what else []
        self._contests[ObjectKey.of(wanted)] = _Contest(what, [*recent[1 - _MANY :], now])
        return len(recent) == _MANY - 1


def told(key: ObjectKey) -> str:
    """What people hear of an object that is contested."""
    where = f"-n {key.namespace} {key.kind.lower()} {key.name}"
    return (
        f"{key} was put right {_MANY} times within {_WITHIN.seconds // 60} minutes, as somebody changes it the same "
        f"way each time; from now on that is done every {PAUSE.seconds} s. Who it is: kubectl get {where} -o yaml "
        "--show-managed-fields, or a HorizontalPodAutoscaler that was made for it by hand (the number of pods is "
        "spec.replicas or spec.autoscaling of the resource)"
    )


def _digest(found: Object, wanted: Object) -> bytes:
    meta = found["metadata"]
    # The cluster counts each change of the pods in an annotation.
    notes = {name: text for name, text in (meta.get("annotations") or {}).items() if not name.startswith(_COUNTED)}
    how = [found.get("spec"), meta.get("labels"), meta.get("ownerReferences"), notes]
    return hashlib.blake2b(json.dumps([how, wanted], sort_keys=True).encode(), digest_size=16).digest()
