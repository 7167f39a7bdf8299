"""Which release's pods a resource has: while it waits for its turn, its pod template and settings stay as they live.

A change of its spec does not wait: it is carried out by the operator's release, as it replaces the pods anyway. What
has no pods does not wait either. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import ConditionType, Reason, get_condition

from cortex_operator.cluster import Object
from cortex_operator.cluster.owned import owned_part
from cortex_operator.manifests import ReleaseSettings
from cortex_operator.manifests.origin import MOVE, RELEASE, SPEC_DIGEST, TEMPLATE_DIGEST, UPDATE, Move
from cortex_operator.manifests.policies import POLICIES_KEY
from cortex_operator.reconcile.finding import Finding, false, true
from cortex_operator.reconcile.model import Observed
from cortex_operator.reconcile.verdict import Verdict

_TYPE: Final = ConditionType.UPDATE_PENDING
Objects = tuple[Object, ...]


def upgraded(observed: Observed, objects: Objects, verdict: Verdict) -> Objects:
    """The objects as they are to be now. A kept ConfigMap goes with a kept template: a pod of the release before that
    starts anew must not read settings of this one."""
    made = _deployment(objects)
    if not _waits(observed, made):
        return tuple(_noted(obj, MOVE, _move(observed, made, verdict)) if obj is made else obj for obj in objects)
    kept = _kept(made, observed.deployment or {})
    settings = made["metadata"]["name"]

    def now(obj: Object) -> Object:
        if obj is made:
            return kept
        is_settings = obj["kind"] == "ConfigMap" and obj["metadata"]["name"] == settings
        return {**obj, "data": _settings(observed.settings or {}, obj["data"])} if is_settings else obj

    return tuple(map(now, objects))


def serving_release(release: ReleaseSettings, objects: Objects) -> ReleaseSettings:
    """The release with the image that the pods have: an ingest Job works beside them."""
    return replace(release, search_image=_deployment(objects)["spec"]["template"]["spec"]["containers"][0]["image"])


def upgrade_finding(observed: Observed, verdict: Verdict) -> Finding:
    """UpdatePending."""
    standing, notes = observed.standing, _notes(observed.deployment)
    release = notes.get(RELEASE)
    if not release or not standing.release:
        return _arrived()
    if release == standing.release:
        return _moving(notes, release, verdict)
    if standing.granted or not _pods(observed.deployment):
        return _arrived()
    if standing.manual:
        message = f"its pods are of release {release}; to move it: {_command(observed.deployment, standing.release)}"
        return true(_TYPE, Reason.WAITING_FOR_APPROVAL, message)
    if standing.halted_by:
        message = f"its pods stay with release {release}: {standing.halted_by} did not become Ready with the next one"
        message += f": {standing.paused}" if standing.paused else ""
        return true(_TYPE, Reason.UPGRADE_HALTED, message)
    message = f"its pods are of release {release}; resources move to {standing.release} one at a time"
    return true(_TYPE, Reason.WAITING_FOR_TURN, message)


def halted_finding(before: CommonStatus) -> Finding | None:
    """UpdatePending of one that cannot be read any more; None: it did not move when it could."""
    told = get_condition(before.conditions, _TYPE)
    return _halted("the operator's release") if told is not None and told.reason == Reason.UPDATING else None


def _moving(notes: dict[str, str], release: str, verdict: Verdict) -> Finding:
    match notes.get(MOVE):
        case Move.MOVING if verdict.reason == Reason.ROLLOUT_PAUSED:
            message = f"its pods are not those of release {release} yet, and no other resource moves to it"
            return true(_TYPE, Reason.UPGRADE_HALTED, f"{message}: {verdict.message}")
        case Move.MOVING if not verdict.stalled or verdict.ready:
            return true(_TYPE, Reason.UPDATING, f"its pods are being replaced by those of release {release}")
        case Move.MOVING | Move.HALTED:
            return _halted(f"release {release}")
    return _arrived()


def _halted(release: str) -> Finding:
    message = (
        f"it did not become Ready with {release}, and no other resource moves to it: mend it, suspend it, or take the "
        "operator back to the release before"
    )
    return true(_TYPE, Reason.UPGRADE_HALTED, message)


def _arrived() -> Finding:
    return false(_TYPE, Reason.ROLLED_OUT, "its pods are of the operator's release")


def _waits(observed: Observed, made: Object) -> bool:
    live = observed.deployment
    if observed.standing.granted or observed.settings is None or not (_pods(live) and _pods(made)):
        return False
    before, after = _notes(live), _notes(made)
    moved = (before.get(name) not in (None, after[name]) for name in (RELEASE, TEMPLATE_DIGEST))
    return all(moved) and before.get(SPEC_DIGEST) == after[SPEC_DIGEST]


def _kept(made: Object, live: Object) -> Object:
    before = _notes(live)
    notes = {**_notes(made), RELEASE: before[RELEASE], TEMPLATE_DIGEST: before[TEMPLATE_DIGEST]}
    spec = {**made["spec"], "template": owned_part(live, "spec", "template")}
    return {**made, "metadata": {**made["metadata"], "annotations": notes}, "spec": spec}


def _settings(live: dict[str, str], made: dict[str, str]) -> dict[str, str]:
    """Those that the pods began with, and the policies of now: pods follow them while they run, whatever their
    release."""
    began = {name: value for name, value in live.items() if name != POLICIES_KEY}
    return {**began, **{name: value for name, value in made.items() if name == POLICIES_KEY}}


def _move(observed: Observed, made: Object, verdict: Verdict) -> str:
    """The annotation MOVE: for one that was Ready, until it is so again."""
    before, after = _notes(observed.deployment), _notes(made)
    if before.get(RELEASE) == after[RELEASE]:
        if MOVE not in before or verdict.ready:
            return ""
        return Move.HALTED if verdict.stalled else Move.MOVING
    by_turn = RELEASE in before and before.get(SPEC_DIGEST) == after[SPEC_DIGEST]
    replaces = before.get(TEMPLATE_DIGEST) != after[TEMPLATE_DIGEST] and _pods(made)
    return Move.MOVING if by_turn and replaces and verdict.ready else ""


def _command(deployment: Object | None, release: str) -> str:
    meta = (deployment or {})["metadata"]
    owner = next(owner for owner in meta["ownerReferences"] if owner.get("controller"))
    what = f"{owner['kind'].lower()} {owner['name']}"
    return f"kubectl -n {meta['namespace']} annotate --overwrite {what} {UPDATE}={release}"


def _noted(obj: Object, name: str, value: str) -> Object:
    if not value:
        return obj
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**_notes(obj), name: str(value)}}}


def _deployment(objects: Objects) -> Object:
    return next(obj for obj in objects if obj["kind"] == "Deployment")


def _pods(deployment: Object | None) -> bool:
    return deployment is not None and deployment["spec"].get("replicas", 1) > 0


def _notes(deployment: Object | None) -> dict[str, str]:
    notes: dict[str, Any] = (deployment or {}).get("metadata", {}).get("annotations") or {}
    return notes
