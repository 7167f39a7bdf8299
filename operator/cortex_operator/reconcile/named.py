"""What is known for a short while of Secrets, ConfigMaps and claims that a spec names and that are not watched.

Shields the API server from the same question on each pass over each resource. It holds no value of a Secret, and
nothing of what was not found: that is asked for anew each time.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cortex_operator.cluster import Object, ObjectKey

Read = Callable[[ObjectKey], Awaitable[Object | None]]
"""Reads an object past every cache; None: it is not there."""


@dataclass(frozen=True)
class Facts:
    """An object that was there. `filled`: those of its `keys` that have a value."""

    keys: frozenset[str]
    filled: frozenset[str]


def facts(obj: Object) -> Facts:
    """What is kept of an object."""
    data = obj.get("data") or {}
    keys = {**data, **(obj.get("binaryData") or {})}
    filled = (key for key, value in data.items() if _is_filled(value, obj["kind"]))
    return Facts(frozenset(keys), frozenset(filled))


class Named:
    """Facts that are at most `seconds` old, of at most `most` objects; shared by the resources that name them."""

    def __init__(self, seconds: float = 60.0, most: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._known: dict[ObjectKey, tuple[float, Facts]] = {}

    async def look(self, key: ObjectKey, read: Read) -> Facts | None:
        """The object's facts; None: it is not there. Raises what `read` raises."""
        until, known = self._known.get(key, (0.0, None))
        if known is not None and self._clock() < until:
            return known
        asked = self._clock()
        found = await read(key)
        self.forget(key)
        if found is None:
            return None
        if len(self._known) >= self._most:
            self.forget(next(iter(self._known)))
        known = facts(found)
        self._known[key] = (asked + self._seconds, known)
        return known

    def forget(self, key: ObjectKey) -> None:
        """The object may have changed."""
        self._known.pop(key, None)


def _is_filled(value: str, kind: str) -> bool:
    try:
        return bool(base64.b64decode(value, validate=True) if kind == "Secret" else value)
    except (binascii.Error, ValueError):
        return False
