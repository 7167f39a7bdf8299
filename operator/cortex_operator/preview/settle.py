"""Passes over resources until none writes anything any more, and what they changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from cortex_operator.cluster import ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.preview.changes import Action, FieldChange, ObjectChange, action_of, field_changes, handed_over
from cortex_operator.preview.sandbox import Sandbox, Touched
from cortex_operator.reconcile import Reconciler, World

ROUNDS: Final = 8
"""More passes than any change needs."""
Changes = dict[ObjectKey, ObjectChange]


class Unsettled(RuntimeError):
    """The passes do not come to an end."""


async def settle(sandbox: Sandbox, worlds: Mapping[ResourceKey, World]) -> dict[ResourceKey, Changes]:
    """By whose pass it was: what changed since `sandbox`, which is the cluster of all `worlds`, was live. Raises
    Unsettled, Unavailable."""
    now = datetime.now(UTC)
    passes = {key: Reconciler(world, now=lambda: now) for key, world in worlds.items()}
    for _ in range(ROUNDS):
        written = sandbox.writes
        for sandbox.actor, reconcile in passes.items():
            await reconcile(sandbox.actor)
        if sandbox.writes == written:
            return {key: _changes(sandbox, key) for key in worlds}
    raise Unsettled(
        f"no end after {ROUNDS} passes over {', '.join(map(str, worlds))}; this is a defect of the operator"
    )


def _changes(sandbox: Sandbox, actor: ResourceKey) -> Changes:
    mine = {key: touched for key, touched in sandbox.touched.items() if touched.actor == actor}
    found = {key: _change(sandbox, key, touched) for key, touched in sorted(mine.items())}
    return {key: change for key, change in found.items() if change is not None}


def _change(sandbox: Sandbox, key: ObjectKey, touched: Touched) -> ObjectChange | None:
    before, after = touched.before, sandbox.state(key)
    if after is not None and "deletionTimestamp" in after["metadata"]:
        after = None
    action = action_of(before, after)
    if before is None or after is None:
        return None if action is Action.NONE else ObjectChange(action, key, unsure=sandbox.is_hidden(key))
    fields = field_changes(before, after) or handed_over(touched.owned, sandbox.owned(key), after)
    if before["metadata"]["uid"] != after["metadata"]["uid"]:
        fields = (FieldChange("metadata.uid", before["metadata"]["uid"], "(made anew)"), *fields)
    return ObjectChange(Action.CHANGE, key, fields) if fields else None
