"""The ConfigMap that names the data in Lakes that belongs to no resource any more. Pure, but for `Orphans`.

Shields the API server and a store of 1 MiB an object: the newest records are kept, of the others only how many.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from cortex_kinds.conditions import truncate

from cortex_operator.cluster import Cluster, Forbidden, Invalid, NamespaceTerminating, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.labels import MANAGED
from cortex_operator.reconcile.observe import find

LEFT_OUT: Final = "cortex.datapunk.io/left-out"
"""Annotation: how many records were left out, as there was no room."""
LABELS: Final = {
    "app.kubernetes.io/component": "orphans",
    "app.kubernetes.io/part-of": "datapunk-cortex",
    **MANAGED,
}
MOST_BYTES: Final = 800_000
_MESSAGE: Final = 512

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Orphan:
    """Data of one resource that is gone. `reason`: CamelCase; `recorded`: RFC 3339, UTC."""

    kind: str
    namespace: str
    name: str
    uid: str
    reason: str
    message: str
    recorded: str
    remedy: str

    @property
    def key(self) -> ResourceKey:
        """Whose data it is."""
        return ResourceKey(self.kind, self.namespace, self.name)


def config_map(namespace: str, name: str, found: Mapping[ResourceKey, Orphan], left_out: int) -> Object:
    """The ConfigMap."""
    annotations = {"annotations": {LEFT_OUT: str(left_out)}} if left_out else {}
    data = {_field(orphan): json.dumps(asdict(orphan)) for orphan in found.values()}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": LABELS, **annotations},
        "data": data,
    }


def read(obj: Object | None) -> tuple[dict[ResourceKey, Orphan], int]:
    """What a ConfigMap says, oldest first, and how many it left out; what cannot be read is not there."""
    found = [orphan for text in ((obj or {}).get("data") or {}).values() if (orphan := _orphan(text))]
    ordered = sorted(found, key=lambda orphan: (orphan.recorded, str(orphan.key)))
    told = ((obj or {}).get("metadata", {}).get("annotations") or {}).get(LEFT_OUT, "0")
    return {orphan.key: orphan for orphan in ordered}, int(told) if told.isdecimal() else 0


def bounded(found: Mapping[ResourceKey, Orphan], left_out: int) -> tuple[dict[ResourceKey, Orphan], int]:
    """The newest that there is room for."""
    kept: dict[ResourceKey, Orphan] = {}
    room = MOST_BYTES
    for orphan in reversed(list(found.values())):
        room -= len(_field(orphan)) + len(json.dumps(asdict(orphan)))
        if room < 0:
            break
        kept[orphan.key] = orphan
    return dict(reversed(kept.items())), left_out + len(found) - len(kept)


class Orphans:
    """The records of one release, of which this operator is the only writer. A record that cannot be written is a line
    of the log: it keeps nobody from being deleted."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._key = ObjectKey("v1", "ConfigMap", namespace, name)
        self._known: dict[ResourceKey, Orphan] | None = None
        self._left_out = 0
        self._turn = asyncio.Lock()

    async def has(self, key: ResourceKey) -> bool:
        """Whether there is a record of it. Raises Unavailable."""
        return key in await self._all()

    async def record(self, orphan: Orphan) -> None:
        """Writes a record, in the place of an older one of the same name. Raises Conflict, Unavailable."""
        async with self._turn:
            known = await self._all()
            before = known.get(orphan.key)
            if before is not None and (before.uid, before.reason) == (orphan.uid, orphan.reason):
                return
            log.warning("data is left: %s", orphan.message, extra={"resource": str(orphan.key), "uid": orphan.uid})
            others = {key: each for key, each in known.items() if key != orphan.key}
            await self._write({**others, orphan.key: replace(orphan, message=truncate(orphan.message, _MESSAGE))})

    async def remove(self, key: ResourceKey) -> None:
        """The data belongs to a resource again, or is gone. Raises Conflict, Unavailable."""
        if key not in await self._all():
            return
        async with self._turn:
            known = await self._all()
            await self._write({other: orphan for other, orphan in known.items() if other != key})

    async def _all(self) -> dict[ResourceKey, Orphan]:
        if self._known is None:
            try:
                self._known, self._left_out = read(await find(self._cluster, self._key, unwatched=True))
            except Forbidden as error:
                log.warning("the records of data that is left cannot be read: %s", error)
                return {}
        return self._known

    async def _write(self, wanted: Mapping[ResourceKey, Orphan]) -> None:
        kept, left_out = bounded(wanted, self._left_out)
        try:
            await self._cluster.apply(config_map(self._key.namespace, self._key.name, kept, left_out))
        except (Forbidden, Invalid, NamespaceTerminating) as error:
            log.warning("the records of data that is left cannot be written: %s", error)
        self._known, self._left_out = kept, left_out


def _field(orphan: Orphan) -> str:
    # None of the three has a dot.
    return f"{orphan.kind}.{orphan.namespace}.{orphan.name}"


def _orphan(text: Any) -> Orphan | None:
    try:
        return Orphan(**json.loads(text))
    except (TypeError, ValueError):
        return None
