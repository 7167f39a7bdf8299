"""Workflows and the indexes that they name, with the operator's process on a real API server: who waits, who is told,
who may use what."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_testbed.kubectl import Kubectl
from operators import OperatorProcess

ALL = {"allowedNamespaces": {"from": "All"}}
RESEARCH = {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "research"}}}}


@dataclass(frozen=True)
class Bench:
    """An operator that serves two namespaces: the index is in one, the workflow in the other."""

    kubectl: Kubectl
    library: str
    team: str

    def secrets(self) -> None:
        for where in (self.library, self.team):
            for name, key, url in (("cortex-lake", "dsn", "postgresql://h/d"), ("cortex-state", "url", "redis://h")):
                words = ("create", "secret", "generic", name, f"--from-literal={key}={url}", f"--namespace={where}")
                self.kubectl(*words)

    def index(self, **overrides: Any) -> None:
        self.apply(a_cortex_index_manifest(metadata__namespace=self.library, **overrides))

    def workflow(self, name: str = "helpdesk", index: str = "papers", **overrides: Any) -> None:
        uses = [{"name": index, "namespace": self.library}]
        searched = {"spec__nodes__0__search__index": index}
        meta = {"metadata": {"name": name, "namespace": self.team}}
        self.apply(a_cortex_workflow_manifest(**meta, spec__indexes=uses, **searched, **overrides))

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl("apply", "--filename=-", stdin=json.dumps(manifest))

    def until_says(self, condition: str, reason: str, name: str = "helpdesk") -> str:
        """The message, as soon as the workflow's condition has the reason."""
        path = f"{{.status.conditions[?(@.type=='{condition}')]"
        where = f"--namespace={self.team}"
        wait = (f"cortexworkflow/{name}", where, f"--for=jsonpath={path}.reason}}={reason}", "--timeout=55s")
        self.kubectl("wait", *wait)
        return self.kubectl("get", f"cortexworkflow/{name}", where, f"--output=jsonpath={path}.message}}")

    def until_used_by(self, *names: str, seconds: float = 60.0) -> None:
        """Returns when the index says that these workflows use it, and no others."""
        wanted = [f"{self.team}/{name}" for name in names]
        deadline = time.monotonic() + seconds
        while (found := self.used_by()) != wanted:
            assert time.monotonic() < deadline, f"it is used by {found}, not {wanted}"
            time.sleep(0.1)

    def used_by(self) -> list[str]:
        found = self.kubectl.get("cortexindex", "papers", f"--namespace={self.library}").get("status", {})
        return [f"{user['namespace']}/{user['name']}" for user in found.get("usedBy", ())]

    def told(self) -> dict[str, str]:
        """What the workflow's pods are told of indexes."""
        found = self.kubectl.get("configmap", "helpdesk-graph", f"--namespace={self.team}")["data"]
        return {name: value for name, value in found.items() if name.startswith("CORTEX_INDEX")}


@pytest.fixture
def team(kubectl: Kubectl) -> Iterator[str]:
    name = f"test-{secrets.token_hex(6)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def bench(kubectl: Kubectl, api_server: Path, namespace: str, team: str, tmp_path: Path) -> Iterator[Bench]:
    operator = OperatorProcess(api_server, tmp_path / "operator.log", namespace, team)
    try:
        operator.until_ready()
        made = Bench(kubectl, namespace, team)
        made.secrets()
        yield made
    finally:
        operator.kill()


def test_a_workflow_waits_for_an_index_of_another_namespace_and_hears_when_it_comes_lets_it_in_and_goes(
    bench: Bench,
) -> None:
    bench.workflow()
    absent = bench.until_says("IndexReady", "IndexNotAllowed")
    assert f"there is no CortexIndex {bench.library}/papers that namespace {bench.team} may use" in absent
    assert "spec.access.allowedNamespaces" in absent
    assert bench.told() == {"CORTEX_INDEXES": "{}"}

    bench.index()
    bench.kubectl("wait", "--for=create", "deployment/papers-search", f"--namespace={bench.library}", "--timeout=55s")
    assert bench.until_says("IndexReady", "IndexNotAllowed") == absent
    assert bench.used_by() == []

    bench.index(spec__access=ALL)
    bench.until_says("IndexReady", "IndexNotReady")
    bench.until_used_by("helpdesk")
    assert bench.used_by() == [f"{bench.team}/helpdesk"]
    assert bench.told() == {
        "CORTEX_INDEXES": json.dumps(
            {"papers": f"dns:///papers-search-headless.{bench.library}.svc:50052"}, separators=(",", ":")
        ),
        "CORTEX_INDEX_NAMESPACES": json.dumps({"papers": bench.library}, separators=(",", ":")),
    }

    bench.index()
    bench.until_says("IndexReady", "IndexNotAllowed")
    assert bench.told() == {"CORTEX_INDEXES": "{}"}

    bench.index(spec__access=ALL)
    bench.until_says("IndexReady", "IndexNotReady")
    bench.kubectl("delete", "cortexindex/papers", f"--namespace={bench.library}")
    assert bench.until_says("IndexReady", "IndexNotAllowed") == absent


