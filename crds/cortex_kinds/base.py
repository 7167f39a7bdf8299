"""What every model of the kinds has in common: camelCase on the wire, no unknown fields, bounded types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from cortex_kinds.cel import Rule

GROUP: Final = "cortex.datapunk.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

MAX_DEPTH: Final = 100
"""Levels of a manifest: of what is nested more deeply, readers of every kind run out of stack."""
DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
IDENTIFIER: Final = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
MOST_WHOLE: Final = 2**53 - 1
"""The largest whole number that JSON carries safely."""
DURATION: Final = r"^([1-9][0-9]{0,5}h)?([1-9][0-9]{0,5}m)?([1-9][0-9]{0,5}s)?([1-9][0-9]{0,5}ms)?$"


def _number(value: Any) -> Any:
    # pydantic would take "8" and true for integers; the API server does not.
    if isinstance(value, str | bool):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


def _quantity(value: Any) -> Any:
    match value:
        case str():
            return value
        case int() | float() if not isinstance(value, bool) and value == value // 1 and value <= MOST_WHOLE:
            return str(int(value))
    raise PydanticCustomError("quantity_type", "Input should be a string or a whole number")


def _bounded(spec: Any) -> Any:
    if is_deeper(spec, MAX_DEPTH - 1):
        raise PydanticCustomError(
            "too_deep", "values are nested too deeply: at most {most} levels", {"most": MAX_DEPTH}
        )
    return spec


def is_deeper(value: Any, levels: int) -> bool:
    """Whether a value is nested in more levels than that."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [child for each in layer for child in _children(each)]
        if not layer:
            return False
    return True


def _children(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


Bounded: Final = BeforeValidator(_bounded)
"""For the spec of a kind, which has values of any form: they are nested in `MAX_DEPTH` levels at most."""
Whole: Final = BeforeValidator(_number)
"""For whole numbers: 8.0 is one (google.protobuf.Struct has no other numbers), "8" is not. Stands after the bounds."""
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
"""A DNS label, as Kubernetes wants names."""
NodeName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-_a-zA-Z0-9]*[a-zA-Z0-9])?$")]
"""The name of a node of a graph."""
StateKey = Annotated[str, Field(min_length=1, max_length=63, pattern=IDENTIFIER)]
"""A key of a workflow's state, so that CEL can say `state.KEY`."""
Expression = Annotated[str, Field(min_length=1, max_length=1024)]
"""A CEL expression over `state`."""
Quantity = Annotated[str, Field(min_length=1, max_length=32, pattern=QUANTITY)]
"""A Kubernetes quantity: `500m`, `4Gi`."""
ResourceQuantity = Annotated[
    str,
    Field(
        min_length=1,
        max_length=32,
        pattern=QUANTITY,
        json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 0, "maximum": MOST_WHOLE},
    ),
    BeforeValidator(_quantity),
]
"""A quantity of a container's resources: as in a pod, a whole number is one too. Kept as a string: 2 is "2"."""
Duration = Annotated[str, Field(min_length=2, max_length=32, pattern=DURATION)]
"""A duration above zero: `500ms`, `10s`, `1h30m`."""


class BrokenRules(ValueError):
    """A value that breaks rules of its model."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        super().__init__("; ".join(rule.message for rule in rules))
        self.rules = rules


class Model(BaseModel):
    """Base of all models: camelCase aliases, unknown fields refused, immutable; null is the same as left out.

    `rules` are what the API server checks too: the CRD carries them as `x-kubernetes-validations`.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    def to_manifest(self) -> dict[str, Any]:
        """The model as it stands in a manifest: camelCase, defaults filled in, nothing that is unset."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        manifest = self.to_manifest() if self.rules else {}
        if broken := tuple(rule for rule in self.rules if not rule.holds(manifest)):
            raise BrokenRules(broken)
        return self


_DURATION_PART: Final = re.compile(r"([0-9]+)(ms|h|m|s)")
_DURATION_UNIT: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def parse_duration(text: str) -> timedelta:
    """`1h30m` -> timedelta. Raises ValueError for what does not match DURATION."""
    if not text or not re.fullmatch(DURATION, text):
        raise ValueError(f"{text!r} is not a duration: write 500ms, 10s, 5m or 1h30m")
    return timedelta(seconds=sum(int(n) * _DURATION_UNIT[u] for n, u in _DURATION_PART.findall(text)))


_QUANTITY_UNIT: Final = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def parse_quantity(text: str) -> float:
    """`500m` -> 0.5, `1Ki` -> 1024.0. Raises ValueError for what does not match QUANTITY."""
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text)
    if match is None or not re.fullmatch(QUANTITY, text):
        raise ValueError(f"{text!r} is not a quantity: write 500m, 2, 512Mi or 4Gi")
    return float(match[1]) * _QUANTITY_UNIT[match[2]]
