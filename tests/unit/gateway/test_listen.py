"""Loopback only, unless told otherwise."""

from __future__ import annotations

import socket

import pytest
from cortex_workloads.gateway import listen
from cortex_workloads.runtime.server import PortTaken
from cortex_workloads.runtime.settings import GatewaySettings


def hosts(host: str, *, insecure: bool = False) -> tuple[str, ...]:
    return listen.hosts(GatewaySettings(listen_host=host, insecure_listen=insecure))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_is_both_families_where_there_are_both(host: str) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        both = ("127.0.0.1", "::1")
    except OSError:
        both = ("127.0.0.1",)
    assert hosts(host) == both


def test_another_loopback_address_is_taken_as_it_is() -> None:
    assert hosts("127.0.0.7") == ("127.0.0.7",)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_other_addresses_need_the_flag(host: str) -> None:
    with pytest.raises(listen.Refused, match="CORTEX_INSECURE_LISTEN=true"):
        hosts(host)
    assert hosts(host, insecure=True) == (host,)


def test_both_families_share_the_port() -> None:
    made = listen.sockets(hosts("127.0.0.1"), 0)
    try:
        assert len({one.getsockname()[1] for one in made}) == 1
        with pytest.raises(PortTaken, match="CORTEX_PORT_HTTP"):
            listen.sockets(("127.0.0.1",), made[0].getsockname()[1])
    finally:
        for one in made:
            one.close()
