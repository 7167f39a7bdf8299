"""A cluster to try things in: it begins as the live one, and keeps to itself what is written.

Shields the live cluster from the reconcilers, and these from knowing that they only rehearse.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cortex_operator.cluster import FIELD_MANAGER, ApplyResult, MemoryCluster, Object, ObjectKey
from cortex_operator.cluster.admission import admit, normal_key
from cortex_operator.cluster.fields import FieldSet
from cortex_operator.cluster.managed import owners_of
from cortex_operator.cluster.memory import Record
from cortex_operator.cluster.owned import is_applied
from cortex_operator.dataplane import ResourceKey
from cortex_operator.preview.look import Look

Records = Iterable[tuple[Object, dict[str, FieldSet]]]


@dataclass(frozen=True)
class Touched:
    """An object that was written: whose pass did it, and what it was before. `owned`: the fields that the operator
    had set."""

    actor: ResourceKey | None
    before: Object | None
    owned: FieldSet


class Sandbox(MemoryCluster):
    """Reads through `look` what it does not have yet; `records` are there from the start."""

    def __init__(self, look: Look, records: Records = ()) -> None:
        super().__init__()
        self._look = look
        self._known: set[ObjectKey] = set()
        self._pristine: dict[ObjectKey, Object] = {}
        self._owned: dict[ObjectKey, FieldSet] = {}
        self.actor: ResourceKey | None = None
        """Whose pass it is."""
        self.touched: dict[ObjectKey, Touched] = {}
        self.writes = 0
        for obj, owners in records:
            self.take(obj, owners)

    def take(self, obj: Object, owners: dict[str, FieldSet] | None = None) -> None:
        """Has the object as it is, from now on; whoever set its fields, when that is not told by itself."""
        key = normal_key(ObjectKey.of(obj))
        self._known.discard(key)
        told = owners_of(obj) if owners is None else owners
        self.adopt(obj, told)
        self._known.add(key)
        self._owned[key] = told.get(FIELD_MANAGER, frozenset())
        if "managedFields" in obj["metadata"]:
            self._pristine[key] = obj

    def owned(self, key: ObjectKey) -> FieldSet:
        """The fields of the object that the operator sets."""
        record = self._find(key)
        return record.owners.get(FIELD_MANAGER, frozenset()) if record is not None else frozenset()

    async def apply(self, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True) -> ApplyResult:
        """Server-side apply, in the sandbox alone. Raises Invalid, Conflict, Unavailable."""
        key, config = admit(obj)
        await self._load(key)
        if key in self._pristine and is_applied(config, self._pristine[key], field_manager):
            return ApplyResult.UNCHANGED
        return await super().apply(obj, field_manager=field_manager, force=force)

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        """One object. Raises NotFound, Unavailable."""
        key = normal_key(key)
        await self._load(key)
        obj = await super().get(key)
        if key in self._pristine:
            obj["metadata"]["managedFields"] = self._pristine[key]["metadata"]["managedFields"]
        return obj

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> list[Object]:
        """All objects of a kind, ordered by namespace and name. Raises Forbidden, Unavailable."""
        for obj in await self._look.list(api_version, kind, namespace, labels):
            self._take_once(ObjectKey.of(obj), obj)
        return await super().list(api_version, kind, namespace=namespace, labels=labels)

    async def delete(self, key: ObjectKey, *, uid: str | None = None, foreground: bool = False) -> None:
        """Deletes an object, in the sandbox alone. Raises NotFound, Unavailable."""
        await self._load(normal_key(key))
        await super().delete(key, uid=uid, foreground=foreground)

    async def patch_status(
        self, key: ObjectKey, status: Object, *, uid: str | None = None, field_manager: str = FIELD_MANAGER
    ) -> bool:
        """Replaces the status, in the sandbox alone. Raises NotFound, Invalid, Unavailable."""
        await self._load(normal_key(key))
        return await super().patch_status(key, status, uid=uid, field_manager=field_manager)

    def state(self, key: ObjectKey) -> Object | None:
        """The object as it is here now."""
        return self._stored(key)

    def before(self, key: ObjectKey) -> Object | None:
        """The object as it was when it was taken over."""
        touched = self.touched.get(key)
        return touched.before if touched is not None else self._stored(key)

    def is_hidden(self, key: ObjectKey) -> bool:
        """Whether nobody knows if the live object is there."""
        return key in self._look.hidden

    async def _load(self, key: ObjectKey) -> None:
        if key not in self._known and (found := await self._look.find(key)) is not None:
            self._take_once(key, found)
        self._known.add(key)

    def _take_once(self, key: ObjectKey, obj: Object) -> None:
        if key not in self._known:
            self.take(obj)

    def _store(self, key: ObjectKey, record: Record) -> None:
        self._touch(key)
        super()._store(key, record)

    def _remove(self, key: ObjectKey) -> None:
        self._touch(key)
        super()._remove(key)

    def _touch(self, key: ObjectKey) -> None:
        """Of an object that is only taken over nothing is noted."""
        if key in self._known:
            self._pristine.pop(key, None)
            self.writes += 1
            before = Touched(self.actor, self._stored(key), self._owned.get(key, frozenset()))
            self.touched.setdefault(key, before)
