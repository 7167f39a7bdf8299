"""Hosts of Secrets, the rules that they become, and how long a place stays open."""

from __future__ import annotations

from typing import Any

import pytest
from cortex_operator.manifests.addresses import Address, lake_addresses, otlp_addresses, state_addresses
from cortex_operator.manifests.reach import Backend, Operand, Reach, follow, place_rule
from hypothesis import given
from hypothesis import strategies as st

SELECTED = {"selector": {"app": "pg"}, "ports": [{"port": 5432, "targetPort": "pg"}, {"port": 9187}]}


@pytest.mark.parametrize(
    ("dsn", "found"),
    [
        ("postgresql://u:p@lake/db", ["lake:5432"]),
        ("postgres://u:p@lake:5433", ["lake:5433"]),
        ("postgresql://u:p%40x@a:1,[2001:db8::1]:2,c/db?sslmode=require", ["a:1", "2001:db8::1:2", "c:5432"]),
        ("postgresql:///db?host=a,b&port=1,2", ["a:1", "b:2"]),
        ("postgresql:///db?host=a,b&port=1", ["a:1", "b:1"]),
        ("postgresql://a/db?hostaddr=192.0.2.1", ["192.0.2.1:5432"]),
        ("host=a port=6 user=u password='x\\' host=y'", ["a:6"]),
        ("postgresql://localhost/db", []),
        ("postgresql://127.0.0.1/db", []),
        ("postgresql:///db?host=/run/postgresql", []),
        ("postgresql:///db", []),
        ("mysql://a/db", []),
        ("", []),
        # Passwords with characters that must be escaped: nothing of them may come out.
        ("postgresql://u:hun@ter2@a/db", []),
        ("postgresql://u:12/34@a/db", []),
        ("postgresql://u:hunter/2@a/db", []),
    ],
)
def test_the_servers_of_a_connection_string(dsn: str, found: list[str]) -> None:
    assert [f"{a.host}:{a.port}" for a in lake_addresses(dsn)] == found


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://state", [Address("state", 6379)]),
        ("rediss://u:p@[2001:db8::1]:6380/0", [Address("2001:db8::1", 6380)]),
        ("redis://localhost", []),
        ("unix:///run/valkey", []),
        ("redis://u:12#34@state", []),
        ("redis://u:12/34@state", []),
        ("redis://state:port", []),
        ("redis://[::1", []),
    ],
)
def test_the_server_of_a_url(url: str, found: list[Address]) -> None:
    assert list(state_addresses(url)) == found


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("http://collector.o:4317", [Address("collector.o", 4317)]),
        ("collector:4317", [Address("collector", 4317)]),
        ("dns:///collector:4317", [Address("collector", 4317)]),
        ("https://traces.example.com", [Address("traces.example.com", 443)]),
        ("", []),
    ],
)
def test_the_receiver_of_traces(endpoint: str, found: list[Address]) -> None:
    assert list(otlp_addresses(endpoint)) == found


@given(st.text(), st.text())
def test_whatever_a_secret_holds_only_hosts_come_out(start: str, text: str) -> None:
    for dsn in (text, f"postgresql://{text}", f"postgresql://u:{start}@h/{text}"):
        for address in (*lake_addresses(dsn), *state_addresses(dsn.replace("postgresql", "redis"))):
            assert set(address.host) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")
            assert 0 < address.port < 65536


def service(**spec: Any) -> Backend:
    return Backend({"metadata": {"namespace": "data"}, "spec": spec})


TO_PODS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}},
            "podSelector": {"matchLabels": {"app": "pg"}}}]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "backend", "to", "ports"),
    [
        ("lake.data", service(**SELECTED), TO_PODS, ["pg", 5432]),
        ("lake.data.svc.cluster.local", service(**SELECTED), TO_PODS, ["pg", 5432]),
        ("lake-0.lake.data.svc", service(**SELECTED, clusterIP="None"), TO_PODS, ["pg", 5432]),
        ("lake.data", service(selector={"app": "pg"}, ports=[{"port": 1}]), TO_PODS, [5432]),
        ("lake.data", service(ports=[{"port": 5432, "targetPort": 6000}]), None, [6000, 5432]),
        ("lake.data", service(type="ExternalName", externalName="db.example.com"), None, [5432]),
        ("lake.data.svc", Backend(readable=False), TO_PODS[0]["namespaceSelector"], [5432]),
        ("lake.data.svc", Backend(), "nothing", []),
        ("lake", Backend(), "nothing", []),
        ("lake.com", Backend(), None, [5432]),
        ("db.example.com", Backend(), None, [5432]),
        ("192.0.2.1", Backend(), {"ipBlock": {"cidr": "192.0.2.1/32"}}, [5432]),
        ("2001:db8::1", Backend(), {"ipBlock": {"cidr": "2001:db8::1/128"}}, [5432]),
    ],
)
def test_what_a_host_becomes(host: str, backend: Backend, to: Any, ports: list[Any]) -> None:
    rule = place_rule(Address(host, 5432), backend, "team")
    if to == "nothing":
        assert rule is None
        return
    if isinstance(to, dict):
        to = [to if "ipBlock" in to else {"namespaceSelector": to}]
    assert rule == {**({"to": to} if to else {}), "ports": [{"port": port, "protocol": "TCP"} for port in ports]}


OLD, NEW, INDEX = Address("old", 1), Address("new", 1), Operand("default", "papers")


def test_a_place_stays_open_for_the_pods_that_were_there_and_no_longer() -> None:
    before = follow([OLD, INDEX], Reach(), ["2026-01-01T00:00:00Z"])
    assert before.everywhere == (OLD, INDEX)
    pods = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z"]
    changed = follow([NEW], Reach.load(before.dump()), pods)
    assert (changed.places, set(changed.older), changed.until) == ((NEW,), {OLD, INDEX}, pods[-1])
    rolling = follow([NEW], Reach.load(changed.dump()), [pods[1], "2026-01-01T00:01:00Z"])
    assert set(rolling.older) == {OLD, INDEX}
    assert follow([NEW], Reach.load(rolling.dump()), ["2026-01-01T00:01:00Z"]) == Reach((NEW,))
    assert follow([NEW], Reach.load(rolling.dump()), []) == Reach((NEW,))
    assert follow([OLD, INDEX], Reach.load(changed.dump()), pods).older == (NEW,)


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"places": [[1]]}', '{"places": 3}', '{"older": []}'])
def test_an_annotation_that_somebody_broke_is_none(text: str) -> None:
    assert Reach.load(text) == Reach()
