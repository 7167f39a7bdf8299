"""`spec.access`: workflows of which namespaces may use an index. Pure: who asks knows the labels of a namespace."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from cortex_kinds.base import Model
from cortex_kinds.cel import Rule
from cortex_kinds.labels import LabelSelector


class AllowedFrom(StrEnum):
    """How the namespaces are chosen."""

    SAME = "Same"
    ALL = "All"
    SELECTOR = "Selector"


class AllowedNamespaces(Model):
    """Namespaces; that of the index is always one of them."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.from == 'Selector') == has(self.selector)",
            "from: Selector needs a selector, Same and All have none",
            ".selector",
        ),
    )

    from_: Annotated[AllowedFrom, Field(alias="from")] = AllowedFrom.SAME
    """Same: the index's own namespace alone. All: every namespace. Selector: also those that `selector` finds."""
    selector: LabelSelector | None = None
    """Namespaces by their labels, with `from: Selector`. One by its name: the label `kubernetes.io/metadata.name`."""


class Access(Model):
    """Who may use the index."""

    allowed_namespaces: AllowedNamespaces = AllowedNamespaces()
    """Where workflows may name the index in their `spec.indexes`."""

    @property
    def others(self) -> LabelSelector | None:
        """The namespaces beside the index's own whose workflows may use it, as a selector of their labels; an empty one
        finds all, None: there are no others."""
        allowed = self.allowed_namespaces
        return LabelSelector() if allowed.from_ is AllowedFrom.ALL else allowed.selector

    def allows(self, namespace: str, labels: Mapping[str, str] | None, *, home: str) -> bool:
        """Whether workflows of a namespace with these labels may use the index, whose namespace is `home`. Labels that
        nobody could read (None) let in by no selector."""
        if namespace == home or self.allowed_namespaces.from_ is AllowedFrom.ALL:
            return True
        return labels is not None and self.others is not None and self.others.matches(labels)
