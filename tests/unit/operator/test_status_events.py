"""Which changes of a status are told, and which are not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cortex_kinds.common import CommonStatus
from cortex_kinds.conditions import set_condition
from cortex_operator.reconcile.events import events

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def a_status(generation: int = 1, revision: str = "aaaaaaaaaa", **conditions: str) -> CommonStatus:
    """Conditions as `Ready="True Ready"`: status and reason; the message is the reason in lower case."""
    found = []
    for type, said in conditions.items():
        status, reason = said.split()
        found = set_condition(found, type, status, reason, reason.lower(), generation, NOW)
    return CommonStatus(observed_generation=generation, current_revision=revision, conditions=found)


UNSEEN = CommonStatus()
SERVES = a_status(Ready="True Ready", DependenciesReady="True DependenciesFound", Schedulable="True PodsScheduled")


def told(before: CommonStatus, after: CommonStatus) -> list[tuple[str, str]]:
    return [(notice.type, notice.reason.value) for notice in events(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(SERVES, SERVES, [], id="nothing changed"),
        pytest.param(
            a_status(Ready="False PodsStarting"),
            a_status(Ready="True Ready"),
            [("Normal", "Ready")],
            id="ready",
        ),
        pytest.param(
            a_status(Ready="True Ready"),
            a_status(Ready="False PodsStarting"),
            [("Warning", "NotReady")],
            id="not ready by itself",
        ),
        pytest.param(
            a_status(Ready="True Ready"),
            a_status(2, Ready="False PodsStarting"),
            [("Normal", "Updating")],
            id="not ready after a change of the spec",
        ),
        pytest.param(
            a_status(Ready="True Ready"),
            a_status(2, Ready="False WaitingForFinalizers"),
            [("Normal", "WaitingForFinalizers")],
            id="others hold one that is deleted",
        ),
        pytest.param(
            a_status(Ready="False PodsStarting"),
            a_status(Ready="False Applying"),
            [],
            id="one step of many",
        ),
        pytest.param(
            a_status(Ready="False PodsStarting"),
            a_status(Ready="False PodFailing"),
            [("Warning", "PodFailing")],
            id="a pod fails",
        ),
        pytest.param(
            a_status(Ready="False PodFailing"),
            a_status(Ready="False PodFailing", Stalled="True PodFailing"),
            [("Warning", "Stalled")],
            id="given up",
        ),
        pytest.param(
            a_status(Ready="True Ready"),
            a_status(2, Ready="True ScaledToZero"),
            [("Normal", "ScaledToZero")],
            id="scaled to zero",
        ),
        pytest.param(
            a_status(Ready="True ScaledToZero"),
            a_status(2, Ready="True Ready"),
            [("Normal", "Ready")],
            id="serves after it was scaled to zero",
        ),
        pytest.param(
            a_status(Ready="True Ready"),
            a_status(2, Ready="False PodsStopping", Suspended="True Suspended"),
            [("Normal", "Updating"), ("Normal", "Suspended")],
            id="suspended",
        ),
        pytest.param(
            a_status(Ready="True Suspended", Suspended="True Suspended"),
            a_status(2, Ready="False PodsStarting"),
            [("Normal", "Resumed")],
            id="resumed",
        ),
        pytest.param(
            a_status(Ready="True Ready"),
            a_status(2, Ready="True RevisionBuilding", Reconciling="True RevisionBuilding"),
            [("Normal", "RevisionBuilding")],
            id="a revision is built",
        ),
        pytest.param(
            a_status(Ready="True RevisionBuilding"),
            a_status(revision="bbbbbbbbbb", Ready="True Ready"),
            [("Normal", "RevisionPromoted")],
            id="a revision is promoted",
        ),
        pytest.param(
            a_status(Ready="True RevisionBuilding"),
            a_status(Ready="True IngestFailed", Stalled="True IngestFailed"),
            [("Warning", "RevisionFailed")],
            id="a revision fails",
        ),
        pytest.param(
            a_status(Ready="True RevisionFailed", Stalled="True RevisionFailed"),
            a_status(Ready="True Ready"),
            [("Normal", "Recovered")],
            id="recovered",
        ),
        pytest.param(
            a_status(Ready="False ApplyRefused", Stalled="True ApplyRefused"),
            a_status(Ready="False InvalidSpec", Stalled="True InvalidSpec"),
            [("Warning", "Stalled")],
            id="stalled by something else",
        ),
        pytest.param(
            SERVES,
            a_status(Ready="True Ready", DependenciesReady="False SecretNotFound", Schedulable="True PodsScheduled"),
            [("Warning", "DependencyMissing")],
            id="a Secret is gone",
        ),
        pytest.param(
            a_status(DependenciesReady="False SecretNotFound"),
            a_status(DependenciesReady="False LakeUnreachable"),
            [("Warning", "DependencyMissing")],
            id="another dependency is missing",
        ),
        pytest.param(
            a_status(DependenciesReady="False SecretNotFound"),
            a_status(DependenciesReady="True DependenciesFound"),
            [("Normal", "DependenciesFound")],
            id="nothing is missing any more",
        ),
        pytest.param(
            a_status(DependenciesReady="Unknown Pending", Schedulable="Unknown Pending"),
            a_status(DependenciesReady="True DependenciesFound", Schedulable="True PodsScheduled"),
            [],
            id="what was never missing is not found",
        ),
        pytest.param(
            a_status(Schedulable="Unknown Pending"),
            a_status(Schedulable="False NoMatchingNode"),
            [("Warning", "Unschedulable")],
            id="no node",
        ),
        pytest.param(
            a_status(AutoscalingReady="True ScalingActive"),
            a_status(2, AutoscalingReady="False FailedGetResourceMetric"),
            [("Warning", "AutoscalingFailing")],
            id="the autoscaler has no metrics",
        ),
        pytest.param(
            a_status(AutoscalingReady="True ScalingActive", Schedulable="False Unschedulable"),
            a_status(2, AutoscalingReady="False Suspended", Schedulable="True Suspended", Suspended="True Suspended"),
            [("Normal", "Suspended")],
            id="suspended: what nobody looks at is neither lost nor found",
        ),
        pytest.param(
            a_status(AutoscalingReady="False Suspended", Suspended="True Suspended"),
            a_status(2, AutoscalingReady="True ScalingActive"),
            [("Normal", "Resumed")],
            id="resumed: what was not looked at has not recovered",
        ),
        pytest.param(
            UNSEEN,
            a_status(Ready="False SecretNotFound", DependenciesReady="False SecretNotFound"),
            [("Warning", "DependencyMissing")],
            id="new, and something is missing",
        ),
        pytest.param(
            UNSEEN, a_status(Ready="True Suspended", Suspended="True Suspended"), [], id="new, as it was asked for"
        ),
        pytest.param(
            UNSEEN,
            a_status(Ready="False ApplyRefused", Stalled="True ApplyRefused"),
            [("Warning", "ApplyRefused")],
            id="new, and refused",
        ),
    ],
)
def test_each_change_of_meaning_is_told(
    before: CommonStatus, after: CommonStatus, expected: list[tuple[str, str]]
) -> None:
    assert told(before, after) == expected


def test_a_note_says_the_conditions_reason_and_message() -> None:
    assert events(SERVES, a_status(Ready="False PodFailing"))[0].note == "PodFailing: podfailing"
    assert events(a_status(Ready="False Applying"), SERVES)[0].note == "ready"


def test_a_resumed_one_is_said_to_have_pods_again() -> None:
    suspended = a_status(Ready="True Suspended", Suspended="True Suspended")
    (notice,) = events(suspended, a_status(2, Ready="False PodsStarting"))
    assert notice.note == "it is no longer suspended: its pods are made again, as its spec says"
