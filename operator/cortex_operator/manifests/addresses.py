"""Hosts and ports of the addresses that workloads are given: of the Lake, the shared state, the receiver of traces.

Shields the policies from how libpq and redis read what a Secret holds. Nothing but host and port comes out of here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

POSTGRES: Final = 5432
REDIS: Final = 6379
OTLP: Final = 443
"""What gRPC takes where no port is given."""
_SVC: Final = "svc"
_DSN: Final = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?([^/?]*)[^?@]*(?:\?(.*))?", re.DOTALL)
_PAIR: Final = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)
_HOST_PORT: Final = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::(.*))?", re.DOTALL)
_HOST: Final = re.compile(r"[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9.])?|[0-9A-Fa-f:.]+")
"""A part of a password that was not written as %40 and so on is none, and must not come out of here."""


@dataclass(frozen=True, order=True)
class Address:
    """A name or an IP address, and a TCP port."""

    host: str
    port: int

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host, when it is an IP address."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_own(self) -> bool:
        """Whether it is the pod itself: no policy is asked."""
        return self.host == "localhost" or (self.ip is not None and self.ip.is_loopback)

    def service(self, namespace: str) -> tuple[str, str] | None:
        """Namespace and name of the Service that the host would be for a pod of `namespace`; None: it can be none."""
        labels = self.host.rstrip(".").lower().split(".")
        if self.ip is not None or not all(labels):
            return None
        if _SVC in labels[2:4]:
            at = labels.index(_SVC, 2)
            return labels[at - 1], labels[at - 2]
        match labels:
            case [name]:
                return namespace, name
            case [name, other]:
                return other, name
        return None

    @property
    def is_of_cluster(self) -> bool:
        """Whether the host can be nothing else than a Service: a single name, or one with `svc` where it belongs."""
        labels = self.host.rstrip(".").lower().split(".")
        return len(labels) == 1 or _SVC in labels[2:4]


def lake_addresses(dsn: str) -> tuple[Address, ...]:
    """The servers of a PostgreSQL connection string, as a URL or as `host=... port=...`; none when libpq could not
    read it, or when they are sockets of the pod's own."""
    options = _options(dsn.strip())
    hosts = _list(options.get("hostaddr") or options.get("host", ""))
    ports = _list(options.get("port", ""))
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        return ()
    return _addresses(zip(hosts, ports, strict=True), POSTGRES)


def state_addresses(url: str) -> tuple[Address, ...]:
    """The server of a redis:// or rediss:// URL; none when it cannot be read."""
    parts = _split(url.strip())
    if parts is None or parts.scheme not in ("redis", "rediss") or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return ()
    return _of_url(parts, REDIS)


def otlp_addresses(endpoint: str) -> tuple[Address, ...]:
    """The receiver of traces: a URL, or gRPC's `HOST:PORT` and `dns:///HOST:PORT`."""
    target = endpoint.removeprefix("dns:///")
    parts = _split(target if "://" in target else f"//{target}")
    return _of_url(parts, OTLP) if parts is not None else ()


def _options(dsn: str) -> dict[str, str]:
    url = _DSN.fullmatch(dsn)
    if url is None:
        return {name: _unquoted(value) for name, value in _PAIR.findall(dsn)} if "://" not in dsn else {}
    named = [_HOST_PORT.fullmatch(each) for each in (url[1] or "").split(",")]
    hosts = {
        "host": ",".join(unquote(one[1] or one[2] or "") for one in named if one),
        "port": ",".join(one[3] or "" for one in named if one),
    }
    return {**hosts, **{name: value for name, value in parse_qsl(url[2] or "") if value}}


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1] if value.startswith("'") else value)


def _list(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _of_url(parts: SplitResult, default: int) -> tuple[Address, ...]:
    try:
        port = parts.port
    except ValueError:
        return ()
    return _addresses([(unquote(parts.hostname or ""), str(port or ""))], default)


def _addresses(found: Iterator[tuple[str, str]] | list[tuple[str, str]], default: int) -> tuple[Address, ...]:
    made = [Address(host, int(port or default)) for host, port in found if _is_host(host) and _is_port(port)]
    return tuple(dict.fromkeys(address for address in made if not address.is_own))


def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _is_port(text: str) -> bool:
    return not text or (text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536)
