"""What must be there before the operator can work: an API server that answers, its two kinds, and its rights.

Shields the watches from starting into errors that say little.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api, ApiError, Forbidden, NotFound

log = logging.getLogger(__name__)

_GROUP, _, _VERSION = API_VERSION.partition("/")
_KINDS: Final = frozenset({"CortexIndex", "CortexWorkflow"})
_AGAIN: Final = 2.0
_MADE: Final = ("get", "list", "watch", "create", "patch", "delete")
_KEPT: Final = ("get", "list", "watch", "create", "patch")
"""Of what goes with the resource alone."""
_SEEN: Final = ("get", "list", "watch")
RIGHTS: Final = (
    (_GROUP, "cortexindexes", (*_SEEN, "patch")),
    (_GROUP, "cortexworkflows", (*_SEEN, "patch")),
    (_GROUP, "cortexindexes/status", ("patch",)),
    (_GROUP, "cortexworkflows/status", ("patch",)),
    ("apps", "deployments", _MADE),
    ("batch", "jobs", _MADE),
    ("policy", "poddisruptionbudgets", _MADE),
    ("networking.k8s.io", "networkpolicies", _MADE),
    ("autoscaling", "horizontalpodautoscalers", _MADE),
    ("monitoring.coreos.com", "podmonitors", _MADE),
    ("keda.sh", "scaledobjects", _MADE),
    ("resource.k8s.io", "resourceclaimtemplates", _MADE),
    ("", "services", _KEPT),
    ("", "serviceaccounts", _MADE),
    ("", "configmaps", _KEPT),
    ("", "pods", ("list", "watch")),
    ("", "secrets", ("get",)),
    ("", "namespaces", ("get",)),
    ("", "persistentvolumeclaims", ("get",)),
    ("discovery.k8s.io", "endpointslices", ("list", "watch")),
    ("events.k8s.io", "events", ("create", "patch")),
)
"""API group, resource, verbs: what the operator needs in each namespace that it looks at."""
OWN_RIGHTS: Final = (
    ("coordination.k8s.io", "leases", ("create",)),
    ("batch", "jobs", ("get", "list", "create", "patch", "delete")),
    ("", "secrets", ("get", "create", "patch", "delete")),
    ("", "configmaps", ("get", "create", "patch")),
)
"""What it needs in its own namespace: beside the Lease for Jobs that drop data, and for the names of what stays."""
LEASE_RIGHTS: Final = (("coordination.k8s.io", "leases", ("get", "list", "watch", "update")),)
"""What it needs of its own Lease alone; nobody can be let create an object of one name only."""
RELOAD_RIGHTS: Final = (("", "secrets", ("list", "watch")),)
"""What it needs beside RIGHTS to reload pods: whoever may list Secrets may read all of them, whatever their labels."""


class MissingRights(Exception):
    """The operator may not do its work; one line that names what is missing and what to do."""


@dataclass(frozen=True)
class _Right:
    group: str
    resource: str
    verb: str
    namespace: str
    name: str = ""


@dataclass(frozen=True)
class _Found:
    """What is waited for, empty: nothing; then the namespaces that are served."""

    missing: str
    served: tuple[str, ...] = ()


async def prepare(
    api: Api, namespaces: Sequence[str], lease: tuple[str, str], waiting: Callable[[str], None], reload: bool = False
) -> tuple[str, ...]:
    """Returns when the API server serves both kinds and lets the operator do its work in its own namespace, which is
    that of its `lease` (namespace and name): those of `namespaces` (none: all there are) in which it may, too. Tells
    `waiting` and the log for what it waits, once per reason, and the log which it may not work in. `reload`: whether
    pods are to be reloaded. Raises MissingRights, also when it may work in none."""
    told = ""
    while (found := await _look(api, namespaces, lease, reload)).missing:
        if found.missing != told:
            told = found.missing
            waiting(told)
            log.warning("waiting for %s", told)
        await asyncio.sleep(_AGAIN)
    if told:
        log.info("%s is ready: it serves %s", api.server, API_VERSION)
    return found.served


async def may_work(api: Api, namespace: str, reload: bool) -> bool:
    """Whether the operator has all its rights there. Raises ApiError."""
    for right in _wanted(namespace, reload):
        if not await _is_allowed(api, right):
            return False
    return True


def _wanted(namespace: str, reload: bool) -> Iterator[_Right]:
    yield from _rights((*RIGHTS, *RELOAD_RIGHTS) if reload else RIGHTS, namespace)


def _rights(table: Iterable[tuple[str, str, Iterable[str]]], namespace: str, name: str = "") -> Iterator[_Right]:
    for group, resource, verbs in table:
        yield from (_Right(group, resource, verb, namespace, name) for verb in verbs)


async def _served(api: Api, namespaces: Sequence[str], lease: tuple[str, str], reload: bool) -> tuple[str, ...]:
    own, name = lease
    missing = await _refused(api, [*_rights(OWN_RIGHTS, own), *_rights(LEASE_RIGHTS, own, name)])
    places = {each: await _refused(api, [*_wanted(each, reload)]) for each in namespaces or ("",)}
    served = tuple(each for each, refused in places.items() if not refused)
    if missing or not served:
        everywhere = [*missing, *chain.from_iterable(places.values())]
        raise MissingRights(
            f"the operator's rights (RBAC) lack: {'; '.join(_told(everywhere))}; install the chart's roles, or with "
            "rights in some namespaces alone set CORTEX_WATCH_NAMESPACES (value watchNamespaces of the chart) to those"
        )
    for each, refused in places.items():
        if refused:
            log.warning(
                "nothing is served in namespace %s, as the operator's rights (RBAC) lack: %s; install the chart's "
                "roles there (where it was deleted create it, then helm upgrade), or take it out of "
                "CORTEX_WATCH_NAMESPACES (value watchNamespaces of the chart)",
                each,
                "; ".join(_told(refused)),
            )
    return tuple(filter(None, served))


async def _refused(api: Api, wanted: Sequence[_Right]) -> list[_Right]:
    gate = asyncio.Semaphore(8)

    async def allowed(right: _Right) -> bool:
        async with gate:
            return await _is_allowed(api, right)

    answers = await asyncio.gather(*map(allowed, wanted))
    return [right for right, answer in zip(wanted, answers, strict=True) if not answer]


async def _look(api: Api, namespaces: Sequence[str], lease: tuple[str, str], reload: bool) -> _Found:
    try:
        if missing := await _missing_kinds(api):
            return _Found(missing)
        return _Found("", await _served(api, namespaces, lease, reload))
    except Forbidden as error:
        raise MissingRights(f"{api.server} does not let the operator ask: {error.message}") from error
    except ApiError as error:
        return _Found(f"the API server: {error.message}")


async def _missing_kinds(api: Api) -> str:
    crds = "the CustomResourceDefinitions of this release (chart value crds.enabled, or kubectl apply -f crds/)"
    try:
        served = await api.request("GET", f"/apis/{_GROUP}/{_VERSION}")
    except NotFound:
        others = await _other_versions(api)
        return f"{API_VERSION}, of which the cluster serves {others} alone: install {crds}" if others else crds
    lacking = _KINDS - {resource["kind"] for resource in served.get("resources", ())}
    return f"{', '.join(sorted(lacking))}: install {crds}" if lacking else ""


async def _other_versions(api: Api) -> str:
    try:
        group = await api.request("GET", f"/apis/{_GROUP}")
    except NotFound:
        return ""
    return ", ".join(version["version"] for version in group.get("versions", ()))


async def _is_allowed(api: Api, right: _Right) -> bool:
    resource, _, subresource = right.resource.partition("/")
    asked: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {
                "group": right.group,
                "resource": resource,
                "subresource": subresource,
                "verb": right.verb,
                "namespace": right.namespace,
                "name": right.name,
            }
        },
    }
    answer = await api.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=asked)
    return bool(answer.get("status", {}).get("allowed"))


def _told(missing: Sequence[_Right]) -> Iterator[str]:
    places: dict[tuple[str, str], list[str]] = {}
    for right in missing:
        name = f"{right.resource}.{right.group}" if right.group else right.resource
        name += f"/{right.name}" if right.name else ""
        places.setdefault((right.namespace, name), []).append(right.verb)
    for (namespace, name), verbs in places.items():
        yield f"{'/'.join(verbs)} {name} {f'in namespace {namespace}' if namespace else 'in all namespaces'}"
