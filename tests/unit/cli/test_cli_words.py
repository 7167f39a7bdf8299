"""What the commands say, from states given to them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cortex_cli.commands import progress
from cortex_cli.commands.progress import follow, welcome
from cortex_cli.local.processes import Processes
from cortex_cli.main import app
from typer.testing import CliRunner

MANIFEST = """
apiVersion: cortex.datapunk.io/v1alpha1
kind: CortexWorkflow
metadata: {name: lonely}
spec:
  indexes: [{name: nothing}]
  input: {schema: {type: object, properties: {question: {type: string}}}}
  nodes: [{name: find, type: Search, search: {index: nothing, query: state.question}}]
  edges: [{from: START, to: find}, {from: find, to: END}]
"""


def a_row(component: str, reason: str = "Ready", message: str = "", **fields: Any) -> dict[str, Any]:
    row = {"component": component, "ready": True, "reason": reason, "message": message, "pid": 0, "port": ""}
    return {**row, "restarts": 0, "log": "", "pod": False, **fields}


def a_state(*rows: dict[str, Any]) -> dict[str, Any]:
    ready = all(row["ready"] for row in rows if not row["pod"])
    return {"ready": ready, "final": False, "gateway": {"http_port": 8001, "grpc_port": 50051}, "rows": list(rows)}


def run(*arguments: str) -> str:
    return CliRunner().invoke(app, list(arguments)).output


def test_of_a_ready_index_it_is_said_what_is_built_and_readiness_must_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    building = a_row("CortexIndex default/a", "RevisionBuilding", "revision r2 is being built (4 of 9 documents)")
    late = a_row("CortexWorkflow default/w", "IndexNotReady", "the index a is not Ready", ready=False)
    workflow = a_row("CortexWorkflow default/w")
    states = [a_state(building, workflow), a_state(building, late), a_state(building, workflow)]
    monkeypatch.setattr(progress, "ask", lambda *_: states.pop(0) if len(states) > 1 else states[0])

    assert follow(Path(), 30)["ready"]

    said = capsys.readouterr().out
    assert "CortexIndex default/a: ready  RevisionBuilding: revision r2 is being built (4 of 9 documents)\n" in said
    assert said.index("w: ready") < said.index("w: IndexNotReady: the index a is not Ready") < said.rindex("w: ready")


def test_what_to_try_next_is_about_the_index_just_applied(capsys: pytest.CaptureFixture[str]) -> None:
    state = a_state(a_row("CortexIndex default/first"), a_row("CortexIndex other/second"))

    welcome(state, Path(".cortex"), ["other/second"])
    assert "/v1/namespaces/other/indexes/second/search" in capsys.readouterr().out
    welcome(state, Path(".cortex"), [])
    assert "/v1/namespaces/default/indexes/first/search" in capsys.readouterr().out


def test_a_pod_that_has_done_its_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = (
        a_row("Pod default/ingest", "Completed", ready=False, pod=True),
        a_row("Pod default/x", ready=False, pod=True),
    )
    monkeypatch.setattr("cortex_cli.commands.status.ask", lambda *_: a_state(*pods))

    lines = [line.split()[2:] for line in run("status").splitlines()[1:]]

    assert lines == [["done", "Completed"], ["no", "Ready"]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"level": "ERROR", "message": "the model is not there", "time": "now"}', "the model is not there"),
        ('{"level": "ERROR"}', '{"level": "ERROR"}'),
        ("[1]", "[1]"),
        ("Segmentation fault", "Segmentation fault"),
    ],
)
def test_of_a_json_line_its_message_is_passed_on(tmp_path: Path, line: str, words: str) -> None:
    processes = Processes(tmp_path)
    processes.log("pod").parent.mkdir(exist_ok=True)
    processes.log("pod").write_text(f"before\n{line}\n")

    assert processes.last_line("pod") == words


def test_logs_of_a_resource_are_those_of_the_pod_that_runs(tmp_path: Path) -> None:
    for age, name in enumerate(("default.notes-ingest-r1-x", "default.notes-search-1-y", "supervisor")):
        log = tmp_path / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text(f"from {name}\n")
        os.utime(log, (1000 - age, 1000 - age))
    records = tmp_path / "processes"
    records.mkdir()

    assert "from default.notes-ingest-r1-x" in run("logs", "notes", "--data-dir", str(tmp_path))
    (records / "default.notes-search-1-y.json").write_text(json.dumps({}))
    assert "from default.notes-search-1-y" in run("logs", "notes", "--data-dir", str(tmp_path))
    assert "from supervisor" in run("logs", "operator", "--data-dir", str(tmp_path))


@pytest.mark.parametrize("command", [(), ("up",), ("bench",), ("bench", "retrieval"), ("state", "get")])
def test_h_is_help(command: tuple[str, ...]) -> None:
    assert run(*command, "-h") == run(*command, "--help")
    assert run(*command, "-h").startswith("Usage: ")


def test_delete_does_not_warn_of_what_is_not_in_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.yaml").write_text(MANIFEST)
    monkeypatch.setattr("cortex_cli.commands.delete.ask", lambda *_, **__: {"CortexWorkflow default/lonely": "Deleted"})

    assert run("delete", "-f", str(tmp_path)) == "CortexWorkflow default/lonely: deleted\n"


def test_delete_says_that_what_was_waited_for_has_gone_also_before_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.yaml").write_text(MANIFEST)
    answers: dict[str, Any] = {"delete": {"CortexWorkflow default/lonely": "Deleting"}, "get": []}
    monkeypatch.setattr("cortex_cli.commands.delete.ask", lambda _, verb, **__: answers[verb])

    assert run("delete", "-f", str(tmp_path)) == (
        "CortexWorkflow default/lonely: is being deleted\nCortexWorkflow default/lonely: deleted\n"
    )
