"""What a preview reads of the live cluster: each thing once, so that all of a plan is about one state of it.

Shields the reconcilers from what the user may not read: it is noted and counts as absent.
"""

from __future__ import annotations

from typing import Protocol

from cortex_operator.cluster import EVERYWHERE, Forbidden, NotFound, Object, ObjectKey, Unauthorized

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
    """Remembers what `live` answered. `unread`: the kinds that may not be read, by namespace (empty: of the whole
    cluster), in the order in which they were asked for; `hidden`: objects of which nobody knows whether they are there,
    and why."""

    def __init__(self, live: Reader) -> None:
        self._live = live
        self._objects: dict[ObjectKey, Object | None] = {}
        self._lists: dict[Listed, _Found] = {}
        self.unread: dict[str, list[str]] = {}
        self.hidden: dict[ObjectKey, str] = {}

    async def find(self, key: ObjectKey) -> Object | None:
        """The object; None: it is not there, or may not be read. Raises Unavailable, Unauthorized."""
        if key not in self._objects:
            self._objects[key] = await self._ask(key)
        return self._objects[key]

    async def list(
        self, api_version: str, kind: str, namespace: str | None, labels: dict[str, str] | None
    ) -> list[Object]:
        """Objects of a kind. Raises Unavailable, Unauthorized; Forbidden for lists of all namespaces, without which a
        plan goes on. Others are empty then."""
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
        except Unauthorized:
            raise
        except Forbidden as error:
            self._note(key.namespace, key.kind)
            self.hidden[key] = str(error)
            return None

    async def _list(self, api_version: str, kind: str, namespace: str | None, labels: dict[str, str] | None) -> _Found:
        try:
            return await self._live.list(api_version, kind, namespace=namespace, labels=labels)
        except Unauthorized:
            raise
        except Forbidden as error:
            self._note("" if namespace in (None, EVERYWHERE) else str(namespace), kind)
            return error

    def _note(self, namespace: str, kind: str) -> None:
        kinds = self.unread.setdefault(namespace, [])
        if kind not in kinds:
            kinds.append(kind)
