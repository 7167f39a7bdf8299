"""The cluster of `make cluster`, one per checkout: up, down and what it is. It lives on when the command ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cortex_cli.local.processes import start_time

from cortex_testbed import binaries, choice
from cortex_testbed.errors import BedError
from cortex_testbed.keeper import CLUSTERS, report_file
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.paths import RUN
from cortex_testbed.processes import Processes, end

STOP_SECONDS: Final = 60.0


@dataclass(frozen=True)
class State:
    """A cluster that is up."""

    kind: str
    kubeconfig: Path
    says: str
    pools: bool
    keeper: int


class UserCluster:
    """What is up in a folder; `say` gets a line for each step."""

    def __init__(self, directory: Path = RUN, say: Callable[[str], None] = print) -> None:
        self._directory = directory.absolute()
        self._say = say

    def state(self) -> State | None:
        """None when nothing is up."""
        content = self._told()
        if "keeper" not in content or start_time(content["keeper"]) != content["start_time"]:
            return None
        words = (content["kind"], Path(content["url"]), content["says"], content["pools"], content["keeper"])
        return State(*words)

    def fault(self) -> str:
        """Why what was up has ended by itself; else empty."""
        return str(self._told().get("error", ""))

    def up(self) -> State:
        """Starts it; one that is up stays as it is. Raises BedError."""
        with self._alone():
            chosen = choice.choose()
            if state := self.state():
                if chosen.explicit and chosen.kind != state.kind:
                    raise BedError(f"{chosen}, but another is up here ({state.kind}): make cluster-down ends that")
                self._say(f"{state.says}; it is up already")
                return state
            if "keeper" in self._told():
                self._say("A cluster that a killed run left here is cleaned up first")
            self._clean()
            self._say(str(chosen))
            binaries.ensure(chosen.needs, self._say)
            begin = time.monotonic()
            state = self._start()
            self._say(f"Up in {time.monotonic() - begin:.1f} s: {_server(state)}; our kinds are installed")
            if state.pools:
                self._say("Fake nodes, which run pods without running anything: testbed/pools/pools.yaml")
            return state

    def down(self) -> bool:
        """Ends it and all that a killed run left of it; whether there was anything. Raises BedError."""
        with self._alone():
            told = self._told()
            end(told.get("keeper", 0), told.get("start_time", 0), STOP_SECONDS)
            self._clean()
            return bool(told)

    def _start(self) -> State:
        command = [sys.executable, "-m", "cortex_testbed.keeper", str(self._directory)]
        log = self._directory.with_name(self._directory.name + ".log")
        with log.open("wb") as output:
            keeper = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            while not (content := self._told()) and keeper.poll() is None:
                time.sleep(0.05)
        except BaseException:
            keeper.terminate()
            keeper.wait()
            raise
        if state := self.state():
            keeper.returncode = 0  # it lives on without this process
            return state
        raise BedError(str(content.get("error") or self._told().get("error") or log.read_text()[-2000:]))

    def _clean(self) -> None:
        """Ends what a killed keeper left: it took the processes with it, but not what runs in Docker."""
        kind = self._told().get("kind")
        Processes(self._directory / "pools").stop("kwok", 0.5)
        if kind in CLUSTERS:
            CLUSTERS[kind](self._directory).stop()
        shutil.rmtree(self._directory, ignore_errors=True)
        report_file(self._directory).unlink(missing_ok=True)

    def _told(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(report_file(self._directory).read_text())
        except (OSError, ValueError):
            return {}
        return content

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._directory.parent.mkdir(parents=True, exist_ok=True)
        with self._directory.with_name(self._directory.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _server(state: State) -> str:
    return Kubectl(state.kubeconfig)("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
