"""Real PostgreSQL, Valkey and Kubernetes for the tests that ask, one of each per run, shared by all its workers."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import psycopg
import pytest
import redis
from cortex_testbed.kubectl import Kubectl

KEEPER = Path(__file__).with_name("keeper.py")
TESTBED = Path(__file__).parents[1] / "testbed"
OWNER = "CORTEX_TESTS_OWNER"
WORDS: pytest.StashKey[list[str]] = pytest.StashKey()
"""What the servers said of themselves."""


# A busy machine is no defect: properties are about values, not about milliseconds.
hypothesis.settings.register_profile("cortex", deadline=None)
hypothesis.settings.load_profile("cortex")


def pytest_configure(config: pytest.Config) -> None:
    """Tells the workers whose end is the end of the run."""
    # A shell's background jobs ignore Ctrl-C, and so would what tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        os.environ[OWNER] = str(os.getpid())


def _keeper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cortex_tests_keeper", KEEPER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _shared_directory(config: pytest.Config, factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    return (base.parent if hasattr(config, "workerinput") else base) / "servers"


def _shared_server(name: str, config: pytest.Config, factory: pytest.TempPathFactory) -> str:
    """The URL of the run's server; the first worker that asks starts it."""
    return str(_shared(name, [str(KEEPER), name], config, factory)["url"])


def _shared(name: str, command: list[str], config: pytest.Config, factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run's keeper tells; the first worker that asks starts it: `command` DIRECTORY OWNER_PID."""
    directory = _shared_directory(config, factory)
    directory.mkdir(exist_ok=True)
    told = directory / f"{name}.json"
    with (directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            words = [sys.executable, *command, str(directory / name), os.environ[OWNER]]
            env = {**os.environ, "PYTHONPATH": str(TESTBED)}
            with (directory / f"{name}.keeper.log").open("ab") as log:
                keeper = subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)
            while not told.exists() and keeper.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    keeper.wait(0.02)
            keeper.returncode = 0  # it outlives this worker: the owner of the run ends it
    if not told.exists():
        pytest.fail(f"{name} for the tests: {(directory / f'{name}.keeper.log').read_text()[-2000:]}", pytrace=False)
    content: dict[str, Any] = json.loads(told.read_text())
    if "error" in content:
        pytest.fail(f"{name} for the tests: {content['error']}", pytrace=False)
    return content


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Ends the servers before pytest ends; their keepers do so by themselves when pytest cannot."""
    config = session.config
    factory = getattr(config, "_tmp_path_factory", None)
    if hasattr(config, "workerinput") or factory is None:
        return
    for told in _shared_directory(config, factory).glob("*.json"):
        content = json.loads(told.read_text())
        keeper = content.get("keeper")
        config.stash.setdefault(WORDS, []).extend([content["says"]] if "says" in content else [])
        told.unlink()
        if keeper is None:
            continue
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(keeper)
            os.kill(keeper, signal.SIGTERM)
            _wait(ended)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says which cluster the tests had, and why."""
    for words in config.stash.get(WORDS, []):
        terminalreporter.write_line(words)


def _wait(pidfd: int) -> None:
    import select

    select.select([pidfd], [], [], 10)
    os.close(pidfd)


@pytest.fixture(scope="session")
def lake_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """postgresql:// URL of the run's server, as its superuser."""
    return _shared_server("postgres", request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def state_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """redis:// URL of the run's server."""
    return _shared_server("valkey", request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """redis:// URL of the run's Redis, the oldest that is supported."""
    return _shared_server("redis", request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def run_cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The run's cluster: "url" is the path of its kubeconfig, "pools" whether it has the fake nodes."""
    return _shared("cluster", ["-m", "cortex_testbed.keeper"], request.config, tmp_path_factory)


@pytest.fixture(scope="session")
def api_server(run_cluster: dict[str, Any]) -> Path:
    """An admin's kubeconfig of the run's cluster, which serves our kinds and runs pods on fake nodes. A control plane
    of our own, or kind, or KUBECONFIG's: see testbed/cortex_testbed/choice.py."""
    return Path(run_cluster["url"])


@pytest.fixture
def kubectl(api_server: Path) -> Kubectl:
    """kubectl as the cluster's admin."""
    return Kubectl(api_server)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A fresh namespace that enforces the restricted Pod Security Standard; deleted afterwards without waiting."""
    name = f"test-{secrets.token_hex(6)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=60s")
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def lake_dsn(lake_server: str) -> Iterator[str]:
    """A fresh, empty database on PostgreSQL 18 with pgvector (extension not created yet), dropped afterwards."""
    name = f"lake_{secrets.token_hex(6)}"
    with psycopg.connect(lake_server, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    yield urlunsplit(urlsplit(lake_server)._replace(path=f"/{name}"))
    with psycopg.connect(lake_server, autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def state_url(state_server: str, worker_number: int) -> str:
    """A flushed logical database of this worker's own. Channels and functions are shared with the other workers."""
    url = urlunsplit(urlsplit(state_server)._replace(path=f"/{worker_number}"))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def worker_number(request: pytest.FixtureRequest) -> int:
    """0 without xdist, else 1, 2, ..."""
    worker = getattr(request.config, "workerinput", {}).get("workerid", "gw-1")
    return int(worker.removeprefix("gw")) + 1


class OwnServer:
    """A server of one test's own, which the test may kill and start again. `url` may change with a start."""

    def __init__(self, name: str, directory: Path, durable: bool) -> None:
        self.name = name
        self.directory = directory
        self._durable = durable
        self._keeper = _keeper()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        launch = self._keeper.LAUNCHERS[self.name](self.directory, durable=self._durable)
        self._process = self._keeper.start(launch, self.directory.with_suffix(".log"))
        self._stop_signal = launch.stop_signal
        self.url = launch.url

    def stop(self, *, kill: bool = False) -> None:
        """Stops it in order, or as a crash does (kill -9)."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if kill else self._stop_signal)
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """kill -9."""
        self.stop(kill=True)


@pytest.fixture(scope="session")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., OwnServer]]:
    """`own_postgres(durable=False)` starts a PostgreSQL that the caller may kill, stop and start; `.url`, `.pid`."""
    yield from _own_servers("postgres", tmp_path_factory)


@pytest.fixture(scope="session")
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., OwnServer]]:
    """`own_valkey(durable=True)` starts a Valkey that the caller may kill, stop and start; `.url`, `.pid`."""
    yield from _own_servers("valkey", tmp_path_factory, durable=True)


def _own_servers(name: str, factory: pytest.TempPathFactory, **defaults: Any) -> Iterator[Callable[..., OwnServer]]:
    servers: list[OwnServer] = []

    def start(*, durable: bool = defaults.get("durable", False)) -> OwnServer:
        servers.append(OwnServer(name, factory.mktemp(f"own-{name}") / name, durable))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
