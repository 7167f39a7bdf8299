"""The copy in Valkey: one hash for each aggregate, the feed's last events as a stream, and how far both are.

Shields the relay and readers from how copies are laid out. A copy may be missing at any time (expired, evicted, lost):
then the Lake is asked. One that is there is at least as new as the feed's position in Valkey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state import feed
from cortex_workloads.runtime.state.aggregates import Change, State, escaped, key, tag
from cortex_workloads.runtime.state.functions import Functions

STATE_CHANNEL: Final = "cortex:state"
INVALIDATE_CHANNEL: Final = "cortex:invalidate"
WINDOW: Final = 2_000
"""Events that the stream keeps, about; older ones are read in the Lake."""
EVENT_BYTES: Final = 4 * 1024
"""Of what an event changed, in the stream; one that is larger is read in the Lake."""
COPY_BYTES: Final = 256 * 1024
"""Of a state in its copy; one that is larger is read in the Lake."""
_HOUR_MS: Final = 3_600_000
_THERE, _REMOVED, _TOO_LARGE = range(3)
"""Marks of copies."""
_INVALIDATING: Final = frozenset({"CurrentChanged", "RevisionFailed", "RevisionRemoved"})
"""Events after which what was derived of the resource may be void."""


@dataclass(frozen=True)
class Standing:
    """How far the copy is. Times are of Valkey's clock, in ms; `last` names the event at `position`."""

    now: int
    epoch: str
    position: int
    last: str
    watermark: int


@dataclass(frozen=True)
class Copy:
    """A copy that was found. `lag`: seconds behind which everything acknowledged is in it; None: nobody can say.
    `state` is None when the aggregate was removed."""

    lag: float | None
    version: int
    state: State | None


class Copies:
    """Of one resource. Every method raises Unavailable (`StateUnreachable`), FailedPrecondition."""

    def __init__(self, functions: Functions, resource: Resource) -> None:
        self._functions = functions
        self._resource = resource
        self._feed = key(resource, "feed")
        self.stream = key(resource, "events")
        self._tag = tag(resource)

    async def standing(self) -> Standing:
        """How far it is; an empty epoch when there is none."""
        now, epoch, position, last, watermark = await self._functions.call("look", (self._feed,), read_only=True)
        return Standing(now, epoch.decode(), position, last.decode(), watermark)

    async def find(self, aggregate: str) -> tuple[Copy | None, float | None]:
        """The copy of an aggregate, and by how many seconds the whole lags (None: unknown)."""
        keys = (self._feed, self._key(aggregate))
        now, epoch, watermark, flat = await self._functions.call("read", keys, read_only=True)
        # Rounded up; a watermark ahead of the clock is of a clock that was set back since.
        lag = (now - watermark + 1) / 1000 if 0 < watermark <= now else None
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if not epoch or fields.pop(b"_epoch", None) != epoch:
            return None, lag
        version, mark = int(fields.pop(b"_version")), int(fields.pop(b"_mark"))
        if mark == _TOO_LARGE:
            return None, lag
        if mark == _REMOVED:
            return Copy(lag, version, None), lag
        values = {name.decode(): orjson.loads(value) for name, value in fields.items()}
        return Copy(lag, version, State(aggregate, version, values)), lag

    async def reset(self, expected: str, epoch: str, position: int, last: str) -> bool:
        """Voids every copy: the feed goes on behind the position. False when another process was first."""
        keys = (self._feed, self.stream)
        return bool(await self._functions.call("reset", keys, expected, epoch, position, last))

    async def mark(self, epoch: str, position: int, time: int) -> None:
        """At `time`, of Valkey's clock, nothing had been acknowledged beyond the position."""
        await self._functions.call("mark", (self._feed,), epoch, position, time)

    async def apply(self, epoch: str, changes: Sequence[Change], states: Mapping[str, State | None]) -> int:
        """Brings changes into stream and copies, in their order, and publishes them; returns the position up to which
        they are there. `states`: what the Lake has of their aggregates, read after the changes were."""
        aggregates = list(dict.fromkeys(change.aggregate for change in changes))
        keys = (self._feed, self.stream, *map(self._key, aggregates))
        end = changes[-1]
        arguments: list[Any] = [epoch, WINDOW, feed.name(end.aggregate, end.version, end.at), len(changes)]
        newest: dict[str, int] = {}
        for change in changes:
            arguments += self._event(change)
            newest[change.aggregate] = change.version
        for aggregate in aggregates:
            arguments += _copied(states.get(aggregate), newest[aggregate])
        return int(await self._functions.call("apply", keys, *arguments))

    async def restore(self, epoch: str, state: State) -> bool:
        """Writes one copy, unless a newer one is there."""
        version, lifetime, mark, _, *fields = _copied(state, state.version)
        keys = (self._feed, self._key(state.aggregate))
        return bool(await self._functions.call("restore", keys, epoch, version, lifetime, mark, *fields))

    async def aggregates(self) -> list[str]:
        """The names of every copy that is there, of whatever epoch."""
        beginning = self._key("")
        found = await self._functions.scan(escaped(beginning) + "*")
        return sorted(name.decode().removeprefix(beginning) for name in found)

    async def forget(self, aggregates: Sequence[str]) -> None:
        """Removes copies."""
        if aggregates:
            await self._functions.run("UNLINK", *map(self._key, aggregates))

    def _key(self, aggregate: str) -> str:
        return key(self._resource, "state", aggregate)

    def _event(self, change: Change) -> tuple[Any, ...]:
        message = orjson.dumps(
            {
                "resource": self._tag,
                "aggregate": change.aggregate,
                "type": change.type,
                "position": change.position,
                "version": change.version,
            }
        )
        data = _written(change.data)
        return (
            change.position,
            message,
            int(change.type in _INVALIDATING),
            change.aggregate,
            change.version,
            change.type,
            data if data is not None and len(data) <= EVENT_BYTES else b"",
            change.at.isoformat(),
            change.by,
        )


def _copied(state: State | None, version: int) -> list[Any]:
    # What is not copied leaves a mark, so that nobody who is late brings an older state back.
    if state is None:
        return [version, _HOUR_MS, _REMOVED, 0]
    fields = _packed(state.fields)
    if fields is None or sum(map(len, fields)) > COPY_BYTES:
        return [state.version, _lifetime(state), _TOO_LARGE, 0]
    return [state.version, _lifetime(state), _THERE, len(fields), *fields]


def _packed(fields: Mapping[str, Any]) -> list[bytes] | None:
    try:
        return feed.packed(fields)
    except TypeError:
        return None


def _written(value: Any) -> bytes | None:
    """As JSON; None for what cannot be written (nested too deeply): the Lake has it, as what is too large."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return None


def _lifetime(state: State) -> int:
    """In ms; 0: as long as the resource."""
    match state.aggregate.partition("/")[0]:
        case "run" if state.fields.get("status") != "Running":
            return _HOUR_MS
        case "run" | "thread":
            return 24 * _HOUR_MS
    return 0
