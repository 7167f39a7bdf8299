"""`MemoryCluster`: the port `Cluster` in this process, with the semantics of an API server.

Shields callers from nothing more than the API server itself would: uid, resourceVersion, generation, field ownership
per manager, the status subresource, ownerReferences, finalizers and watches behave as they do there.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cortex_operator.cluster.admission import (
    DEFAULT_STATUS,
    admit,
    check_controller,
    check_preconditions,
    check_uid,
    is_cortex_kind,
    normal_key,
    validate,
    validate_status,
)
from cortex_operator.cluster.fields import FieldSet, copy_json, field_set, merge, show, value_at, without
from cortex_operator.cluster.port import (
    EVERYWHERE,
    FIELD_MANAGER,
    ApplyResult,
    Conflict,
    Event,
    NotFound,
    Object,
    ObjectKey,
    Objects,
)
from cortex_operator.cluster.schema import WITH_STATUS
from cortex_operator.cluster.watching import Watcher

_SERVERS_OWN: Final = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
)


_FOREGROUND: Final = "foregroundDeletion"
"""The finalizer of what waits for what it owns."""


@dataclass(frozen=True)
class Record:
    """A stored object, never changed in place, and which fields each manager set."""

    object: Object
    owners: dict[str, FieldSet] = field(default_factory=dict)


class MemoryCluster:
    """Keeps objects in memory. Belongs to one event loop; every call is atomic."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], dict[ObjectKey, Record]] = {}
        self._uids: dict[str, ObjectKey] = {}
        self._dependents: dict[str, set[ObjectKey]] = {}
        self._watchers: set[Watcher] = set()
        self._version = 0

    async def apply(self, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True) -> ApplyResult:
        """Server-side apply. Raises Invalid, Conflict."""
        key, config = admit(obj)
        record = self._find(key)
        check_preconditions(key, config["metadata"], record.object if record is not None else None)
        check_controller(key, config, record.object if record is not None else None)
        for name in _SERVERS_OWN:
            config["metadata"].pop(name, None)
        if record is None:
            self._create(key, config, field_manager)
            return ApplyResult.CREATED
        return self._update(key, record, config, field_manager, force)

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        """One object. Raises NotFound."""
        result: Object = copy_json(self._record(normal_key(key)).object)
        return result

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> list[Object]:
        """All objects of a kind, ordered by namespace and name."""
        records = self._records.get((api_version, kind), {})
        return [
            copy_json(records[key].object)
            for key in sorted(records)
            if namespace in (None, EVERYWHERE, key.namespace) and _has_labels(records[key].object, labels or {})
        ]

    async def scan(
        self, api_version: str, kind: str, *, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[Objects, None]:
        """All objects of a kind, at once."""
        yield await self.list(api_version, kind, labels=labels)

    async def served(self, kinds: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """None: nobody here would act upon them."""
        return frozenset()

    async def delete(self, key: ObjectKey, *, uid: str | None = None, foreground: bool = False) -> None:
        """Deletes an object and what it owns; with finalizers it is only marked. Raises NotFound."""
        key = normal_key(key)
        obj = self._record(key).object
        check_uid(key, obj, uid)
        dependents = sorted(self._dependents.get(obj["metadata"]["uid"], set())) if foreground else []
        if dependents and _FOREGROUND not in obj["metadata"].get("finalizers", ()):
            self._hold(key, [*obj["metadata"].get("finalizers", ()), _FOREGROUND])
        self._delete(key)
        for dependent in dependents:
            if self._find(dependent) is not None:
                self._delete(dependent)

    async def patch_status(
        self, key: ObjectKey, status: Object, *, uid: str | None = None, field_manager: str = FIELD_MANAGER
    ) -> bool:
        """Replaces the status; one manager's status is the whole of it. Raises NotFound, Invalid."""
        key = normal_key(key)
        record = self._record(key)
        check_uid(key, record.object, uid)
        status = copy_json(status)
        validate_status(key, status)
        if record.object.get("status", {}) == status:
            return False
        self._store(key, Record({**record.object, "status": status}, record.owners))
        return True

    async def set_finalizers(self, obj: Object, finalizers: Sequence[str]) -> None:
        """Replaces the finalizers of an object as it was read. Raises Conflict, NotFound."""
        key = normal_key(ObjectKey.of(obj))
        check_preconditions(key, obj["metadata"], self._record(key).object)
        self._hold(key, finalizers)
        self._delete_if_released(key)

    async def watch(self, api_version: str, kind: str, *, namespace: str | None = None) -> AsyncGenerator[Event, None]:
        """What is there (as ADDED), then what changes."""
        watcher = Watcher(api_version, kind, namespace, self._stored)
        for key in sorted(self._records.get((api_version, kind), {})):
            watcher.tell(key)
        self._watchers.add(watcher)
        try:
            while True:
                for event in await watcher.events():
                    yield Event(event.type, copy_json(event.object))
        finally:
            self._watchers.discard(watcher)

    def adopt(self, obj: Object, owners: Mapping[str, FieldSet]) -> None:
        """Takes an object as it is elsewhere, with its uid, its status and who set what; nothing is checked."""
        kept = {**obj, "metadata": {name: v for name, v in obj["metadata"].items() if name != "managedFields"}}
        self._store(normal_key(ObjectKey.of(obj)), Record(copy_json(kept), dict(owners)))

    def records(self) -> Iterator[tuple[Object, dict[str, FieldSet]]]:
        """Everything that is kept, each with who set what."""
        for kind in self._records.values():
            yield from ((record.object, record.owners) for record in kind.values())

    def _create(self, key: ObjectKey, config: Object, manager: str) -> None:
        meta = {
            **config["metadata"],
            "uid": str(uuid.uuid4()),
            "creationTimestamp": _now(),
            **({"generation": 1} if key.kind in WITH_STATUS else {}),
        }
        obj = {**config, "metadata": meta, **({"status": dict(DEFAULT_STATUS)} if is_cortex_kind(key) else {})}
        validate(key, obj, None)
        self._store(key, Record(obj, {manager: field_set(config)}))
        self._collect_if_orphaned(key)

    def _update(self, key: ObjectKey, record: Record, config: Object, manager: str, force: bool) -> ApplyResult:
        before = record.object
        mine = field_set(config)
        merged = merge(before, config)
        others = {name: fields for name, fields in record.owners.items() if name != manager}
        lost = {name: _changed(before, merged, fields) for name, fields in others.items()}
        if not force and any(lost.values()):
            raise Conflict(_conflict_message(key, lost))
        others = {name: fields - lost[name] for name, fields in others.items()}
        kept = mine.union(*others.values())
        after = without(merged, record.owners.get(manager, frozenset()) - kept, kept)
        owners = {**others, manager: mine}
        if after == before and owners == record.owners:
            return ApplyResult.UNCHANGED
        validate(key, after, before)
        self._store(key, Record(_with_generation(key, before, after), owners))
        self._delete_if_released(key)
        self._collect_if_orphaned(key)
        return ApplyResult.CHANGED

    def _find(self, key: ObjectKey) -> Record | None:
        return self._records.get(_kind(key), {}).get(key)

    def _stored(self, key: ObjectKey) -> Object | None:
        record = self._find(key)
        return record.object if record is not None else None

    def _record(self, key: ObjectKey) -> Record:
        record = self._find(key)
        if record is None:
            raise NotFound(f"{key} is not there")
        return record

    def _store(self, key: ObjectKey, record: Record) -> None:
        self._version += 1
        meta = {**record.object["metadata"], "resourceVersion": str(self._version)}
        stored = Record({**record.object, "metadata": meta}, record.owners)
        self._forget_owners(key)
        self._records.setdefault(_kind(key), {})[key] = stored
        self._uids[meta["uid"]] = key
        for uid in _owner_uids(stored.object):
            self._dependents.setdefault(uid, set()).add(key)
        self._tell(key)

    def _forget_owners(self, key: ObjectKey) -> None:
        for uid in _owner_uids(self._stored(key) or {}):
            dependents = self._dependents.get(uid, set())
            dependents.discard(key)
            if not dependents:
                self._dependents.pop(uid, None)

    def _tell(self, key: ObjectKey) -> None:
        for watcher in self._watchers:
            watcher.tell(key)

    def _delete(self, key: ObjectKey) -> None:
        record = self._record(key)
        meta = record.object["metadata"]
        if not meta.get("finalizers"):
            self._remove(key)
        elif "deletionTimestamp" not in meta:
            marked = {**meta, "deletionTimestamp": _now()}
            if "generation" in meta:
                marked["generation"] = meta["generation"] + 1
            self._store(key, Record({**record.object, "metadata": marked}, record.owners))

    def _delete_if_released(self, key: ObjectKey) -> None:
        if "deletionTimestamp" in self._record(key).object["metadata"]:
            self._delete(key)

    def _remove(self, key: ObjectKey) -> None:
        uid, owners = self._record(key).object["metadata"]["uid"], _owner_uids(self._record(key).object)
        self._forget_owners(key)
        del self._records[_kind(key)][key]
        del self._uids[uid]
        self._tell(key)
        for dependent in sorted(self._dependents.get(uid, set())):
            self._collect_if_orphaned(dependent)
        for owner in owners:
            self._release_if_alone(owner)

    def _release_if_alone(self, uid: str) -> None:
        """What was deleted in the foreground goes when nothing of it is left."""
        owner = self._uids.get(uid)
        if owner is None or self._dependents.get(uid):
            return
        finalizers = self._record(owner).object["metadata"].get("finalizers", ())
        if _FOREGROUND in finalizers:
            self._hold(owner, [name for name in finalizers if name != _FOREGROUND])
            self._delete_if_released(owner)

    def _hold(self, key: ObjectKey, finalizers: Sequence[str]) -> None:
        record = self._record(key)
        meta = {name: value for name, value in record.object["metadata"].items() if name != "finalizers"}
        meta |= {"finalizers": list(finalizers)} if finalizers else {}
        self._store(key, Record({**record.object, "metadata": meta}, record.owners))

    def _collect_if_orphaned(self, key: ObjectKey) -> None:
        """Garbage collection: an object goes when it has owners and none of them is there any more."""
        owners = _owner_uids(self._stored(key) or {})
        if owners and not any(uid in self._uids for uid in owners):
            self._delete(key)


def _kind(key: ObjectKey) -> tuple[str, str]:
    return key.api_version, key.kind


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _owner_uids(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj.get("metadata", {}).get("ownerReferences", [])}


def _has_labels(obj: Object, labels: dict[str, str]) -> bool:
    found = obj["metadata"].get("labels", {})
    return all(found.get(name) == value for name, value in labels.items())


def _changed(before: Object, after: Object, fields: FieldSet) -> FieldSet:
    return frozenset(path for path in fields if value_at(before, path) != value_at(after, path))


def _conflict_message(key: ObjectKey, lost: dict[str, FieldSet]) -> str:
    owned = [f"{manager} owns {', '.join(sorted(map(show, fields)))}" for manager, fields in lost.items() if fields]
    return f"{key}: {'; '.join(owned)}; apply with force, or leave the fields out"


def _with_generation(key: ObjectKey, before: Object, after: Object) -> Object:
    def desired(obj: Object) -> Object:
        return {name: value for name, value in obj.items() if name not in ("metadata", "status")}

    if key.kind not in WITH_STATUS or desired(before) == desired(after):
        return after
    return {**after, "metadata": {**after["metadata"], "generation": before["metadata"]["generation"] + 1}}
