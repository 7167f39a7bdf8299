"""What the release says about the network of its resources' pods: who its own pods are, and what else is allowed."""

from __future__ import annotations

from typing import Annotated, Any, Final

from cortex_kinds.base import Model, Name
from cortex_kinds.network import CIDR, EgressRule
from pydantic import Field

PortNumber = Annotated[int, Field(ge=1, le=65535)]


def _pods(component: str) -> dict[str, str]:
    """The labels of the chart's pods, for a release called "cortex"."""
    return {
        "app.kubernetes.io/name": "datapunk-cortex",
        "app.kubernetes.io/instance": "cortex",
        "app.kubernetes.io/component": component,
    }


class Resolver(Model):
    """Where names are looked up."""

    namespaces: tuple[Name, ...] = ("kube-system", "openshift-dns")
    """Namespaces of the cluster's DNS pods."""
    ports: tuple[PortNumber, ...] = (53, 5353)
    """Ports of these pods, UDP and TCP."""
    cidrs: tuple[CIDR, ...] = ("169.254.20.10/32",)
    """Addresses of a cache on the node."""


class Isolation(Model):
    """Whether resources get NetworkPolicies, and what these allow beside what the resources need."""

    enabled: bool = True
    """Whether there are any."""
    gateway: dict[str, str] = _pods("gateway")
    """Labels of the gateway's pods, which are in the operator's namespace."""
    operator: dict[str, str] = _pods("operator")
    """Labels of the operator's pods."""
    monitoring_namespaces: tuple[Name, ...] = ("monitoring",)
    """Namespaces whose pods may read the metrics."""
    dns: Resolver = Resolver()
    """Where names are looked up."""
    extra_egress: tuple[EgressRule, ...] = ()
    """Where else the pods of every resource may connect to."""


NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
"""The API server gives it to every namespace: its name."""


def in_namespaces(*names: str) -> dict[str, Any]:
    """A selector of namespaces by their names."""
    if len(names) == 1:
        return {"matchLabels": {NAMESPACE_LABEL: names[0]}}
    return {"matchExpressions": [{"key": NAMESPACE_LABEL, "operator": "In", "values": [*names]}]}
