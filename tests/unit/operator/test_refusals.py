"""What an API server refuses, in words for whom they help: the operator's platform team, or who runs a command."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_kube.client import ApiError
from cortex_kube.errors import from_status
from cortex_operator.cluster import Forbidden, Invalid, NamespaceTerminating, NotFound, ObjectKey, Unauthorized
from cortex_operator.cluster.refusals import OPERATOR, USER, Asker, translated

PAPERS = ObjectKey("cortex.datapunk.io/v1alpha1", "CortexIndex", "team-a", "papers")
LISTING = 'pods is forbidden: User "eve" cannot list resource "pods" in API group "" in the namespace "team-a"'
NOWHERE = {"name": "team-a", "kind": "namespaces"}


def told(status: int, asker: Asker, **body: Any) -> Exception:
    with pytest.raises((RuntimeError, ValueError, OSError, LookupError)) as caught, translated(PAPERS, asker):
        raise from_status(body, status, "GET /")
    assert isinstance(caught.value.__cause__, ApiError)
    return caught.value


def test_a_right_that_is_missing_is_the_operators_or_the_users() -> None:
    found = told(403, OPERATOR, message=LISTING, reason="Forbidden")
    assert isinstance(found, Forbidden)
    assert str(found) == f"may not list pods in namespace team-a; grant it to the operator (RBAC): {LISTING}"
    assert (
        str(told(403, USER, message=LISTING, reason="Forbidden")) == "you may not list pods in namespace team-a (RBAC)"
    )
    assert isinstance(told(403, USER, message="exceeded quota"), Invalid)


@pytest.mark.parametrize("asker", [OPERATOR, USER])
def test_credentials_that_are_not_known_are_no_missing_right(asker: Asker) -> None:
    found = told(401, asker, message="Unauthorized", reason="Unauthorized")
    assert isinstance(found, Unauthorized)
    assert "the API server does not know" in str(found)
    assert "(401)" in str(found)
    assert ("the operator's" in str(found)) is (asker is OPERATOR)


def test_a_namespace_that_is_not_there_is_not_said_to_be_gone() -> None:
    absent = {"message": 'namespaces "team-a" not found', "reason": "NotFound", "details": NOWHERE}
    found = told(404, OPERATOR, **absent)
    assert isinstance(found, NamespaceTerminating)
    assert str(found) == f"{PAPERS}: there is no namespace team-a"
    assert str(told(404, USER, **absent)) == (
        f"{PAPERS}: there is no namespace team-a: create it (kubectl create namespace team-a), or add it to the files"
    )
    assert isinstance(told(404, USER, message="not found", reason="NotFound"), NotFound)
