"""The two controllers that are measured, as processes: ours, and a minimal one on controller-runtime."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from cortex_kinds.base import API_VERSION
from cortex_testbed.paths import BUILD

_MODULE: Final = Path(__file__).parents[1] / "controller_runtime"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SERVERS_OWN: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences")


Ready = Callable[[str], bool]


class Controller:
    """A controller that runs as a process of its own against the cluster of a kubeconfig."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path, ready: Ready) -> None:
        """`ready` is asked with the log since its start."""
        self.name, self._command, self._env, self._log, self._ready = name, command, env, log, ready
        self._process: subprocess.Popen[bytes] | None = None
        self._begin = 0

    def start(self) -> None:
        """Returns at once."""
        self._begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(self._command, env=self._env, stdout=out, stderr=out)

    def stop(self) -> None:
        """SIGTERM, and its end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def cpu(self) -> float:
        """Seconds of CPU that it has used, all threads."""
        fields = self._stat("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss(self) -> float:
        """Resident memory in MB."""
        return int(self._stat("statm").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    async def until_ready(self, seconds: float = 180.0) -> None:
        """Returns when it has begun its work. Raises RuntimeError with the end of its log."""
        end = time.monotonic() + seconds
        while not await asyncio.to_thread(self._ready, told := self._log.read_text()[self._begin :]):
            if time.monotonic() > end or self._ended():
                raise RuntimeError(f"{self.name} is not ready after {seconds} s: {told[-2000:]}")
            await asyncio.sleep(0.02)

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _stat(self, file: str) -> str:
        if self._process is None or self._ended():
            raise RuntimeError(f"{self.name} has ended; its log: {self._log}")
        return Path(f"/proc/{self._process.pid}/{file}").read_text()


def ours(kubeconfig: Path, directory: Path) -> Controller:
    """`python -m cortex_operator`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CORTEX_", "KUBERNETES_"))}
    env |= {"KUBECONFIG": str(kubeconfig), "CORTEX_NAMESPACE": "default", "CORTEX_PORT_METRICS": "0"}
    env |= {"CORTEX_SEARCH_IMAGE": "none", "CORTEX_GRAPH_IMAGE": "none", "CORTEX_LISTEN_HOST": "127.0.0.1"}
    return Controller("cortex", [sys.executable, "-m", "cortex_operator"], env, directory / "cortex.log", _is_ready)


def controller_runtime(binary: Path, kubeconfig: Path, directory: Path, children: list[dict[str, Any]]) -> Controller:
    """The Go controller, which makes these children of one index for each."""
    file = directory / "children.json"
    file.write_text(json.dumps(children))
    command = [str(binary), "--children", str(file)]
    env = {"KUBECONFIG": str(kubeconfig)}
    return Controller("controller-runtime", command, env, directory / "go.log", lambda told: "Starting workers" in told)


def _is_ready(log: str) -> bool:
    port = re.search(r"listening on port (\d+)", log)
    # One that does not lead yet is ready, too.
    if port is None or "operating in " not in log:
        return False
    try:
        with urlopen(f"http://127.0.0.1:{port[1]}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def template(children: list[dict[str, Any]], owner: dict[str, Any]) -> list[dict[str, Any]]:
    """The children of `owner` as the Go controller reads them: NAME and UID for the owner's, no field of the server."""
    return [_template(child, owner, _fields(child)) for child in children]


def _template(child: dict[str, Any], owner: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    kept = {**_owned(child, fields), "apiVersion": child["apiVersion"], "kind": child["kind"]}
    meta = {name: value for name, value in kept.get("metadata", {}).items() if name not in _SERVERS_OWN}
    name = owner["metadata"]["name"]
    meta["name"] = child["metadata"]["name"]
    whole = json.dumps({**kept, "metadata": meta}).replace(name, "NAME")
    made: dict[str, Any] = json.loads(whole)
    reference = {"apiVersion": API_VERSION, "kind": owner["kind"], "name": "NAME", "uid": "UID", "controller": True}
    made["metadata"]["ownerReferences"] = [reference]
    return made


def _fields(child: dict[str, Any]) -> dict[str, Any]:
    """What an apply set, as fieldsV1."""
    found: dict[str, Any] = next(
        entry["fieldsV1"] for entry in child["metadata"]["managedFields"] if entry["operation"] == "Apply"
    )
    return found


def _owned(value: Any, fields: dict[str, Any]) -> Any:
    """The part of the value that the fields name; lists are kept whole."""
    inner = {key[2:]: sub for key, sub in fields.items() if key.startswith("f:")}
    if not inner or not isinstance(value, dict):
        return value
    return {name: _owned(value[name], sub) for name, sub in inner.items() if name in value}


def build() -> Path:
    """The Go controller's binary."""
    binary = BUILD / "bench" / "controller-runtime"
    binary.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-trimpath", "-o", str(binary), "."], cwd=_MODULE, env=env, check=True)
    return binary
