"""Secrets, ConfigMaps and claims of volumes that a spec names: pods cannot start without most of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from cortex_kinds.common import CommonSpec
from cortex_kinds.environment import EnvFrom, EnvVar
from cortex_kinds.index import CortexIndexSpec

from cortex_operator.cluster import ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.reconcile.model import MissingReference, World
from cortex_operator.reconcile.named import Facts
from cortex_operator.reconcile.observe import find

_MAKE: Final = {"Secret": "secret generic", "ConfigMap": "configmap", "PersistentVolumeClaim": ""}
_REGISTRY: Final = "secret docker-registry --docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD"


@dataclass(frozen=True)
class Reference:
    """An object that is named, with `key` if it says one. `example`: a value that shows the form."""

    kind: str
    name: str
    key: str = ""
    example: str = "VALUE"
    make: str = ""
    may_be_empty: bool = True
    optional: bool = False
    """Pods start without it."""
    read: bool = True
    """Pods read it."""
    address: bool = False
    """It is the address of the Lake or of the shared state."""

    def missing_from(self, namespace: str, found: Facts | None) -> MissingReference | None:
        """What is missing; None: nothing."""
        if self.optional:
            return None
        make = self.make or _MAKE[self.kind]
        what = MissingReference(namespace, self.name, self.key, found is not None, self.example, self.kind, make)
        if found is not None and self.address and self.key in found.unreadable:
            return replace(what, unreadable=True)
        if found is not None and (not self.key or self.key in (found.keys if self.may_be_empty else found.filled)):
            return None
        return what


@dataclass(frozen=True)
class Found:
    """What was found of all that a spec names."""

    missing: tuple[MissingReference, ...] = ()
    """In the spec's order."""
    reads: Mapping[str, str | None] = field(default_factory=dict)
    """What pods read (`secret/NAME`), with a digest of it where its changes are to reach them."""
    facts: Mapping[tuple[str, str], Facts | None] = field(default_factory=dict)
    """By kind and name, of what was looked at; None: it is not there."""


async def find_references(world: World, user: ResourceKey, spec: CommonSpec) -> Found:
    """Looks at what the spec of a resource names; at nothing while it is suspended. Each object is read once; one that
    lacks nothing is not read again as long as it is remembered."""
    named = tuple(dict.fromkeys(references(spec)))
    if spec.suspend:
        return Found(reads=_reads(named, {}))
    wanted = tuple(one for one in named if not one.optional or world.named.reloads)
    keys = dict.fromkeys(_object(user, reference) for reference in wanted)
    read = partial(find, world.cluster, unwatched=True)
    found = {(key.kind, key.name): await world.named.look(key, user, read) for key in keys}
    seen = ((one, one.missing_from(user.namespace, found[one.kind, one.name])) for one in wanted)
    missing = [(one, what) for one, what in seen if what is not None]
    for one, _ in missing:
        world.named.forget(_object(user, one))
    return Found(tuple(what for _, what in missing), _reads(named, found), found)


def _object(user: ResourceKey, reference: Reference) -> ObjectKey:
    return ObjectKey("v1", reference.kind, user.namespace, reference.name)


def _reads(named: Iterable[Reference], found: Mapping[tuple[str, str], Facts | None]) -> dict[str, str | None]:
    reads: dict[tuple[str, str], set[str]] = {}
    for one in named:
        if one.read:
            reads.setdefault((one.kind, one.name), set()).add(one.key)
    return {f"{kind.lower()}/{name}": _digest(found.get((kind, name)), keys) for (kind, name), keys in reads.items()}


def _digest(facts: Facts | None, keys: set[str]) -> str | None:
    """Of the values of the keys; of all when one reads the whole object."""
    if facts is None or facts.digests is None:
        return None
    told = {key: value for key, value in facts.digests.items() if "" in keys or key in keys}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def references(spec: CommonSpec) -> Iterator[Reference]:
    """All that it names."""
    lake, state = spec.lake.secret_ref.name, spec.state.secret_ref.name
    dsn = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    yield Reference("Secret", lake, "dsn", dsn, may_be_empty=False, address=True)
    yield Reference("Secret", state, "url", "redis://HOST:6379/0", may_be_empty=False, address=True)
    if spec.ca_bundle is not None:
        kind, ref = spec.ca_bundle.source
        yield Reference(kind, ref.name, ref.key, "CERTIFICATES IN PEM", may_be_empty=False)
    for variable in spec.env or ():
        yield from _of_variable(variable)
    for source in spec.env_from or ():
        yield from _of_source(source)
    for secret in spec.image_pull_secrets or ():
        yield Reference("Secret", secret.name, make=_REGISTRY, read=False)
    if isinstance(spec, CortexIndexSpec) and spec.storage is not None and spec.storage.models is not None:
        yield Reference("PersistentVolumeClaim", spec.storage.models.claim, read=False)


def _of_variable(variable: EnvVar) -> Iterator[Reference]:
    if (source := variable.value_from) is not None:
        for kind, ref in (("Secret", source.secret_key_ref), ("ConfigMap", source.config_map_key_ref)):
            if ref is not None:
                yield Reference(kind, ref.name, ref.key, optional=bool(ref.optional))


def _of_source(source: EnvFrom) -> Iterator[Reference]:
    for kind, ref in (("Secret", source.secret_ref), ("ConfigMap", source.config_map_ref)):
        if ref is not None:
            yield Reference(kind, ref.name, optional=bool(ref.optional))
