"""What is built is not built again; what cannot be built says why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cortex_testbed import binaries
from cortex_testbed.errors import BedError

GO = """#!/usr/bin/env bash
case $1 in
env) echo "${FAKE_GO_VERSION:-go1.26.3}" ;;
build) echo "$PWD $*" >>"$FAKE_GO_CALLS"; while [ "$1" != -o ]; do shift; done; echo built >"$2" ;;
install) echo "$*" >>"$FAKE_GO_CALLS"
  if [ -n "${FAKE_GO_FAULT:-}" ]; then echo "$FAKE_GO_FAULT" >&2; exit 1; fi
  for last; do :; done; name=${last%@*}; echo built >"$GOBIN/${name##*/}" ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A stand-in for Go on PATH, and what it was asked to build so far."""
    go, said = tmp_path / "path" / "go", tmp_path / "calls"
    go.parent.mkdir()
    go.write_text(GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_GO_CALLS", str(said))
    monkeypatch.setattr(binaries, "BUILD", tmp_path / "build")
    monkeypatch.setattr(binaries, "BIN", tmp_path / "build" / "bin")
    return lambda: said.read_text().splitlines() if said.exists() else []


def test_builds_once_in_the_pinned_module_and_by_version(calls: Callable[[], list[str]]) -> None:
    said: list[str] = []
    folder = binaries.ensure(["etcd", "kwok"], said.append)
    assert (folder / "etcd").read_text() == (folder / "kwok").read_text() == "built\n"
    assert [line.split()[-1] for line in calls()] == ["go.etcd.io/etcd/server/v3", "sigs.k8s.io/kwok/cmd/kwok@v0.8.0"]
    assert calls()[0].startswith(f"{binaries.MODULES / 'etcd'} build")
    assert "etcd, kwok" in said[0]
    assert [line.split()[0] for line in said[1:]] == ["etcd", "kwok"]
    binaries.ensure(["etcd", "kwok"], said.append)
    assert len(calls()) == 2
    assert len(said) == 3


def test_another_version_and_a_missing_file_are_built_again(
    calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = binaries.ensure(["kwok"], print)
    monkeypatch.setitem(binaries.BINARIES, "kwok", binaries.Binary("sigs.k8s.io/kwok/cmd/kwok", "v0.9.9"))
    assert binaries.missing(["kwok"]) == ["kwok"]
    binaries.ensure(["kwok"], print)
    assert calls()[-1].endswith("kwok@v0.9.9")
    (folder / "kwok").unlink()
    binaries.ensure(["kwok"], print)
    assert len(calls()) == 3


def test_two_at_once_build_once(calls: Callable[[], list[str]]) -> None:
    threads = [threading.Thread(target=binaries.ensure, args=(["kwok", "helm"],)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(calls()) == 2


def test_failed_build_shows_the_end_and_the_log_and_is_tried_again(
    calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GO_FAULT", "no required module provides package x")
    with pytest.raises(BedError, match=r"kwok v0\.8\.0 cannot be built; .*kwok\.log:\nno required module") as caught:
        binaries.ensure(["kwok"], print)
    assert (binaries.BUILD / "build-logs" / "kwok.log").read_text() in str(caught.value) + "\n"
    monkeypatch.delenv("FAKE_GO_FAULT")
    assert (binaries.ensure(["kwok"], print) / "kwok").exists()


def test_without_go_says_what_to_install(calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BedError, match=r"`go` was not found: install Go 1\.26 or newer"):
        binaries.ensure(["kwok"], print)


@pytest.mark.parametrize("version", ["go1.19.8", "go1.25.9", "devel"])
def test_old_go_is_refused(calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("FAKE_GO_VERSION", version)
    with pytest.raises(BedError, match=rf"too old to build Kubernetes \({version}\): install Go 1\.26"):
        binaries.ensure(["kwok"], print)
    assert calls() == []
