"""The operator as a process of its own, for tests: started, read, asked, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

IMAGES = {"CORTEX_SEARCH_IMAGE": "registry.invalid/search:1", "CORTEX_GRAPH_IMAGE": "registry.invalid/graph:1"}
SMALL = json.dumps({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}})
SMALL_PODS = {f"CORTEX_{kind}_RESOURCES": SMALL for kind in ("SEARCH", "GRAPH", "INGEST")}


class OperatorProcess:
    """`python -m MODULE` against the cluster of a kubeconfig, in `namespaces` (none: in all). The first
    of them has its Lease."""

    def __init__(
        self, kubeconfig: Path, log: Path, *namespaces: str, module: str = "cortex_operator", **environment: str
    ) -> None:
        self._log = log
        env = {name: value for name, value in os.environ.items() if not name.startswith(("CORTEX_", "KUBERNETES_"))}
        env |= {"KUBECONFIG": str(kubeconfig), **IMAGES, **SMALL_PODS, "CORTEX_PORT_METRICS": "0"}
        env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), env.get("PYTHONPATH", "")])
        env |= {"CORTEX_NAMESPACE": namespaces[0] if namespaces else "default"}
        env |= {"CORTEX_LISTEN_HOST": "127.0.0.1", "CORTEX_WATCH_NAMESPACES": json.dumps(namespaces), **environment}
        with log.open("wb") as out:
            command = [sys.executable, "-m", module]
            self._process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log so far; what is not JSON as {"message": line}."""
        return [_parsed(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def messages(self, text: str) -> list[str]:
        """The messages that contain `text`."""
        return [line["message"] for line in self.lines if text in line["message"]]

    def until(self, text: str, seconds: float = 60.0) -> dict[str, Any]:
        """The first line whose message contains `text`, as soon as it is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [line for line in self.lines if text in line["message"]]
            if found:
                return found[0]
            assert self._process.poll() is None, f"it ended with {self._process.returncode}: {self._log.read_text()}"
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not logged in {seconds} s: {self._log.read_text()}")

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of its HTTP port."""
        port = self.until("listening on port")["port"]
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            raise AssertionError(f"{path}: {error}: {self._log.read_text()}") from None

    def until_ready(self, seconds: float = 60.0) -> None:
        """Returns when it leads and sees everything. (A follower is ready too.)"""
        end = time.monotonic() + seconds
        while (answer := self.ask("/readyz")) != (200, "ok\n"):
            assert time.monotonic() < end, f"not ready in {seconds} s: {answer[1]} {self._log.read_text()}"
            time.sleep(0.02)

    def until_failing(self, path: str, seconds: float = 60.0) -> str:
        """Why, as soon as the probe fails."""
        end = time.monotonic() + seconds
        while (answer := self.ask(path))[0] == 200:
            assert time.monotonic() < end, f"{path} did not fail in {seconds} s: {self._log.read_text()}"
            time.sleep(0.05)
        return answer[1]

    def measure(self, name: str) -> float:
        """The sum of a metric over its labels; with `name{label="value"}` of that alone."""
        lines = [line.rpartition(" ")[::2] for line in self.ask("/metrics")[1].splitlines()]
        return sum(float(value) for found, value in lines if name in (found, found.split("{")[0]))

    def until_measured(self, name: str, least: float, seconds: float = 60.0) -> None:
        """Returns when the sum of a metric is at least that."""
        end = time.monotonic() + seconds
        while (found := self.measure(name)) < least:
            assert time.monotonic() < end, f"{name} is {found} after {seconds} s: {self._log.read_text()}"
            time.sleep(0.05)

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self._log.read_text()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait(30)

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def ends(self, seconds: float = 60.0) -> int:
        """The exit code, once it ends by itself."""
        return self._process.wait(seconds)


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {"message": line.strip()}
    return found if isinstance(found, dict) else {"message": line.strip()}
