"""What states and changes are called, and what is told of them.

An aggregate is named within its resource: `resource` (retain, current revision), `revision/ID`, `thread/NAME`,
`run/UUID`; their state is in the Lake. `replica/POD` is in Valkey alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cortex_workloads.runtime.lake.revisions import Resource

RESOURCE = "resource"


class Consistency(StrEnum):
    """How true a read has to be."""

    DURABLE = "Durable"
    """As the Lake has it."""
    LATEST = "Latest"
    """With every write that was acknowledged before the call: the copy when the Lake says that its version is the
    newest, else the Lake."""
    BOUNDED = "Bounded"
    """The copy, when it lags by less than the bound; else as LATEST."""


class Source(StrEnum):
    """Where a state was read."""

    LAKE = "Lake"
    COPY = "Copy"


@dataclass(frozen=True)
class State:
    """What an aggregate is. `version` counts its events; `fields` are the columns of its read model, as JSON."""

    aggregate: str
    version: int
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer to a read. `state` is None where there is none. `age`: seconds by which it may be behind what was
    acknowledged when the read began; 0 when nothing can be missing."""

    state: State | None
    source: Source
    age: float


@dataclass(frozen=True)
class Change:
    """An event. `position`: its place in the resource's feed, from 1, without a gap (0: not numbered yet); `data`: what
    changed, by field; `by`: who wrote it."""

    position: int
    aggregate: str
    version: int
    type: str
    data: Mapping[str, Any] = field(repr=False)
    at: datetime
    by: str


def tag(resource: Resource) -> str:
    """The hash tag of all keys of a resource, without its braces."""
    kind = {"CortexIndex": "index", "CortexWorkflow": "workflow"}[resource.kind]
    return f"{kind}:{resource.namespace}/{resource.name}"


def escaped(text: str) -> str:
    """For a glob pattern of Valkey's."""
    return "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in text)


def key(resource: Resource, *parts: str) -> str:
    """A key in the shared state."""
    return ":".join((f"cortex:{{{tag(resource)}}}", *parts))
