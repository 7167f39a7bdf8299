"""What is said of the indexes that a workflow names: IndexReady, and their part in DependenciesReady. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cortex_kinds.conditions import ConditionType, Reason

from cortex_operator.cluster import Object
from cortex_operator.reconcile.finding import Finding, false, true
from cortex_operator.reconcile.serving import is_leaving, why_not_serving
from cortex_operator.reconcile.workflow.observe import ObservedWorkflow

OF_INDEXES: Final = frozenset(
    {Reason.INDEX_NOT_FOUND, Reason.INDEX_NOT_ALLOWED, Reason.INDEX_TERMINATING, Reason.INDEX_NOT_READY}
)
"""Reasons that end when an index changes, which wakes the workflow; or the labels of its namespace."""


def index_findings(observed: ObservedWorkflow) -> tuple[Finding, ...]:
    """IndexReady, where the spec names an index."""
    if not observed.resource.spec.indexes:
        return ()
    if (problem := index_problem(observed)) is not None:
        return (false(ConditionType.INDEX_READY, *problem),)
    return (true(ConditionType.INDEX_READY, Reason.READY, "every index that it names answers"),)


def index_problem(observed: ObservedWorkflow) -> tuple[Reason, str] | None:
    """Reason and message when an index is not there, not for this namespace, or does not serve; None: all do."""
    found = list(_problems(observed))
    return (found[0][0], "; ".join(message for _, message in found)) if found else None


def _problems(observed: ObservedWorkflow) -> Iterator[tuple[Reason, str]]:
    own, uses = observed.resource.metadata.namespace, observed.resource.spec.indexes
    absent = [use for use in uses if observed.indexes[use.name] is None]
    if here := [use.name for use in absent if use.home(own) == own]:
        message = f"CortexIndex {', '.join(here)} is not in this namespace; create it, or correct spec.indexes"
        yield Reason.INDEX_NOT_FOUND, message
    if elsewhere := [f"{use.namespace}/{use.name}" for use in absent if use.home(own) != own]:
        yield Reason.INDEX_NOT_ALLOWED, _not_allowed(", ".join(elsewhere), own, observed.unread)
    for use in uses:
        if (index := observed.indexes[use.name]) is not None:
            yield from _of_one(index, use.name if use.home(own) == own else f"{use.namespace}/{use.name}")


def _not_allowed(names: str, own: str, unread: str) -> str:
    message = (
        f"there is no CortexIndex {names} that namespace {own} may use; it has to be there and let this namespace in "
        f"by its spec.access.allowedNamespaces"
    )
    return f"{message} ({unread})" if unread else message


def _of_one(index: Object, name: str) -> Iterator[tuple[Reason, str]]:
    if why := why_not_serving(index, name):
        yield Reason.INDEX_TERMINATING if is_leaving(index) else Reason.INDEX_NOT_READY, why
