"""The port `Cluster` itself, its errors and its small types."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

FIELD_MANAGER: Final = "cortex-operator"
"""Owner of the fields that the operator sets."""

EVERYWHERE: Final = "*"
"""For `Cluster.list`: of all namespaces, also of those that are not looked at."""

Object = dict[str, Any]
"""A Kubernetes object as JSON: apiVersion, kind, metadata, ..."""

# A name for what a class that has a method called list could not write.
Objects = list[Object]


@dataclass(frozen=True, order=True)
class ObjectKey:
    """Names one object; `api_version` as in a manifest (`apps/v1`)."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @staticmethod
    def of(obj: Object) -> ObjectKey:
        """The key of an object. Raises KeyError when apiVersion, kind or metadata.name is missing."""
        meta = obj["metadata"]
        return ObjectKey(obj["apiVersion"], obj["kind"], meta.get("namespace", ""), meta["name"])

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class EventType(StrEnum):
    """What a watch says about an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True)
class Event:
    """One event of a watch; on DELETED `object` is the last state."""

    type: EventType
    object: Object


class ApplyResult(StrEnum):
    """What an apply did."""

    CREATED = "Created"
    CHANGED = "Changed"
    UNCHANGED = "Unchanged"


class NotFound(LookupError):
    """The object is not there."""


class Invalid(ValueError):
    """The cluster refuses the object; the message lists every mistake. Not to be retried as it is."""


class Taken(Invalid):
    """An object of this name is there and is somebody else's; the message says whose, and what to do."""


class Conflict(RuntimeError):
    """The object is not what the caller believes (uid, resourceVersion), or without `force` another manager owns a
    field that the apply would change. To be retried from a fresh read."""


class Lingering(Conflict):
    """An object of the namesake that was deleted before is still there; the message names it, and where it says who
    keeps it. To be retried until it is gone."""


class Forbidden(PermissionError):
    """The cluster does not let this client do that; the message names the verb, the resource, the namespace and what
    grants it (RBAC). To be retried only after somebody changed that. `about`: the right alone, for who has many of
    these at once."""

    def __init__(self, message: str, about: str = "") -> None:
        super().__init__(message)
        self.about = about


class Unauthorized(Forbidden):
    """The cluster does not know who asks: no right would help."""


class NamespaceTerminating(RuntimeError):
    """Nothing can be created in the namespace: it is being deleted, or not there. What was in it goes too."""


class Unavailable(ConnectionError):
    """The cluster does not answer. To be retried, after `retry_after` seconds when it said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Cluster(Protocol):
    """Keeps objects. Objects that come out may be kept by the caller but must not be changed."""

    async def apply(self, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True) -> ApplyResult:
        """Server-side apply: creates, or sets the fields given and takes away those that this manager set before and
        now leaves out; the fields of other managers stay. Nothing is written when nothing differs. `status` is ignored
        for kinds with a status subresource. A uid or resourceVersion in the metadata is a precondition.
        Raises Invalid, Conflict, Lingering, NamespaceTerminating, Forbidden, Unavailable."""
        ...

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        """One object; with `unwatched` also one without the labels of what is watched. Raises NotFound, Forbidden,
        Unavailable."""
        ...

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> list[Object]:
        """All objects of a kind, ordered by namespace and name; `namespace=None`: of all namespaces that are looked at,
        EVERYWHERE: of all there are. Raises Forbidden, Unavailable."""
        ...

    def scan(
        self, api_version: str, kind: str, *, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[Objects, None]:
        """All objects of a kind as they are at the source, whatever is remembered of them; in any order, some at a
        time, as all of them at once may be too much to hold. Raises Forbidden, Unavailable."""
        ...

    async def served(self, kinds: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Those of the kinds (apiVersion and kind), which not every cluster has, that this one keeps and acts upon.
        Raises Forbidden, Unavailable."""
        ...

    async def delete(self, key: ObjectKey, *, uid: str | None = None, foreground: bool = False) -> None:
        """Deletes an object, and in the background what it owns (ownerReferences); with `foreground` it stays, marked,
        until that is gone. With `uid` only that very object. Raises NotFound, Forbidden, Unavailable."""
        ...

    async def patch_status(
        self, key: ObjectKey, status: Object, *, uid: str | None = None, field_manager: str = FIELD_MANAGER
    ) -> bool:
        """Replaces the status; with `uid` only that of this very object. False when it did not differ.
        Raises NotFound, Invalid, Forbidden, Unavailable."""
        ...

    async def set_finalizers(self, obj: Object, finalizers: Sequence[str]) -> None:
        """Replaces the finalizers of an object as it was read; one that is being deleted goes with the last of them.
        Raises Conflict when it is another one, or changed, since; NotFound, Invalid, Forbidden, Unavailable."""
        ...

    def watch(self, api_version: str, kind: str, *, namespace: str | None = None) -> AsyncGenerator[Event, None]:
        """What is there (as ADDED), then what changes; never ends by itself. Closing it ends the subscription. A slow
        watcher may miss a state in between, never the last one."""
        ...
