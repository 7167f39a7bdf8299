"""`spec.network`: with whom pods may speak beside what Cortex needs, as in a NetworkPolicy."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from cortex_kinds.base import Model, Whole
from cortex_kinds.cel import Rule
from cortex_kinds.labels import LabelSelector

PORT_NAME: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"
CIDR_TEXT: Final = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$"
_IS_NUMBER: Final = "string(self.port).matches('^[0-9]+$')"
_NUMBER: Final = "int(string(self.port))"


def _port(value: Any) -> Any:
    match value:
        case str():
            return value
        case int() | float() if not isinstance(value, bool) and value == value // 1:
            return str(int(value))
    raise PydanticCustomError("port_type", "Input should be a port's number or name")


def _cidr(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise PydanticCustomError("cidr", "Input should be a CIDR such as 10.0.0.0/8 or 2001:db8::/32") from None
    return value


CIDR = Annotated[
    str,
    Field(min_length=4, max_length=49, pattern=CIDR_TEXT, json_schema_extra={"format": "cidr"}),
    AfterValidator(_cidr),
]
"""Addresses: `10.0.0.0/8`, `2001:db8::/32`."""
Port = Annotated[
    str,
    Field(
        min_length=1,
        max_length=15,
        pattern=PORT_NAME,
        json_schema_extra={"x-kubernetes-int-or-string": True, "minimum": 1, "maximum": 65535},
    ),
    BeforeValidator(_port),
]
"""A port's number, or the name that it has in the pods. Kept as a string: 443 is "443"."""


class Protocol(StrEnum):
    """What is spoken below."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class PolicyPort(Model):
    """Ports of a protocol."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.port) || !{_IS_NUMBER} || ({_NUMBER} >= 1 && {_NUMBER} <= 65535)",
            "a port is between 1 and 65535",
            ".port",
        ),
        Rule(
            f"!has(self.endPort) || (has(self.port) && {_IS_NUMBER} && {_NUMBER} <= self.endPort)",
            "endPort needs a port that is a number and not above it",
            ".endPort",
        ),
    )

    protocol: Protocol | None = None
    """TCP, UDP or SCTP; unset: TCP."""
    port: Port | None = None
    """A number, or the name that the port has in the pods; unset: every port."""
    end_port: Annotated[int, Field(ge=1, le=65535), Whole] | None = None
    """With a number as `port`: all from that one to this one."""


class IPBlock(Model):
    """Addresses outside of the cluster."""

    cidr: CIDR
    """All of these."""
    except_: Annotated[Annotated[list[CIDR], Field(max_length=16)] | None, Field(alias="except")] = None
    """But for these, which are within."""


class PolicyPeer(Model):
    """Pods by their labels and their namespaces', or addresses."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.ipBlock) != (has(self.podSelector) || has(self.namespaceSelector))",
            "give either ipBlock, or podSelector and namespaceSelector or one of these",
        ),
    )

    pod_selector: LabelSelector | None = None
    """Pods; with `namespaceSelector` those of these namespaces, without it those of the resource's own."""
    namespace_selector: LabelSelector | None = None
    """Namespaces; without `podSelector` all pods of these."""
    ip_block: IPBlock | None = None
    """Addresses outside of the cluster."""


class EgressRule(Model):
    """Where pods may connect to: one of `to`, at one of `ports`."""

    to: Annotated[list[PolicyPeer], Field(max_length=16)] | None = None
    """Peers; unset or empty: any."""
    ports: Annotated[list[PolicyPort], Field(max_length=16)] | None = None
    """Ports; unset or empty: every port."""


class Network(Model):
    """With whom pods may speak, beside what Cortex needs."""

    extra_egress: Annotated[list[EgressRule], Field(max_length=16)] | None = None
    """Where else the pods, those of ingest Jobs too, may connect to; as in a NetworkPolicy."""
