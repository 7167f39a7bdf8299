"""What a preview reads of the live cluster: each thing once, so that all of a plan is about one state of it.

Shields the reconcilers from what the user may not read: it is noted and counts as absent.
"""

from __future__ import annotations

from typing import Protocol

from cortex_operator.cluster import EVERYWHERE, Forbidden, NotFound, Object, ObjectKey

Listed = tuple[str, str, str | None, tuple[tuple[str, str], ...]]

# A name for what a class that has a method called list could not write.
_Found = list[Object] | Forbidden


class Reader(Protocol):
    """The part of `Cluster` that changes nothing."""

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        """One object. Raises NotFound, Forbidden, Unavailable."""
        ...

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> list[Object]:
        """Objects of a kind. Raises Forbidden, Unavailable."""
        ...


class Look:
    """Remembers what `live` answered. `unread`: what may not be read, and why, in the order in which it was asked."""

    def __init__(self, live: Reader) -> None:
        self._live = live
        self._objects: dict[ObjectKey, Object | None] = {}
        self._lists: dict[Listed, _Found] = {}
        self.unread: dict[str, str] = {}
        self.hidden: set[ObjectKey] = set()
        """Objects of which nobody knows whether they are there."""

    async def find(self, key: ObjectKey) -> Object | None:
        """The object; None: it is not there, or may not be read. Raises Unavailable."""
        if key not in self._objects:
            self._objects[key] = await self._ask(key)
        return self._objects[key]

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: dict[str, str] | None
    ) -> list[Object]:
        """Objects of a kind. Raises Unavailable; Forbidden for lists of all namespaces, without which a plan goes on.
        Others are empty then."""
        wanted: Listed = (api_version, kind, namespace, tuple(sorted((labels or {}).items())))
        if wanted not in self._lists:
            self._lists[wanted] = await self._list(api_version, kind, namespace, labels)
        found = self._lists[wanted]
        if isinstance(found, list):
            return found
        if namespace is None or namespace == EVERYWHERE:
            raise found
        return []

    async def _ask(self, key: ObjectKey) -> Object | None:
        try:
            return await self._live.get(key, unwatched=True)
        except NotFound:
            return None
        except Forbidden as error:
            self.unread[f"{key.kind}s in namespace {key.namespace}" if key.namespace else f"{key}"] = str(error)
            self.hidden.add(key)
            return None

    async def _list(self, api_version: str, kind: str, namespace: str | None, labels: dict[str, str] | None) -> _Found:
        try:
            return await self._live.list(api_version, kind, namespace=namespace, labels=labels)
        except Forbidden as error:
            where = f"namespace {namespace}" if namespace not in (None, EVERYWHERE) else "all namespaces"
            self.unread["Nodes" if kind == "Node" else f"{kind}s in {where}"] = str(error)
            return error
