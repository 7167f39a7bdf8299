"""Deletions on this machine: the Job that drops the data is a process."""

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

INDEX = """
apiVersion: cortex.datapunk.io/v1alpha1
kind: CortexIndex
metadata: {name: papers}
spec: {deletionPolicy: %s}
"""
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


def test_the_data_stays_or_goes_with_the_index_as_its_policy_says(cortex: Cortex, tmp_path: Path) -> None:
    http = free_port()
    ports = ("--http-port", str(http), "--grpc-port", str(free_port(frozenset([http]))))
    index = f"http://127.0.0.1:{http}/v1/namespaces/default/indexes/papers"

    def up(policy: str) -> None:
        (tmp_path / "index.yaml").write_text(INDEX % policy)
        cortex("up", "-f", "index.yaml", *ports)

    def post(path: str, body: Any) -> Any:
        headers = {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(index + path, json.dumps(body).encode(), headers)) as reply:
            return json.load(reply)

    def found() -> list[str]:
        return [hit["id"] for hit in post("/search", {"query": "whales", "mode": "Text"})["hits"]]

    up("Retain")
    post("/documents", {"documents": [{"id": "a", "title": "Whales", "content": "Whales sing at night."}]})
    assert "CortexIndex default/papers: deleted" in cortex("delete", "-f", "index.yaml")

    up("Delete")
    assert found() == ["a"]
    said = cortex("delete", "-f", "index.yaml")
    assert "drops its data" in said
    assert said.endswith("CortexIndex default/papers: deleted\n")
    assert cortex("orphans", "--local") == "no data is known that belongs to no resource\n"

    up("Retain")
    assert found() == []
