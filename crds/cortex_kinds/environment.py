"""`spec.env` and `spec.envFrom`: the environment of the containers, as in a pod."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from cortex_kinds.base import IDENTIFIER, Model
from cortex_kinds.cel import Rule
from cortex_kinds.lists import keyed, unique
from cortex_kinds.references import DataRef, KeyRef

FIELD_PATH: Final = (
    r"^(metadata\.(name|namespace|uid|(labels|annotations)\['[^']{1,317}'\])"
    r"|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs))$"
)
RESOURCE: Final = r"^(requests|limits)\.(cpu|memory|ephemeral-storage)$"
DIVISOR: Final = r"^(1m|1|1k|1M|1G|1T|1P|1E|1Ki|1Mi|1Gi|1Ti|1Pi|1Ei)$"


class FieldRef(Model):
    """A field of the pod."""

    field_path: Annotated[str, Field(min_length=1, max_length=340, pattern=FIELD_PATH)]
    """The field: `metadata.name`, `metadata.labels['team']`, `status.podIP`."""


class ResourceFieldRef(Model):
    """What the container is given."""

    resource: Annotated[str, Field(min_length=1, max_length=32, pattern=RESOURCE)]
    """`limits.cpu`, `requests.memory`."""
    divisor: Annotated[str, Field(min_length=1, max_length=3, pattern=DIVISOR)] | None = None
    """The unit, `1m` or `1Mi`; unset: 1, rounded up."""


class EnvSource(Model):
    """Where a value comes from: one of these."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef), has(self.resourceFieldRef)]"
            ".exists_one(given, given)",
            "a value comes from exactly one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef",
        ),
    )

    secret_key_ref: KeyRef | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyRef | None = None
    """A key of a ConfigMap."""
    field_ref: FieldRef | None = None
    """A field of the pod."""
    resource_field_ref: ResourceFieldRef | None = None
    """What the container is given."""


class EnvVar(Model):
    """A variable."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.name.startsWith('CORTEX_')",
            "variables that begin with CORTEX_ are the operator's: what they say follows from the other fields",
            ".name",
        ),
        Rule("!has(self.value) || !has(self.valueFrom)", "value and valueFrom exclude each other", ".valueFrom"),
    )

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=IDENTIFIER)]
    """Its name; not one that begins with CORTEX_."""
    value: Annotated[str, Field(max_length=8192)] | None = None
    """Its value."""
    value_from: EnvSource | None = None
    """Where its value comes from."""


class EnvFrom(Model):
    """Variables from all keys of a Secret or ConfigMap: one of these."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.secretRef) != has(self.configMapRef)",
            "variables come from exactly one of secretRef and configMapRef",
        ),
        Rule(
            "!has(self.prefix) || !self.prefix.startsWith('CORTEX_')",
            "variables that begin with CORTEX_ are the operator's: what they say follows from the other fields",
            ".prefix",
        ),
    )

    prefix: Annotated[str, Field(min_length=1, max_length=253, pattern=IDENTIFIER)] | None = None
    """Stands before each key."""
    secret_ref: DataRef | None = None
    """A Secret."""
    config_map_ref: DataRef | None = None
    """A ConfigMap."""


Env = Annotated[list[EnvVar], keyed("name", most=64), unique("name")]
"""Variables, told apart by their names."""
EnvSources = Annotated[list[EnvFrom], Field(max_length=16)]
"""Where variables come from; of two with the same name the last one wins."""
