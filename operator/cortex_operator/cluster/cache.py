"""What is known of the objects that are watched, as it was heard last or as an own write left it.

Shields the API server from reads, and readers from the order in which things are heard: an older state never takes the
place of a newer one, and what this process has deleted does not come back. States of an object are ordered by
resourceVersion: an API server has promised since 1.35 that those of one kind can be compared as integers; all of them
always could.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cortex_operator.cluster.packed import pack, unpack
from cortex_operator.cluster.port import Event, EventType, Object, ObjectKey, Objects

Kind = tuple[str, str]
"""apiVersion and kind."""


@dataclass(frozen=True)
class Selection:
    """Which objects of a kind are watched, by their labels, and by which label lists of it are asked for, if any."""

    labels: Mapping[str, str] = field(default_factory=dict)
    listed_by: str = ""


@dataclass(slots=True)
class _Entry:
    """One object. `index`: its value of the label by which its kind is listed."""

    uid: str
    version: int
    index: str
    packed: bytes
    applied: bytes = b""
    """Digest of the configuration of which this state is known to be the outcome."""


@dataclass
class _Shelf:
    """The objects of one kind, by namespace and name."""

    selection: Selection
    complete: bool = False
    places: dict[str, dict[str, _Entry]] = field(default_factory=dict)
    indexed: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    """uids that this process deleted and of which no DELETED was heard yet."""

    def find(self, key: ObjectKey) -> _Entry | None:
        return self.places.get(key.namespace, {}).get(key.name)

    def put(self, key: ObjectKey, entry: _Entry) -> None:
        self.drop(key)
        self.places.setdefault(key.namespace, {})[key.name] = entry
        if entry.index:
            self.indexed.setdefault((key.namespace, entry.index), set()).add(key.name)

    def drop(self, key: ObjectKey) -> None:
        place = self.places.get(key.namespace, {})
        entry = place.pop(key.name, None)
        if entry is None:
            return
        if not place:
            del self.places[key.namespace]
        names = self.indexed.get((key.namespace, entry.index), set())
        names.discard(key.name)
        if not names:
            self.indexed.pop((key.namespace, entry.index), None)

    def all(self) -> Iterator[_Entry]:
        return (entry for place in self.places.values() for entry in place.values())

    def entries(self, namespace: str | None, labels: Mapping[str, str]) -> Iterator[_Entry]:
        """In the order of their names; at least those with the labels."""
        if namespace is None:
            for each in sorted(self.places):
                yield from self.entries(each, labels)
            return
        place = self.places.get(namespace, {})
        wanted = labels.get(self.selection.listed_by)
        names = place.keys() if wanted is None else self.indexed.get((namespace, wanted), set())
        for name in sorted(names):
            yield place[name]


class Cache:
    """The objects of some kinds. Belongs to one event loop."""

    def __init__(self, kinds: Mapping[Kind, Selection]) -> None:
        self._shelves = {kind: _Shelf(selection) for kind, selection in kinds.items()}
        self.reads: Counter[tuple[str, bool]] = Counter()
        """Reads of a kind, and whether they were answered from here."""
        self._writes: Counter[ObjectKey] = Counter()
        self._held: dict[ObjectKey, list[Callable[[], object]]] = {}

    def follows(self, api_version: str, kind: str) -> bool:
        """Whether reads of the kind can be answered: all there is of it has been heard once."""
        shelf = self._shelves.get((api_version, kind))
        return shelf is not None and shelf.complete

    def get(self, key: ObjectKey) -> Object | None:
        """The object, the caller's own; None when it is not there."""
        entry = self._entry(key)
        return unpack(entry.packed) if entry is not None else None

    def list(self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]) -> Objects:
        """The objects with these labels, the caller's own, ordered by namespace and name."""
        found = (unpack(entry.packed) for entry in self._shelves[api_version, kind].entries(namespace, labels))
        return [obj for obj in found if labels.items() <= (obj["metadata"].get("labels") or {}).items()]

    def hear(self, event: Event) -> bool:
        """Takes in what a watch or a list said. False when it is exactly what is known already."""
        key, uid = ObjectKey.of(event.object), event.object["metadata"]["uid"]
        shelf = self._shelf(key)
        if event.type is EventType.DELETED:
            shelf.deleted.discard(uid)
            self._evict(key, uid)
            return True
        if uid in shelf.deleted:
            return True
        entry, version = shelf.find(key), _version(event.object)
        if entry is None or entry.version < version:
            shelf.put(key, self._packed(shelf, event.object))
        return entry is None or entry.version != version

    def wrote(self, obj: Object) -> None:
        """Takes in what the API server answered to a write, or to a read that bypassed the cache. Nothing would be
        heard of an object without the labels of what is watched: to its watchers it is gone."""
        shelf = self._shelves.get((obj["apiVersion"], obj["kind"]))
        if shelf is None:
            return
        watched = shelf.selection.labels.items() <= (obj["metadata"].get("labels") or {}).items()
        self.hear(Event(EventType.MODIFIED if watched else EventType.DELETED, obj))

    def deleted(self, key: ObjectKey, uid: str) -> None:
        """This process deleted the object: nothing that is heard late brings it back."""
        if (key.api_version, key.kind) in self._shelves:
            self._shelf(key).deleted.add(uid)
            self._evict(key, uid)

    @contextmanager
    def writing(self, key: ObjectKey) -> Iterator[None]:
        """Around a write of this process until its answer is taken in. A watch often shows what was written before the
        answer does: heard at once it would be news, and the reason for a pass that finds nothing to do."""
        self._writes[key] += 1
        try:
            yield
        finally:
            self._writes[key] -= 1
            if not self._writes[key]:
                del self._writes[key]
                for tell in self._held.pop(key, ()):
                    tell()

    def holds_back(self, event: Event, tell: Callable[[], object]) -> bool:
        """Whether the event is about an object that is being written: `tell` is called when that has ended."""
        key = ObjectKey.of(event.object)
        if key not in self._writes:
            return False
        self._held.setdefault(key, []).append(tell)
        return True

    def missing(self, key: ObjectKey) -> None:
        """The API server says that there is no such object."""
        entry = self._entry(key)
        if entry is not None:
            self._evict(key, entry.uid)

    def is_applied(self, key: ObjectKey, digest: bytes) -> bool:
        """Whether the present state is known to be the outcome of the configuration with this digest."""
        entry = self._entry(key)
        return entry is not None and entry.applied == digest and self._shelf(key).complete

    def applied(self, key: ObjectKey, version: str, digest: bytes) -> None:
        """The state of that version is the outcome of the configuration with this digest."""
        entry = self._entry(key)
        if entry is not None and entry.version == int(version):
            entry.applied = digest

    def versions(self, api_version: str, kind: str) -> dict[ObjectKey, int]:
        """What is known now; to be taken before a list of everything, so that what comes meanwhile stays."""
        shelf = self._shelves[api_version, kind]
        return {
            ObjectKey(api_version, kind, namespace, name): entry.version
            for namespace, place in shelf.places.items()
            for name, entry in place.items()
        }

    def listed(
        self, api_version: str, kind: str, before: Mapping[ObjectKey, int], there: set[ObjectKey]
    ) -> tuple[Event, ...]:
        """A list of everything is in, which had the objects `there`. Returns DELETED for each that was known `before`,
        is not in the list and did not change since; these are to be heard."""
        shelf = self._shelves[api_version, kind]
        shelf.complete = True
        shelf.deleted.clear()
        return tuple(
            Event(EventType.DELETED, unpack(entry.packed))
            for key, version in before.items()
            if key not in there and (entry := shelf.find(key)) is not None and entry.version == version
        )

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Objects and their bytes, by kind."""
        return {
            kind: (sum(map(len, shelf.places.values())), sum(len(entry.packed) for entry in shelf.all()))
            for (_, kind), shelf in self._shelves.items()
        }

    def _packed(self, shelf: _Shelf, obj: Object) -> _Entry:
        meta = obj["metadata"]
        return _Entry(
            meta["uid"], _version(obj), (meta.get("labels") or {}).get(shelf.selection.listed_by, ""), pack(obj)
        )

    def _shelf(self, key: ObjectKey) -> _Shelf:
        return self._shelves[key.api_version, key.kind]

    def _entry(self, key: ObjectKey) -> _Entry | None:
        shelf = self._shelves.get((key.api_version, key.kind))
        return shelf.find(key) if shelf is not None else None

    def _evict(self, key: ObjectKey, uid: str) -> None:
        entry = self._entry(key)
        if entry is not None and entry.uid == uid:
            self._shelf(key).drop(key)


def _version(obj: Object) -> int:
    return int(obj["metadata"]["resourceVersion"])
