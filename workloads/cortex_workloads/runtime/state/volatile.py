"""State that is in Valkey alone: it may be lost with it, and whoever owns it writes it again.

Each write is a command: the version is checked, the fields set, a change appended and published, or nothing is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from cortex_workloads.runtime.errors import StateSyncFailed
from cortex_workloads.runtime.lake.revisions import Resource
from cortex_workloads.runtime.state import feed
from cortex_workloads.runtime.state.aggregates import State, key, tag
from cortex_workloads.runtime.state.functions import Functions

ANY: Final = -1
_CHANGES: Final = 1_000


class Volatile:
    """Of one resource. Every method raises Unavailable (`StateUnreachable`), FailedPrecondition."""

    def __init__(self, functions: Functions, resource: Resource) -> None:
        self._functions = functions
        self._resource = resource
        self._stream = key(resource, "changes")
        self._beginning = orjson.dumps({"resource": tag(resource)})[:-1].decode()

    async def write(
        self, aggregate: str, type: str, fields: Mapping[str, Any], *, expected: int = ANY, seconds: float = 0.0
    ) -> int:
        """Sets fields and returns the new version, 1 for what was not there. `expected`: the version that it must have,
        0 for none; `seconds`: how long it lives from now on (0: for good). Raises StateSyncFailed
        (`VersionConflict`) for another version."""
        kind = aggregate.partition("/")[0]
        keys = (self._key(aggregate), self._stream, key(self._resource, "roster", kind))
        message = f'{self._beginning},"aggregate":{_text(aggregate)},"type":{_text(type)},"version":'
        done, version = await self._functions.call(
            "command", keys, expected, round(seconds * 1000), _CHANGES, aggregate, type, message, *feed.packed(fields)
        )
        if not done:
            raise StateSyncFailed(
                f"{aggregate} has version {version}, not {expected}: somebody else changed it",
                remedy="read it again and decide anew",
                reason="VersionConflict",
            )
        return int(version)

    async def read(self, aggregate: str) -> State | None:
        """What is there."""
        flat: Any = await self._functions.run("HGETALL", self._key(aggregate))
        fields = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
        if not fields:
            return None
        version = int(fields.pop(b"_version"))
        return State(aggregate, version, {name.decode(): orjson.loads(value) for name, value in fields.items()})

    async def remove(self, aggregate: str) -> None:
        """Removes it."""
        kind = aggregate.partition("/")[0]
        await self._functions.run("UNLINK", self._key(aggregate))
        await self._functions.run("ZREM", key(self._resource, "roster", kind), aggregate)

    async def roster(self, kind: str) -> list[str]:
        """The aggregates of a kind that were written with a time to live; some may have ended."""
        found = await self._functions.run("ZRANGE", key(self._resource, "roster", kind), 0, -1)
        return [name.decode() for name in found]

    def _key(self, aggregate: str) -> str:
        return key(self._resource, "live", aggregate)


def _text(text: str) -> str:
    return orjson.dumps(text).decode()
