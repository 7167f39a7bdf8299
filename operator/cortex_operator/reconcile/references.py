"""Secrets and ConfigMaps that a spec names: without them pods cannot start."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cortex_kinds.common import CommonSpec
from cortex_kinds.environment import EnvFrom, EnvVar

from cortex_operator.cluster import Cluster, Object, ObjectKey
from cortex_operator.reconcile.model import MissingReference
from cortex_operator.reconcile.observe import find

_MAKE: Final = {"Secret": "secret generic", "ConfigMap": "configmap"}
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

    def missing_from(self, namespace: str, found: Object | None) -> MissingReference | None:
        """What is missing; None: nothing."""
        if found is not None and (not self.key or _holds(found, self)):
            return None
        make = self.make or _MAKE[self.kind]
        return MissingReference(namespace, self.name, self.key, found is not None, self.example, self.kind, make)


async def find_missing_references(cluster: Cluster, namespace: str, spec: CommonSpec) -> tuple[MissingReference, ...]:
    """What the spec names and is not there, in the spec's order; each object is read once, none while it is
    suspended."""
    if spec.suspend:
        return ()
    wanted = tuple(dict.fromkeys(references(spec)))
    keys = dict.fromkeys(ObjectKey("v1", reference.kind, namespace, reference.name) for reference in wanted)
    objects = {(key.kind, key.name): await find(cluster, key, unwatched=True) for key in keys}
    missing = (reference.missing_from(namespace, objects[reference.kind, reference.name]) for reference in wanted)
    return tuple(one for one in missing if one is not None)


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


def _of_variable(variable: EnvVar) -> Iterator[Reference]:
    if (source := variable.value_from) is not None:
        for kind, ref in (("Secret", source.secret_key_ref), ("ConfigMap", source.config_map_key_ref)):
            if ref is not None and not ref.optional:
                yield Reference(kind, ref.name, ref.key)


def _of_source(source: EnvFrom) -> Iterator[Reference]:
    for kind, ref in (("Secret", source.secret_ref), ("ConfigMap", source.config_map_ref)):
        if ref is not None and not ref.optional:
            yield Reference(kind, ref.name)


def _holds(obj: Object, reference: Reference) -> bool:
    data = obj.get("data") or {}
    if reference.key not in {**data, **(obj.get("binaryData") or {})}:
        return False
    return reference.may_be_empty or _is_filled(data.get(reference.key, ""), obj["kind"])


def _is_filled(value: str, kind: str) -> bool:
    try:
        return bool(base64.b64decode(value, validate=True) if kind == "Secret" else value)
    except (binascii.Error, ValueError):
        return False
