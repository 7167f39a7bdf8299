"""Writes the status of a resource, and tells the Events of what was written.

Shields readers from noise: a change of meaning is written at once; other words and counts alone, as they come every two
seconds while documents are embedded, no more often than `Timing.details`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from cortex_kinds.common import CommonStatus
from pydantic import ValidationError

from cortex_operator.cluster import NotFound, Object, ObjectKey
from cortex_operator.reconcile.events import events
from cortex_operator.reconcile.model import World

_DETAILS: Final = frozenset({"message", "documents", "chunks", "waiting"})
"""Fields of a status, its conditions and its revisions that change often and mean little."""


class StatusWriter:
    """Remembers when it wrote the status of which resource last."""

    def __init__(self, world: World, now: Callable[[], datetime]) -> None:
        self._world, self._now = world, now
        self._written: dict[ObjectKey, datetime] = {}

    async def write(self, key: ObjectKey, obj: Object, status: CommonStatus) -> float | None:
        """Writes the status where it differs from that of `obj`. Returns after how many seconds the rest may be
        written; None: there is none. Raises Invalid, Forbidden, Unavailable."""
        before, after = obj.get("status") or {}, status.to_manifest()
        if after == before:
            return None
        if without_details(after) == without_details(before) and (early := self._early(key)) > 0:
            return early
        try:
            written = await self._world.cluster.patch_status(key, after, uid=obj["metadata"]["uid"])
        except NotFound:
            return None  # deleted meanwhile
        self._written[key] = self._now()
        if written and (notices := events(stored(obj), status)):
            self._world.record(obj, notices)
        return None

    def forget(self, key: ObjectKey) -> None:
        """The resource is gone."""
        self._written.pop(key, None)

    def _early(self, key: ObjectKey) -> float:
        last = self._written.get(key)
        return self._world.timing.details - (self._now() - last).total_seconds() if last is not None else 0.0


def without_details(status: Object) -> Object:
    """A status without words and counts: when it differs, somebody may act on it."""

    def plain(values: list[Object]) -> list[Object]:
        return [{name: value for name, value in each.items() if name not in _DETAILS} for each in values]

    lists = {name: plain(status.get(name) or []) for name in ("conditions", "revisions")}
    return {name: value for name, value in status.items() if name not in _DETAILS} | lists


def stored(obj: Object) -> CommonStatus:
    """The status that is stored; an empty one when it cannot be read."""
    try:
        return CommonStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return CommonStatus()
