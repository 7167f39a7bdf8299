"""The API server's errors as the port's: which of them can be mended how, and what to tell a person.

Shields callers from HTTP statuses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from cortex_kube import client as kube

from cortex_operator.cluster.port import (
    Conflict,
    Forbidden,
    Invalid,
    NamespaceTerminating,
    NotFound,
    ObjectKey,
    Unauthorized,
    Unavailable,
)

# What the RBAC authorizer says; other refusals of status 403 are of admission (quotas, policies).
_RBAC: Final = re.compile(
    r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)


@dataclass(frozen=True)
class Asker:
    """How errors that are about who asks are told to whom they help. `{what}`: the object, `{told}`: the API server's
    own words."""

    unknown: str
    denied: str
    """`{right}`: what may not be done."""
    nowhere: str
    """`{namespace}`: which one is not there."""


OPERATOR: Final = Asker(
    "{what}: the API server does not know the operator's credentials (401): {told}",
    "may not {right}; grant it to the operator (RBAC): {told}",
    "{what}: there is no namespace {namespace}",
)
USER: Final = Asker(
    "the API server does not know the credentials of this kubeconfig (401): log in anew, or choose others "
    "(--kubeconfig, --context)",
    "you may not {right} (RBAC)",
    "{what}: there is no namespace {namespace}: create it (kubectl create namespace {namespace}), or add it to the "
    "files",
)
"""Who runs a command with a kubeconfig."""


@contextmanager
def translated(what: object, asker: Asker = OPERATOR) -> Iterator[None]:
    """Raises the port's errors for the client's; `what` names the object for those that do not."""
    try:
        yield
    except kube.NotFound as error:
        raise _absent(error, what, asker) from error
    except kube.Forbidden as error:
        raise _forbidden(error, what, asker) from error
    except kube.Conflict as error:
        raise Conflict(f"{what}: {error.message}") from error
    except (kube.Unavailable, kube.Gone) as error:
        raise Unavailable(error.message, error.retry_after) from error
    except kube.ApiError as error:
        raise Invalid(f"{what}: {error.message}") from error


def _absent(error: kube.ApiError, what: object, asker: Asker) -> Exception:
    itself = isinstance(what, ObjectKey) and what.kind == "Namespace"
    if error.details.get("kind") == "namespaces" and not itself:
        return NamespaceTerminating(asker.nowhere.format(what=what, namespace=error.details.get("name", "")))
    if not error.reason:
        return NotFound(f"{what}: the cluster does not know this kind; install its CustomResourceDefinition")
    return NotFound(f"{what} is not there")


def _forbidden(error: kube.ApiError, what: object, asker: Asker) -> Exception:
    if "NamespaceTerminating" in _causes(error):
        return NamespaceTerminating(f"{what}: its namespace is being deleted")
    if error.status == 401:
        return Unauthorized(asker.unknown.format(what=what, told=error.message))
    found = _RBAC.search(error.message)
    if found is None:
        return Invalid(f"{what} is refused: {error.message}")
    resource = f"{found['resource']}.{found['group']}" if found["group"] else found["resource"]
    where = f"in namespace {found['namespace']}" if found["namespace"] else "in all namespaces"
    right = f"{found['verb']} {resource}"
    return Forbidden(asker.denied.format(right=f"{right} {where}", told=error.message), right)


def _causes(error: kube.ApiError) -> set[Any]:
    return {cause.get("reason") for cause in error.details.get("causes") or ()}
