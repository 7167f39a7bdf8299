"""Targets: what a cluster calls the service of a resource, and the resource behind it.

Shields callers from how Services are named; without a cluster a catalogue finds the same names elsewhere.
"""

from __future__ import annotations

import re
from typing import Final

from cortex_kinds.conditions import Reason

from cortex_workloads.runtime import errors
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW, Catalogue

HEADLESS: Final = "-headless"
"""What the Service's name ends with that names every pod; without it, one address for all."""
_TARGET: Final = re.compile(r"^dns://[^/]*/(?P<service>[^.:/]+)\.(?P<namespace>[^.:/]+)\.svc[^:]*:(?P<port>\d+)$")
_KINDS: Final = {f"-search{HEADLESS}": INDEX, f"-graph{HEADLESS}": WORKFLOW}
_STOPPED: Final = (Reason.SUSPENDED, Reason.SCALED_TO_ZERO)
"""Reasons of a resource that is Ready, as it was asked to run nothing."""


def target(resource: str, kind: str, namespace: str) -> str:
    """The target of a resource's service: `target("papers", INDEX, "default")`."""
    role, port = ("search", 50052) if kind == INDEX else ("graph", 50053)
    return f"dns:///{resource}-{role}-headless.{namespace}.svc:{port}"


def parse(target: str) -> re.Match[str]:
    """Its `service`, `namespace` and `port`. Raises ValueError."""
    match = _TARGET.match(target)
    if match is None:
        raise ValueError(f"{target!r} is not a target: write dns:///SERVICE.NAMESPACE.svc:PORT")
    return match


def name(match: re.Match[str]) -> str:
    """`KIND NAMESPACE/NAME` of the resource behind a target."""
    service, namespace = match["service"], match["namespace"]
    for suffix, kind in _KINDS.items():
        if service.endswith(suffix):
            return f"{kind} {namespace}/{service.removesuffix(suffix)}"
    return f"{service}.{namespace}"


def is_gone(catalogue: Catalogue, target: str) -> bool:
    """Whether the catalogue has neither the resource behind a target nor a pod of it."""
    match = parse(target)
    kind, _, path = name(match).partition(" ")
    namespace, _, resource = path.partition("/")
    if kind not in (INDEX, WORKFLOW) or catalogue.has(kind, namespace, resource):
        return False
    return not catalogue.endpoints(match["service"], namespace)


def unavailable(catalogue: Catalogue | None, name: str, what: str) -> errors.Unavailable:
    """The error for a resource (`KIND NAMESPACE/NAME`) that does not answer, with what its condition Ready says."""
    kind, _, path = name.partition(" ")
    namespace, _, resource = path.partition("/")
    reason, said = "NotReady", ""
    if catalogue is not None and kind in (INDEX, WORKFLOW):
        try:
            ready = catalogue.get(kind, namespace, resource).ready
        except errors.NotFound as error:
            return errors.Unavailable(error.message, remedy=error.remedy, reason=error.reason)
        if ready is not None and (ready.status != "True" or ready.reason in _STOPPED):
            reason, said = ready.reason, f": {ready.reason}: {ready.message}"
    return errors.Unavailable(
        f"{name} {what}{said}",
        reason=reason,
        remedy="try again; its conditions say why: `kubectl describe`, on one machine `cortex status`",
    )
