"""Labels and selectors over them, as Kubernetes has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from cortex_kinds.base import Model
from cortex_kinds.cel import Rule

LABEL_KEY: Final = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"

LabelKey = Annotated[str, Field(min_length=1, max_length=317, pattern=LABEL_KEY)]
"""The name of a label, with or without a prefix: `zone`, `topology.kubernetes.io/zone`."""
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]
"""The value of a label."""


class LabelOperator(StrEnum):
    """How a label is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


_HOLDS: Final[dict[LabelOperator, Callable[[str | None, list[str]], bool]]] = {
    LabelOperator.IN: lambda found, values: found in values,
    LabelOperator.NOT_IN: lambda found, values: found not in values,
    LabelOperator.EXISTS: lambda found, _: found is not None,
    LabelOperator.DOES_NOT_EXIST: lambda found, _: found is None,
}


class LabelRequirement(Model):
    """What one label must say."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "In and NotIn need values, Exists and DoesNotExist have none",
            ".values",
        ),
    )

    key: LabelKey
    """The label."""
    operator: LabelOperator
    """How it is compared."""
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = None
    """What it is compared with."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels meets it."""
        return _HOLDS[self.operator](labels.get(self.key), self.values or [])


class LabelSelector(Model):
    """Objects by their labels; all that is said here must hold. Empty: every object."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] | None = None
    """Labels and their values."""
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] | None = None
    """What else labels must say."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is one of them."""
        wanted = (self.match_labels or {}).items()
        return wanted <= labels.items() and all(each.matches(labels) for each in self.match_expressions or ())
