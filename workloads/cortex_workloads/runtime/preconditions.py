"""What a call has to meet before a pod looks into it."""

from __future__ import annotations

from datapunk.cortex import common_pb2

from cortex_workloads.runtime.errors import FailedPrecondition, Unavailable
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Resource


def check_resource(served: Resource, asked: common_pb2.ResourceRef) -> None:
    """Raises FailedPrecondition (`WrongResource`) when a call is about another resource than this pod's."""
    if (asked.namespace, asked.name) != (served.namespace, served.name):
        raise FailedPrecondition(
            f"this pod serves the {served.kind} {served.namespace}/{served.name},"
            f" not {asked.namespace or '(no namespace)'}/{asked.name or '(no name)'}",
            remedy=f"ask the Service of that {served.kind}, or name the one that is served here",
            reason="WrongResource",
        )


def not_prepared(lake: Lake) -> Unavailable:
    """The error of a pod that needs its Lake prepared and has not got so far: `Starting`, or why the Lake does not
    answer."""
    if lake.reachable:
        return Unavailable("this pod is starting: it prepares the Lake", remedy="try again", reason="Starting")
    return lake.unavailable()
