"""What a cleanup Job connects with, of resources whose data is to be dropped.

Shields their deletion from Secrets that go first, as they do when a whole namespace is deleted. The values are kept in
memory alone, for as long as the resource is there under `deletionPolicy: Delete`.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Iterator
from typing import Final

from cortex_kinds.common import CommonSpec

from cortex_operator.cluster import Cluster, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.cleanup import CERTIFICATES, DSN, URL
from cortex_operator.reconcile.observe import find

_FRESH_SECONDS: Final = 60.0

Values = dict[str, str]
"""DSN, URL, CERTIFICATES -> value; what is not known is left out."""
_Source = tuple[str, ObjectKey, str]
"""Which value, the object that holds it, and under which key."""


class Credentials:
    """The values read last."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster, self._clock = cluster, clock
        self._known: dict[ResourceKey, tuple[float, tuple[_Source, ...], Values]] = {}

    async def remember(self, key: ResourceKey, spec: CommonSpec) -> None:
        """Reads them, unless that was done in the last minute for the same spec. Raises Forbidden, Unavailable."""
        asked, sources, values = self._known.get(key, (0.0, (), {}))
        wanted = tuple(_sources(key.namespace, spec))
        if sources != wanted or self._clock() - asked > _FRESH_SECONDS or DSN not in values:
            self._known[key] = (self._clock(), wanted, await self.look(key, spec))

    async def look(self, key: ResourceKey, spec: CommonSpec) -> Values:
        """The values as they are, and for what is not there any more as they were. Raises Forbidden, Unavailable."""
        _, sources, values = self._known.get(key, (0.0, (), {}))
        wanted = tuple(_sources(key.namespace, spec))
        # Those of another Secret are not to be used where the spec names a new one.
        found: Values = dict(values) if sources == wanted else {}
        for name, at, field in wanted:
            if value := _value(await find(self._cluster, at, unwatched=True), field):
                found[name] = value
        return found

    def forget(self, key: ResourceKey) -> None:
        """They are not needed any more."""
        self._known.pop(key, None)


def _sources(namespace: str, spec: CommonSpec) -> Iterator[_Source]:
    yield DSN, ObjectKey("v1", "Secret", namespace, spec.lake.secret_ref.name), "dsn"
    yield URL, ObjectKey("v1", "Secret", namespace, spec.state.secret_ref.name), "url"
    if spec.ca_bundle is not None:
        kind, ref = spec.ca_bundle.source
        yield CERTIFICATES, ObjectKey("v1", kind, namespace, ref.name), ref.key


def _value(obj: Object | None, field: str) -> str:
    text = str(((obj or {}).get("data") or {}).get(field, ""))
    if obj is None or obj["kind"] != "Secret":
        return text
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