def test_a_selector_lets_in_by_the_labels_of_the_namespace_which_are_looked_at_again(bench: Bench) -> None:
    bench.index(spec__access=RESEARCH)
    bench.workflow()
    bench.until_says("IndexReady", "IndexNotAllowed")
    bench.kubectl("label", "namespace", bench.team, "team=research")
    bench.until_says("IndexReady", "IndexNotReady")


def test_an_index_in_use_that_is_deleted_says_so_as_long_as_it_is_there_and_its_users_do(bench: Bench) -> None:
    """Somebody's finalizer holds it up."""
    where = f"--namespace={bench.library}"
    bench.index(spec__access=ALL, metadata__finalizers=["example.com/hold"])
    bench.workflow()
    bench.until_used_by("helpdesk")
    bench.kubectl("delete", "cortexindex/papers", where, "--wait=false")
    assert f"CortexIndex {bench.library}/papers is being deleted" in bench.until_says("IndexReady", "IndexTerminating")
    bench.kubectl("wait", "cortexindex/papers", where, "--for=condition=DeletedInUse", "--timeout=55s")
    conditions = bench.kubectl.get("cortexindex", "papers", where)["status"]["conditions"]
    (said,) = [each["message"] for each in conditions if each["type"] == "DeletedInUse"]
    assert f"although it is used by CortexWorkflow {bench.team}/helpdesk" in said
    for namespace, reason, kind in (
        (bench.library, "DeletedInUse", "CortexIndex"),
        (bench.team, "DependencyMissing", "CortexWorkflow"),
    ):
        selector = f"--field-selector=reason={reason},involvedObject.kind={kind}"
        bench.kubectl("wait", "--for=create", "events", selector, f"--namespace={namespace}", "--timeout=55s")

    bench.kubectl("delete", "cortexworkflow/helpdesk", f"--namespace={bench.team}")
    bench.until_used_by()
    conditions = bench.kubectl.get("cortexindex", "papers", where)["status"]["conditions"]
    assert "DeletedInUse" not in [each["type"] for each in conditions]
    release = '[{"op": "remove", "path": "/metadata/finalizers"}]'
    bench.kubectl("patch", "cortexindex/papers", where, "--type=json", f"--patch={release}")
    bench.kubectl("wait", "--for=delete", "cortexindex/papers", where, "--timeout=55s")


def test_an_index_in_use_that_is_gone_at_once_is_told_of_by_an_event(bench: Bench) -> None:
    bench.index(spec__access=ALL)
    bench.workflow()
    bench.until_used_by("helpdesk")
    where = f"--namespace={bench.library}"
    bench.kubectl("delete", "cortexindex/papers", where)
    selector = "--field-selector=reason=DeletedInUse,involvedObject.kind=CortexIndex"
    bench.kubectl("wait", "--for=create", "events", selector, where, "--timeout=55s")
    (event,) = bench.kubectl.get("events", selector, where)["items"]
    assert f"it was deleted although it is used by CortexWorkflow {bench.team}/helpdesk" in event["message"]


def test_an_index_says_who_uses_it_as_workflows_come_change_and_go(bench: Bench) -> None:
    bench.index(spec__access=ALL)
    bench.workflow("one")
    bench.until_used_by("one")
    bench.workflow("two")
    bench.workflow("one", index="others")
    bench.until_used_by("two")
    assert bench.used_by() == [f"{bench.team}/two"]
    bench.workflow("one")
    bench.kubectl("delete", "cortexworkflow/two", f"--namespace={bench.team}")
    bench.until_used_by("one")
    shown = bench.kubectl("describe", "cortexindex/papers", f"--namespace={bench.library}")
    assert "Used By:" in shown
