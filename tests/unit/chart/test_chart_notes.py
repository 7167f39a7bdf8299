"""What `helm install` tells people: how to check and ask, where the Secrets are, and what is open or lost."""

from __future__ import annotations

from typing import Any

import pytest
from helm_chart import TRIAL, notes

OPEN = "The gateway is a ClusterIP Service WITHOUT AUTHENTICATION"
TRIAL_OFF = {"lake": {"persistence": {"enabled": False}}}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, OPEN),
        ({}, "kubectl -n cortex-system port-forward service/datapunk-cortex-api 8001:http 50051:grpc"),
        ({}, "serves all namespaces."),
        ({}, "There are none yet; make them:\n  kubectl -n NAMESPACE create secret generic cortex-lake "),
        ({}, "The gateway has no shared state"),
        ({}, "helm uninstall leaves the CRDs, and every resource with its pods. "),
        ({"crds": {"keep": False}}, "helm uninstall leaves NO CRDs AND NO RESOURCES (crds.keep=false). "),
        ({"crds": {"enabled": False}}, "until they are there, both wait"),
        ({"watchNamespaces": ["team-a"]}, "serves the namespaces team-a."),
        ({"watchNamespaces": ["team-a"]}, "  kubectl -n team-a get cortexindexes,cortexworkflows\n"),
    ],
)
def test_notes(values: dict[str, Any], said: str) -> None:
    assert said in notes(values=values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "a password that is public: set trial.lake.password and trial.state.password."),
        ({"resourceNamespaces": ["team-a"]}, "They are in: team-a. For another namespace:\n"),
        (
            {"resourceNamespaces": ["team-a"]},
            "pods, the Secrets of resourceNamespaces, the trial's volume claims.",
        ),
        ({"trial": TRIAL_OFF}, "documents and runs are LOST with the pod of datapunk-cortex-lake."),
    ],
)
def test_notes_of_a_trial(values: dict[str, Any], said: str) -> None:
    assert said in notes("--values", TRIAL, values=values)


def test_what_does_not_hold_is_not_said() -> None:
    values = {"state": {"existingSecret": "mine"}}
    passwords = {"trial": {"lake": {"password": "not-public"}, "state": {"password": "not-public"}}}

    assert "The gateway has no shared state" not in notes(values=values)
    assert "is public" not in notes("--values", TRIAL, values=passwords)
    assert "LOST" not in notes("--values", TRIAL)
