"""A suspended index on this machine: its process ends, its documents stay, and it answers again when it resumes."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cortex_cli.local.ports import free_port

INDEX = "apiVersion: cortex.datapunk.io/v1alpha1\nkind: CortexIndex\nmetadata: {name: papers}\nspec: {suspend: %s}\n"
Cortex = Any


@pytest.fixture
def cortex(tmp_path: Path) -> Iterator[Cortex]:
    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "cortex_cli.main", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    yield call
    call("down")


def test_a_suspended_index_has_no_process_and_keeps_its_documents(cortex: Cortex, tmp_path: Path) -> None:
    http = free_port()
    ports = ("--http-port", str(http), "--grpc-port", str(free_port(frozenset([http]))))
    index = f"http://127.0.0.1:{http}/v1/namespaces/default/indexes/papers"

    def up(suspend: str) -> str:
        (tmp_path / "index.yaml").write_text(INDEX % suspend)
        return str(cortex("up", "-f", "index.yaml", *ports))

    def post(path: str, body: Any) -> Any:
        headers = {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(index + path, json.dumps(body).encode(), headers)) as reply:
            return json.load(reply)

    up("false")
    post("/documents", {"documents": [{"id": "a", "title": "Whales", "content": "Whales sing at night."}]})

    assert "Suspended" in up("true")
    assert "there are none" not in cortex("get", "svc")
    assert "papers-search-" not in cortex("get", "pods")

    up("false")
    assert [hit["id"] for hit in post("/search", {"query": "whales", "mode": "Text"})["hits"]] == ["a"]
