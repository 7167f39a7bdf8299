"""What the engine was told of: enough of each object to say later that it is gone, and no more.

Shields the engine from watches that miss a deletion (a list after a gap tells nothing of what went meanwhile).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cortex_operator.cluster import Event, EventType, Object, ObjectKey

_KEPT = ("name", "namespace", "uid", "labels", "ownerReferences")


class Known:
    """The objects of one kind that were told of and have not gone."""

    def __init__(self) -> None:
        self._stubs: dict[ObjectKey, Object] = {}

    def note(self, event: Event) -> None:
        """Remembers the object, or forgets it when it is gone."""
        key = ObjectKey.of(event.object)
        if event.type is EventType.DELETED:
            self._stubs.pop(key, None)
        else:
            self._stubs[key] = _stub(event.object)

    def now(self) -> Mapping[ObjectKey, Object]:
        """What is known now; to be taken before a list, so that what comes meanwhile is not taken for gone."""
        return dict(self._stubs)

    def gone(self, before: Mapping[ObjectKey, Object], listed: Iterable[Object]) -> Iterator[Event]:
        """DELETED for each object that was known `before`, is not in the list, and was not told of since."""
        there = {ObjectKey.of(obj) for obj in listed}
        for key, stub in before.items():
            if key not in there and self._stubs.get(key) is stub:
                yield Event(EventType.DELETED, stub)


def _stub(obj: Object) -> Object:
    meta = obj["metadata"]
    kept = {name: meta[name] for name in _KEPT if name in meta}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept}
