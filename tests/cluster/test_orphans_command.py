"""`cortex orphans` over records of a real API server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cortex_operator.reconcile.deletion.orphans import Orphan, config_map
from cortex_testbed.kubectl import Kubectl

PAPERS = Orphan("CortexIndex", "team-a", "papers", "u", "Retained", "its data stays", "2026-01-01T00:00:00Z", "do it")


def run(kubeconfig: Path, *arguments: str, code: int = 0) -> str:
    env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    command = [sys.executable, "-m", "cortex_cli.main", "orphans", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_records_of_all_operators_are_listed(api_server: Path, kubectl: Kubectl, namespace: str) -> None:
    assert run(api_server, "-n", namespace) == "no data is known that belongs to no resource\n"
    kubectl.apply([config_map(namespace, "datapunk-cortex-orphans", {PAPERS.key: PAPERS}, 3)])
    # Of the same namespace, and not ours.
    kubectl("create", "configmap", "other", f"--namespace={namespace}", "--from-literal=a=b")

    table = run(api_server, "-n", namespace)
    assert table.splitlines()[1].split()[:5] == ["CortexIndex", "team-a", "papers", "2026-01-01T00:00:00Z", "Retained"]
    assert "do it" in table
    assert "3 older records" in table
    everywhere = json.loads(run(api_server, "-o", "json"))
    assert "papers" in [each["name"] for each in everywhere["orphans"]]
    assert json.loads(run(api_server, "-n", namespace, "-o", "json"))["orphans"][0]["remedy"] == "do it"


def test_who_may_not_look_is_told_what_to_say(
    api_server: Path, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    kubectl("create", "serviceaccount", "nobody", f"--namespace={namespace}")
    token = kubectl("create", "token", "nobody", f"--namespace={namespace}").strip()
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    (tmp_path / "config").write_text(json.dumps(config))
    assert "name the operator's namespace by -n" in run(tmp_path / "config", code=1)
