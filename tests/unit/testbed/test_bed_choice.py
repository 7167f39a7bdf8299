"""Which cluster is taken, and why; nobody's cluster is touched that was not named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cortex_testbed import kind
from cortex_testbed.choice import choose
from cortex_testbed.errors import BedError
from cortex_testbed.existing import Existing

Script = Callable[[str, str], None]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """`script(NAME, BODY)` puts a bash script on PATH, where nothing else of interest is."""
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "bash").symlink_to("/bin/bash")
    monkeypatch.setenv("PATH", str(folder))

    def write(name: str, body: str) -> None:
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)

    return write


def test_plane_without_docker(script: Script) -> None:
    choice = choose({})
    assert choice.kind == "plane"
    assert str(choice).endswith("with fake nodes, because Docker is not installed")
    assert "kube-apiserver" in choice.needs


@pytest.mark.parametrize("body", ["exit 1", "echo"])
def test_plane_when_docker_does_not_answer(script: Script, body: str) -> None:
    script("docker", body)
    assert (choose({}).kind, choose({}).reason) == ("plane", "Docker does not answer")


def test_kind_when_docker_answers(script: Script) -> None:
    script("docker", "echo 29.0.1")
    choice = choose({})
    assert (choice.kind, choice.reason) == ("kind", "Docker answers")
    assert set(choice.needs) == {"kubectl", "kwok", "kind"}
    script("kind", "exit 0")
    assert set(choice.needs) == {"kubectl", "kwok"}


def test_plane_and_existing_ask_no_docker(script: Script, tmp_path: Path) -> None:
    script("docker", f"echo asked >{tmp_path}/asked; echo 29.0.1")
    for wanted in ("plane", "existing"):
        choice = choose({"CORTEX_TEST_CLUSTER": wanted})
        assert (choice.kind, choice.reason) == (wanted, f"CORTEX_TEST_CLUSTER is {wanted}")
    assert not (tmp_path / "asked").exists()


def test_kind_that_cannot_be_and_unknown_words_are_refused(script: Script) -> None:
    with pytest.raises(BedError, match="=kind needs Docker and Docker is not installed: start Docker, or use"):
        choose({"CORTEX_TEST_CLUSTER": "kind"})
    with pytest.raises(BedError, match="=minikube is not known: use one of plane, kind, existing"):
        choose({"CORTEX_TEST_CLUSTER": "minikube"})


def test_kind_cluster_has_a_name_of_its_folder(script: Script, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    script("kind", f'echo "$*" >>{calls}')
    cluster, other = kind.Kind(tmp_path / "run"), kind.Kind(tmp_path / "other")
    cluster.start()
    cluster.stop()
    deleted, created, again = calls.read_text().splitlines()
    common = f"--name={cluster.name} --kubeconfig={tmp_path / 'run' / 'admin.kubeconfig'}"
    assert created == f"create cluster --config={kind.KIND_CONFIG} --wait=120s {common}"
    assert deleted == again == f"delete cluster {common}"
    assert cluster.name != other.name


def test_kind_that_fails_says_its_words(script: Script, tmp_path: Path) -> None:
    script("kind", '[ "$1" = delete ] || { echo "ERROR: no image" >&2; exit 1; }')
    with pytest.raises(BedError, match=r"kind create cluster .*: ERROR: no image"):
        kind.Kind(tmp_path / "run").start()


def test_existing_needs_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(BedError, match="KUBECONFIG is not set: set KUBECONFIG to a cluster that you may change"):
        Existing(tmp_path / "run").start()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    with pytest.raises(BedError, match=r"KUBECONFIG names .*/gone, which is not there: "):
        Existing(tmp_path / "run").start()
