"""`cortex up`, `status`, `get`, `logs`, `delete`, `down`, as a user types them, with the real services."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import yaml
from local_cortex import Cortex, pids

INDEX = "apiVersion: cortex.datapunk.io/v1alpha1\nkind: CortexIndex\nmetadata: {name: papers}\nspec: {}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: mine}\nstringData: {token: very-secret}\n"

WORKFLOW = """
apiVersion: cortex.datapunk.io/v1alpha1
kind: CortexWorkflow
metadata: {name: lonely}
spec:
  indexes: [{name: nothing}]
  input: {schema: {type: object, properties: {question: {type: string}}}}
  nodes: [{name: find, type: Search, search: {index: nothing, query: state.question}}]
  edges: [{from: START, to: find}, {from: find, to: END}]
"""


def until_again(cortex: Cortex, killed: dict[str, int], seconds: float = 120.0) -> None:
    """Returns when all is ready, and other processes are there in place of those that were killed."""
    deadline = time.monotonic() + seconds
    while not (state := cortex.state())["ready"] or killed.items() & pids(state).items() or killed.keys() - pids(state):
        assert time.monotonic() < deadline, state
        time.sleep(0.05)


def test_from_a_manifest_to_an_index_that_survives_kills(cortex: Cortex) -> None:
    manifests = cortex.folder / "manifests"
    manifests.mkdir()
    (manifests / "index.yaml").write_text(INDEX)
    (manifests / "secret.yaml").write_text(SECRET)
    said = cortex("up", "-f", "manifests", *cortex.ports)
    assert "CortexIndex default/papers: created" in said
    assert f"{cortex.rest}/docs" in said
    with urllib.request.urlopen(f"{cortex.rest}/v1/indexes") as reply:
        assert b"papers" in reply.read()
    before = cortex.pids()
    assert len(set(before.values())) == 4  # PostgreSQL, Valkey, the gateway, the index's pod
    cortex("up", "-f", "manifests")
    assert cortex.pids() == before

    assert "very-secret" not in cortex("get", "secrets", "-o", "yaml")
    assert "dmVyeS1zZWNyZXQ" not in cortex("get", "secrets", "-o", "json")
    index = yaml.safe_load(cortex("get", "cxi", "papers", "-o", "yaml"))
    assert index["status"]["conditions"][0]["type"] == "Ready"
    assert "papers-search" in cortex("get", "pods", "-o", "wide")
    assert cortex("get", "cxi,sa", "-o", "name").splitlines() == ["cortexindex/papers", "serviceaccount/papers-search"]
    assert {"CortexIndex", "Deployment", "Service"} <= set(cortex("get", "all").splitlines())
    assert "did you mean pod?" in cortex("get", "podz", code=1)
    assert "is not there" in cortex("get", "cxi", "nothing", code=1)
    assert "database system is ready" in cortex("logs", "postgres")
    assert "there are:" in cortex("logs", "nothing", code=1)

    cortex.kill_supervisor()
    assert "no cluster runs" in cortex("status", code=1)
    cortex("up")
    assert cortex.pids() == before

    killed = {name: before[name] for name in ("Valkey", "PostgreSQL", "Gateway")}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    until_again(cortex, killed)

    (manifests / "index.yaml").write_text(SECRET.replace("mine", "other"))
    assert "CortexIndex default/papers: deleted" in cortex("up", "-f", "manifests")
    assert "there are none" in cortex("get", "cxi")
    assert "deleted" in cortex("delete", "-f", "manifests")
    assert "other" not in cortex("get", "secrets")

    cortex.kill_supervisor()
    assert "stopped" in cortex("down")
    assert cortex.processes() == []
    assert "nothing was running" in cortex("down")
    assert "is deleted" in cortex("down", "--delete-data", "--yes")
    assert not cortex.data.exists()


def test_a_wrong_manifest_starts_nothing(cortex: Cortex) -> None:
    (cortex.folder / "bad.yaml").write_text(INDEX.replace("spec: {}", "spec: {replica: 2}"))
    said = cortex("up", "-f", "bad.yaml", *cortex.ports, code=1)
    assert "bad.yaml:4" in said
    assert "replicas" in said
    assert not cortex.data.exists()


def test_a_taken_port_is_named_before_anything_starts(cortex: Cortex) -> None:
    with socket.create_server(("127.0.0.1", int(cortex.ports[1]))):
        said = cortex("up", *cortex.ports, code=1)
    assert f"port {cortex.ports[1]} is held by pid {os.getpid()}" in said
    assert "--http-port" in said
    assert not cortex.data.exists()


def test_a_server_that_cannot_start_is_named_with_the_remedy(cortex: Cortex) -> None:
    (cortex.data / "postgres" / "data").mkdir(parents=True)
    (cortex.data / "postgres" / "data" / "PG_VERSION").write_text("15\n")
    said = cortex("up", *cortex.ports, code=1)
    assert "PostgreSQL: CannotStart" in said
    assert "was made by PostgreSQL 15" in said
    assert "move the directory away" in said


def test_what_only_the_user_can_mend_is_not_waited_for(cortex: Cortex) -> None:
    (cortex.folder / "workflow.yaml").write_text(WORKFLOW)
    said = cortex("up", "-f", "workflow.yaml", *cortex.ports, "--timeout", "3600", code=1)
    assert "CortexWorkflow default/lonely: IndexNotFound" in said


def test_without_a_cluster_every_command_says_so(cortex: Cortex) -> None:
    for arguments in (("status",), ("get", "pods")):
        assert cortex(*arguments, code=1).startswith("error: no cluster runs on")


def test_in_the_foreground_the_end_of_the_command_is_the_end_of_all(cortex: Cortex) -> None:
    command = [sys.executable, "-m", "cortex_cli.main", "up", "--foreground", *cortex.ports]
    with subprocess.Popen(command, cwd=cortex.folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Ready."):
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert cortex.processes() == []


def test_a_path_of_200_characters_is_not_too_long(tmp_path: Path) -> None:
    folder = tmp_path / ("long-" * 30)
    folder.mkdir()
    cortex = Cortex(folder)
    try:
        cortex("up", *cortex.ports)
    finally:
        cortex("down")
    assert cortex.processes() == []
