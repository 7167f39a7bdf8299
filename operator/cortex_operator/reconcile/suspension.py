"""What is said of a suspended resource: nothing of it runs, so nobody is asked and nothing is waited for. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cortex_kinds.conditions import ConditionType, Reason

from cortex_operator.reconcile.finding import Finding, false, true, unknown
from cortex_operator.reconcile.model import Observed
from cortex_operator.reconcile.rollout import Rollout
from cortex_operator.reconcile.verdict import Verdict

_KEPT = "it is suspended: nothing runs, everything is kept; set spec.suspend to false to resume it"


def suspension(observed: Observed, done: Rollout) -> Verdict:
    """Ready once no pod is left: that is what was asked for."""
    if observed.refused:
        return Verdict(False, Reason.APPLY_REFUSED, observed.refused, stalled=True)
    if observed.waits:
        return Verdict(False, Reason.APPLYING, observed.waits, reconciling=True)
    if observed.pods:
        names = ", ".join(sorted(pod["metadata"]["name"] for pod in observed.pods))
        return Verdict(False, Reason.PODS_STOPPING, f"it is being suspended: {names} must end yet", reconciling=True)
    if not done.done:
        return Verdict(False, Reason.APPLYING, "the Deployment is not at zero pods yet", reconciling=True)
    return Verdict(True, Reason.SUSPENDED, _KEPT)


def suspended_findings() -> Iterator[Finding]:
    """The conditions of both kinds but for Ready, Reconciling and Stalled."""
    reason = Reason.SUSPENDED
    yield true(ConditionType.SUSPENDED, reason, _KEPT)
    yield unknown(ConditionType.DEPENDENCIES_READY, reason, "nobody looks while it is suspended")
    yield true(ConditionType.SCHEDULABLE, reason, "it is suspended: there is nothing to place")
    message = "it is suspended: no pod can be asked, the revisions are those seen last"
    yield false(ConditionType.DATA_PLANE_REACHABLE, reason, message)
