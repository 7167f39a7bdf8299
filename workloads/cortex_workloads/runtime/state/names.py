"""Names of aggregates as callers write them: checked, and made what they are stored under."""

from __future__ import annotations

import re
import uuid
from typing import Final

from cortex_workloads.runtime.errors import InvalidInput
from cortex_workloads.runtime.state.aggregates import RESOURCE

REPLICA: Final = "replica/"
"""What the names of replicas begin with."""
_REMEDY: Final = "name it `resource`, `revision/ID`, `thread/NAME`, `run/UUID` or `replica/POD`"
_THREAD_CHARACTERS: Final = 128
_REVISION: Final = re.compile(r"[0-9a-f]{10}")
_POD: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def named(aggregate: str) -> str:
    """The name as it is stored. Raises InvalidInput."""
    kind, _, name = aggregate.partition("/")
    match kind:
        case "resource" if aggregate == RESOURCE:
            return aggregate
        case "revision" if _REVISION.fullmatch(name):
            return aggregate
        case "revision":
            raise _wrong("a revision's id is 10 hex digits")
        case "thread" if 0 < len(name) <= _THREAD_CHARACTERS and name.isprintable():
            return aggregate
        case "thread":
            raise _wrong(f"a thread's name is 1 to {_THREAD_CHARACTERS} printable characters")
        case "run":
            return f"run/{_uuid(name)}"
        case "replica" if _POD.fullmatch(name):
            return aggregate
        case "replica":
            raise _wrong("a replica is named by its pod")
        case _ if _is_uuid(aggregate):
            raise _wrong(f"there is no aggregate {aggregate!r}", f"did you mean run/{aggregate}?")
    raise _wrong(f"there is no aggregate {aggregate[:80]!r}")


def with_events(aggregate: str) -> str:
    """The same for those that have events. Raises InvalidInput."""
    if (name := named(aggregate)).startswith(REPLICA):
        raise _wrong("a replica has no events: what it says is in the shared state alone", "read its state")
    return name


def _uuid(text: str) -> str:
    if not _is_uuid(text):
        raise _wrong("a run's id is a UUID")
    return str(uuid.UUID(text))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _wrong(message: str, remedy: str = _REMEDY) -> InvalidInput:
    return InvalidInput(message, remedy=remedy, violations=[("aggregate", message)])
