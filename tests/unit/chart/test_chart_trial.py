"""The trial profile: a PostgreSQL and a Valkey that the gateway and the listed namespaces are pointed at, and a whole
release with one index and one workflow that a small node has room for."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
import yaml
from cortex_kinds.base import parse_quantity
from helm_chart import ROOT, TRIAL, Object, containers, objects, pick, render

DSN = "postgresql://cortex:cortex-trial@datapunk-cortex-lake.cortex-system.svc:5432/cortex"
URL = "redis://:cortex-trial@datapunk-cortex-state.cortex-system.svc:6379/0"


def trial(*words: str, **values: Any) -> list[Object]:
    return objects(render("--values", TRIAL, *words, values=values))


def secret(found: list[Object], name: str, namespace: str = "cortex-system") -> dict[str, str]:
    data = pick(found, "Secret", name, namespace)["data"]
    return {key: b64decode(value).decode() for key, value in data.items()}


def total(resource: str, requests: list[dict[str, str]]) -> float:
    return float(sum(parse_quantity(request[resource]) for request in requests))


def test_without_it_there_is_no_server() -> None:
    assert [o["metadata"]["name"] for o in objects(render()) if o["kind"] in ("StatefulSet", "Secret")] == []


def test_each_listed_namespace_gets_both_secrets_which_uninstall_leaves() -> None:
    found = trial(resourceNamespaces=["team-a", "team-b"])

    for namespace in ("team-a", "team-b"):
        assert secret(found, "cortex-lake", namespace) == {"dsn": DSN}
        assert secret(found, "cortex-state", namespace) == {"url": URL}
        for name in ("cortex-lake", "cortex-state"):
            metadata = pick(found, "Secret", name, namespace)["metadata"]
            assert metadata["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_gateway_asks_the_trial_s_state() -> None:
    found = trial()
    env = {e["name"]: e for e in containers(found)["gateway"]["env"]}
    reference = env["CORTEX_STATE_URL"]["valueFrom"]["secretKeyRef"]

    assert secret(found, reference["name"])[reference["key"]] == URL


@pytest.mark.parametrize(("role", "variable"), [("lake", "CORTEX_LAKE_PASSWORD"), ("state", "CORTEX_STATE_PASSWORD")])
def test_servers_get_the_password_that_the_urls_carry(role: str, variable: str) -> None:
    found = trial(trial={role: {"password": "something-else"}}, resourceNamespaces=["team-a"])
    (env,) = containers(found)[role]["env"]
    reference = env["valueFrom"]["secretKeyRef"]
    url = secret(found, f"cortex-{role}", "team-a")["dsn" if role == "lake" else "url"]

    assert env["name"] == variable
    assert secret(found, reference["name"])[reference["key"]] == "something-else"
    assert ":something-else@" in url


def test_a_given_lake_and_state_win_over_the_trial_s() -> None:
    given = {"lake": {"dsn": "postgresql://db/lake"}, "state": {"url": "redis://cache/0"}}
    found = trial(resourceNamespaces=["team-a"], **given)

    assert secret(found, "cortex-lake", "team-a") == {"dsn": "postgresql://db/lake"}
    assert secret(found, "cortex-state", "team-a") == {"url": "redis://cache/0"}


def test_data_lies_on_a_claim_that_helm_does_not_own_or_as_told_in_the_pod() -> None:
    kept = pick(trial(), "StatefulSet", "datapunk-cortex-lake")["spec"]
    lost = pick(trial(trial={"lake": {"persistence": {"enabled": False}}}), "StatefulSet", "datapunk-cortex-lake")[
        "spec"
    ]

    assert kept["volumeClaimTemplates"][0]["spec"]["resources"]["requests"] == {"storage": "8Gi"}
    assert "volumeClaimTemplates" not in lost
    assert {"name": "data", "emptyDir": {"sizeLimit": "8Gi"}} in lost["template"]["spec"]["volumes"]
    for spec in (kept, lost):
        (container,) = spec["template"]["spec"]["containers"]
        assert {"name": "data", "mountPath": "/var/lib/cortex/lake"} in container["volumeMounts"]


@pytest.mark.parametrize("quickstart", [True, False])
def test_with_an_index_and_a_workflow_it_fits_a_small_node(quickstart: bool) -> None:
    """2 CPUs and 8Gi, of which a node keeps some for itself and its own pods; the ingest Job counts too."""
    values = yaml.safe_load(TRIAL.read_text())
    defaults = [values["workloads"][f"{kind}Resources"] for kind in ("search", "graph", "ingest")]
    index, workflow = (
        yaml.safe_load((ROOT / f"examples/quickstart/{name}.yaml").read_text())["spec"]["resources"]
        for name in ("index", "workflow")
    )
    resources = [index, workflow, index] if quickstart else defaults
    own = [container["resources"] for container in containers(trial()).values()]
    requests = [r["requests"] for r in (*own, *resources)]

    assert len(own) == 4
    assert total("cpu", requests) <= 1
    assert total("memory", requests) <= 3 * 1024**3
