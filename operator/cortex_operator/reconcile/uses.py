"""Which workflows name which index, as the events of both tell, and who is to look again for one.

Shields the reconcilers from going through all workflows for one index.
"""

from __future__ import annotations

from collections.abc import Iterator

from cortex_operator.cluster import Event, EventType, Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.reconcile.serving import why_not_serving


class Uses:
    """Kept current by the events of both kinds. Belongs to one event loop."""

    def __init__(self) -> None:
        self._used: dict[ResourceKey, frozenset[ResourceKey]] = {}
        self._users: dict[ResourceKey, set[ResourceKey]] = {}
        self._signs: dict[ResourceKey, tuple[object, ...]] = {}

    def users(self, index: ResourceKey) -> list[ResourceKey]:
        """The workflows that name the index, by namespace and name; not those that are being deleted."""
        return sorted(self._users.get(index, ()), key=lambda user: (user.namespace, user.name))

    def of_workflow(self, event: Event) -> Iterator[ResourceKey]:
        """The workflow, and the indexes that it begins or ceases to name."""
        yield _key(event.object)
        yield from self.named(event)

    def named(self, event: Event) -> Iterator[ResourceKey]:
        """The indexes that the workflow begins or ceases to name."""
        key = _key(event.object)
        before, after = self._used.get(key, frozenset()), _indexes(event)
        for index in before - after:
            self._users[index].discard(key)
            if not self._users[index]:
                del self._users[index]
        for index in after - before:
            self._users.setdefault(index, set()).add(key)
        self._used[key] = after
        if not after:
            del self._used[key]
        yield from sorted(before ^ after, key=str)

    def of_index(self, event: Event) -> Iterator[ResourceKey]:
        """The index, and who is to hear of it."""
        yield _key(event.object)
        yield from self.concerned(event)

    def concerned(self, event: Event) -> Iterator[ResourceKey]:
        """The workflows that name the index, when it came, went, began or ceased to serve, or lets others use it."""
        key = _key(event.object)
        sign = () if event.type is EventType.DELETED else _sign(event.object)
        if self._signs.get(key, ()) == sign:
            return
        self._signs[key] = sign
        if not sign:
            del self._signs[key]
        yield from self.users(key)


def _indexes(event: Event) -> frozenset[ResourceKey]:
    meta = event.object["metadata"]
    if event.type is EventType.DELETED or "deletionTimestamp" in meta:
        return frozenset()
    uses = event.object.get("spec", {}).get("indexes") or ()
    own = meta["namespace"]
    return frozenset(ResourceKey("CortexIndex", use.get("namespace") or own, use["name"]) for use in uses)


def _sign(index: Object) -> tuple[object, ...]:
    """What of an index matters to those who name it."""
    meta = index["metadata"]
    return meta.get("uid"), why_not_serving(index), index.get("spec", {}).get("access")


def _key(obj: Object) -> ResourceKey:
    return ResourceKey(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
