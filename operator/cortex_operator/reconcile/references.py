"""Secrets, ConfigMaps and PersistentVolumeClaims that a spec names: without them pods cannot start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from cortex_kinds.common import CommonSpec
from cortex_kinds.environment import EnvFrom, EnvVar
from cortex_kinds.index import CortexIndexSpec

from cortex_operator.cluster import ObjectKey
from cortex_operator.reconcile.model import MissingReference, World
from cortex_operator.reconcile.named import Facts
from cortex_operator.reconcile.observe import find

_MAKE: Final = {"Secret": "secret generic", "ConfigMap": "configmap", "PersistentVolumeClaim": ""}
_REGISTRY: Final = "secret docker-registry --docker-server=REGISTRY --docker-username=USER --docker-password=PASSWORD"


@dataclass(frozen=True)
class Reference:
    """An object that must be there, with `key` if it says one. `example`: a value that shows the form."""

    kind: str
    name: str
    key: str = ""
    example: str = "VALUE"
    make: str = ""
    may_be_empty: bool = True

    def missing_from(self, namespace: str, found: Facts | None) -> MissingReference | None:
        """What is missing; None: nothing."""
        if found is not None and (not self.key or self.key in (found.keys if self.may_be_empty else found.filled)):
            return None
        make = self.make or _MAKE[self.kind]
        return MissingReference(namespace, self.name, self.key, found is not None, self.example, self.kind, make)


async def find_missing_references(world: World, namespace: str, spec: CommonSpec) -> tuple[MissingReference, ...]:
    """What the spec names and is not there, in the spec's order; none while it is suspended. Each object is read once;
    one that lacks nothing is not read again as long as it is remembered."""
    if spec.suspend:
        return ()
    wanted = tuple(dict.fromkeys(references(spec)))
    keys = dict.fromkeys(ObjectKey("v1", reference.kind, namespace, reference.name) for reference in wanted)
    read = partial(find, world.cluster, unwatched=True)
    found = {(key.kind, key.name): await world.named.look(key, read) for key in keys}
    seen = (reference.missing_from(namespace, found[reference.kind, reference.name]) for reference in wanted)
    missing = tuple(one for one in seen if one is not None)
    for one in missing:
        world.named.forget(ObjectKey("v1", one.kind, namespace, one.name))
    return missing


def references(spec: CommonSpec) -> Iterator[Reference]:
    """All that must be there; what is optional is left out."""
    lake, state = spec.lake.secret_ref.name, spec.state.secret_ref.name
    dsn = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    yield Reference("Secret", lake, "dsn", dsn, may_be_empty=False)
    yield Reference("Secret", state, "url", "redis://HOST:6379/0", may_be_empty=False)
    if spec.ca_bundle is not None:
        kind, ref = spec.ca_bundle.source
        yield Reference(kind, ref.name, ref.key, "CERTIFICATES IN PEM", may_be_empty=False)
    for variable in spec.env or ():
        yield from _of_variable(variable)
    for source in spec.env_from or ():
        yield from _of_source(source)
    for secret in spec.image_pull_secrets or ():
        yield Reference("Secret", secret.name, make=_REGISTRY)
    if isinstance(spec, CortexIndexSpec) and spec.storage is not None and spec.storage.models is not None:
        yield Reference("PersistentVolumeClaim", spec.storage.models.claim)


def _of_variable(variable: EnvVar) -> Iterator[Reference]:
    if (source := variable.value_from) is not None:
        for kind, ref in (("Secret", source.secret_key_ref), ("ConfigMap", source.config_map_key_ref)):
            if ref is not None and not ref.optional:
                yield Reference(kind, ref.name, ref.key)


def _of_source(source: EnvFrom) -> Iterator[Reference]:
    for kind, ref in (("Secret", source.secret_ref), ("ConfigMap", source.config_map_ref)):
        if ref is not None and not ref.optional:
            yield Reference(kind, ref.name)
