"""Manifests checked offline: every mistake at once, each at its line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_cli.validate import validate
from cortex_kinds.index import CortexIndex
from cortex_kinds.validate import LIMIT_BYTES, validate_bytes, validate_files, validate_text
from hypothesis import given, settings
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[3]


def said(text: str) -> list[str]:
    return [str(problem) for problem in validate_text(text, "f.yaml")]


def command(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    app = Typer()
    app.command()(validate)
    result = CliRunner().invoke(app, list(arguments), input=stdin)
    return result.exit_code, result.stdout


@pytest.mark.parametrize("name", ["index", "workflow", "documents"])
def test_golden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`UPDATE_GOLDEN=1` writes the files anew; read the difference before committing it."""
    monkeypatch.chdir(HERE)
    status, output = command(f"manifests/{name}.yaml")
    golden = HERE / "golden" / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(output)

    assert output == golden.read_text()
    assert status == 1


def test_good_manifests_have_no_mistakes(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(yaml.dump_all([a_cortex_index_manifest(), a_cortex_workflow_manifest()]))

    manifests, problems = validate_files([tmp_path])

    assert problems == []
    assert [manifest.key[1:] for manifest in manifests] == [
        ("CortexIndex", "default", "papers"),
        ("CortexWorkflow", "default", "helpdesk"),
    ]
    assert isinstance(manifests[0].model, CortexIndex)


def test_the_examples_are_good() -> None:
    assert validate_files([ROOT / "examples"])[1] == []


def test_lines_of_every_mistake() -> None:
    text = "\n".join([
        "apiVersion: cortex.datapunk.io/v1alpha1",
        "kind: CortexIndex",
        "metadata:",
        "  name: papers",
        "spec:",
        "  replicas: many",
        "  retrieval:",
        "    topk: 3",
        "    mode: Hybrid",
        "  chunking:",
        "    splitLength: 1",
    ])  # fmt: skip

    found = [(p.line, p.column, p.path) for p in validate_text(text, "f.yaml")]

    assert found == [
        (6, 13, "spec.replicas"),
        (8, 5, "spec.retrieval.topk"),
        (11, 5, "spec.chunking.splitOverlap"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "f.yaml: error: is empty"),
        (b"# nothing\n---\n---\n", "f.yaml: error: is empty"),
        (b"\xff\xfe", "f.yaml:1:1: error: is not UTF-8"),
        (b"a: b\nc: caf\xe9\n", "f.yaml:2:7: error: is not UTF-8"),
        (b"a: b\nc: \x00\n", "f.yaml:2:4: error: the character U+0000 cannot stand in YAML"),
        (b"x" * (LIMIT_BYTES + 1), "f.yaml: error: is over 1 MiB"),
        (b"a: [1, 2", "f.yaml:1:9: error: not valid YAML: expected ',' or ']'"),
        (b"a:\n\tb: 1", "not valid YAML: found character '\\t' that cannot start any token (indent with spaces"),
        (b"just text", "f.yaml:1:1: error: is not an object"),
        (b"{1: a, kind: x}", "f.yaml:1:2: error: a key is a string"),
        (b"a: &x {b: 1}\nc: {<<: *x}", "merge keys (<<) are not supported"),
        (b"a: !!python/object:os.system x", "not valid YAML: could not determine a constructor"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: &a [*a]", "nested too deeply"),
        (b"a: *nothing", "found undefined alias 'nothing'"),
        (b"a: 0o9\nb: 0x", "apiVersion is missing"),
    ],
)
def test_files_that_are_no_manifests(content: bytes, says: str) -> None:
    manifests, problems = validate_bytes(content, "f.yaml")

    assert any(says in str(problem) for problem in problems), problems
    assert [m for m in manifests if m.model] == []


def test_aliases_that_expand_without_end_are_stopped() -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    bomb = "\n".join(["l0: &l0 [x, x, x, x, x, x, x, x, x]", *levels])

    assert any("more than 100,000 values" in line for line in said(bomb))


def test_aliases_are_allowed() -> None:
    manifest = (
        "apiVersion: cortex.datapunk.io/v1alpha1\nkind: CortexIndex\nmetadata: {name: &n papers, labels: {a: *n}}\n"
    )

    assert said(manifest) == []


def test_an_index_that_is_not_among_the_files_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(yaml.dump(a_cortex_workflow_manifest()))

    status, output = command(str(file))

    assert status == 0
    line = 1 + file.read_text().splitlines().index("  - name: papers")
    assert f"{file}:{line}:11: warning: spec.indexes[0].name: the CortexIndex 'papers' is not in these" in output
    assert output.endswith("1 checked: no mistakes\n")


def test_duplicates_across_files_and_hidden_folders(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yml", ".hidden/c.yaml", "not-yaml.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(yaml.dump(a_cortex_index_manifest()))

    manifests, problems = validate_files([tmp_path])

    assert [Path(m.file).name for m in manifests] == ["a.yaml", "b.yml"]
    assert [p.reason for p in problems] == [f"CortexIndex default/papers is there twice: also at {tmp_path}/a.yaml:1"]


def test_a_file_that_is_not_there_and_a_folder_without_manifests(tmp_path: Path) -> None:
    status, output = command(str(tmp_path / "none.yaml"), str(tmp_path))

    assert status == 1
    assert f"{tmp_path}/none.yaml: error: cannot be read: No such file or directory" in output
    assert f"{tmp_path}: error: no *.yaml or *.yml file in this folder" in output


def test_other_kinds_are_handed_back(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {date: 2020-01-01}\n")

    manifests, problems = validate_files([file])

    assert problems == []
    assert manifests[0].data["stringData"] == {"date": "2020-01-01"}
    assert manifests[0].model is None


def test_standard_input_and_json() -> None:
    status, output = command("-", "--output", "json", stdin=b"kind: CortexIndex\n")

    assert status == 1
    assert [(p["file"], p["line"], p["severity"]) for p in json.loads(output)] == [("<stdin>", 1, "error")]


VALUES = st.sampled_from([None, 0, -1, True, "x", "", [], [1], {}, {"a": 1}, "9" * 5000, 1.5])
PATHS = st.sampled_from([
    "metadata", "metadata__name", "spec", "spec__nodes", "spec__nodes__0", "spec__nodes__0__name",
    "spec__nodes__0__type", "spec__nodes__1__route", "spec__nodes__1__route__cases",
    "spec__nodes__2__extract__documents", "spec__edges",
    "spec__edges__0", "spec__edges__1__to", "spec__input", "spec__input__schema", "spec__indexes", "spec__limits",
    "apiVersion", "kind", "status",
])  # fmt: skip


@settings(deadline=None)
@given(PATHS, VALUES)
def test_whatever_stands_anywhere_is_answered_with_problems_not_with_a_crash(path: str, value: Any) -> None:
    text = json.dumps(a_cortex_workflow_manifest(**{path: value}))

    for problem in validate_text(text, "f.yaml"):
        assert problem.reason
        assert problem.line <= 1


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_answered(text: str) -> None:
    validate_text(text, "f.yaml")
