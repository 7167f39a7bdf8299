"""Which indexes a workflow may use, and which workflows use an index: looks at both ends of `spec.access`.

Shields a namespace from what it may not know: of an index that does not let it in it hears the same as of none.
"""

from __future__ import annotations

from collections.abc import Mapping

from cortex_kinds.access import Access
from cortex_kinds.base import API_VERSION
from cortex_kinds.index import MOST_USERS, CortexIndex, IndexUser
from cortex_kinds.workflow import CortexWorkflow, IndexUse
from pydantic import ValidationError

from cortex_operator.cluster import Forbidden, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.reconcile.model import World
from cortex_operator.reconcile.observe import find

_Labels = Mapping[str, str] | None


async def find_indexes(world: World, workflow: CortexWorkflow) -> tuple[dict[str, Object | None], str]:
    """The indexes of the spec by name, None: not there, or not for this namespace; and what could not be read to tell,
    as a sentence, empty: nothing. Raises Forbidden (for its own namespace), Unavailable."""
    own = workflow.metadata.namespace
    found: dict[str, Object | None] = {}
    unread: dict[str, None] = {}
    for use in workflow.spec.indexes:
        if use.home(own) == own:
            found[use.name] = await find(world.cluster, _key(use, own))
            continue
        found[use.name], why = await _find_elsewhere(world, use, own)
        unread |= {why: None} if why else {}
    return found, "; ".join(unread)


async def find_users(world: World, index: CortexIndex) -> tuple[IndexUser, ...]:
    """The workflows that name the index and may use it. Raises Unavailable."""
    home, access = index.metadata.namespace, index.spec.access
    by_labels = access.allowed_namespaces.selector is not None
    found: list[IndexUser] = []
    for user in world.uses.users(ResourceKey(index.kind, home, index.metadata.name)):
        asked = by_labels and user.namespace != home
        labels, _ = await _labels(world, user.namespace) if asked else (None, "")
        if access.allows(user.namespace, labels, home=home):
            found.append(IndexUser(namespace=user.namespace, name=user.name))
        if len(found) == MOST_USERS:
            break
    return tuple(found)


async def _find_elsewhere(world: World, use: IndexUse, own: str) -> tuple[Object | None, str]:
    # The namespace's own labels are read first, whether there is such an index or not: what cannot be read tells
    # nothing of it.
    labels, unread = await _labels(world, own)
    try:
        index = await find(world.cluster, _key(use, own))
    except Forbidden:
        return None, f"the operator does not serve namespace {use.namespace}"
    lets_in = index is not None and _access(index).allows(own, labels, home=use.home(own))
    return (index, "") if lets_in else (None, unread)


async def _labels(world: World, namespace: str) -> tuple[_Labels, str]:
    """The labels of a namespace, as they were a moment ago; None: they may not be read, and why."""

    async def look() -> Mapping[str, str]:
        found = await find(world.cluster, ObjectKey("v1", "Namespace", "", namespace))
        # Locally namespaces are names alone.
        return {"kubernetes.io/metadata.name": namespace, **((found or {}).get("metadata", {}).get("labels") or {})}

    try:
        return await world.labels.get(namespace, look), ""
    except Forbidden as error:
        return None, f"the labels of namespace {namespace} cannot be read, which a selector there may ask for: {error}"


def _access(index: Object) -> Access:
    """Whom it lets in; nobody when that cannot be understood."""
    try:
        return Access.model_validate(index.get("spec", {}).get("access") or {})
    except ValidationError:
        return Access()


def _key(use: IndexUse, own: str) -> ObjectKey:
    return ObjectKey(API_VERSION, "CortexIndex", use.home(own), use.name)
