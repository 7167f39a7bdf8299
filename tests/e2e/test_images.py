"""The images as restricted pods run them: what is in them, what they say, what the Lake and the state keep."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cortex_testbed import images
from cortex_testbed.images_tools import Buildah
from image_run import USER, Container

MODULES = {
    "operator": ["cortex_operator.main"],
    "gateway": ["cortex_workloads.gateway.main"],
    "search": ["cortex_workloads.search.wiring", "cortex_workloads.search.ingest"],
    "graph": ["cortex_workloads.graph.pod"],
}
FOREIGN = {
    "operator": ["haystack", "langgraph", "onnxruntime", "fastapi", "psycopg", "redis"],
    "gateway": ["haystack", "langgraph", "onnxruntime", "kopf"],
    "search": ["langgraph", "kopf", "kubernetes", "fastapi"],
    "graph": ["haystack", "kopf", "kubernetes", "fastapi"],
}
"""What a role must not have: other roles' libraries."""
REFUSALS = [
    ("operator", "cortex_operator", "CORTEX_SEARCH_IMAGE"),
    ("search", "cortex_workloads.search", "CORTEX_LAKE_DSN"),
    ("search", "cortex_workloads.search.ingest", "CORTEX_LAKE_DSN"),
    ("graph", "cortex_workloads.graph", "CORTEX_LAKE_DSN"),
]
TOO_MUCH = r"""
for name in pip pip3 gcc cc make git curl wget; do command -v $name || true; done
find / -xdev \( -name 'pip-*' -o -name ensurepip -o -name python-wheels -o -name pip.conf -o -name .netrc \
  -o -name '*.deb' -o -path '/run/secrets/*' -o -path '/opt/tools*' -o -path '/var/lib/apt/lists/*_*' \) \
  -print 2>/dev/null || true
"""
WRITABLE = """
for path in / /etc /opt/cortex /opt/cortex/code /var/lib/cortex /home; do
  touch $path/x 2>/dev/null && echo $path
done
touch /tmp/x
"""
EMBED = """
import onnxruntime
from cortex_workloads.runtime.embedding.embedder import Embedder
print(Embedder().encode(["a sentence"]).shape)
"""
PASSWORD = 'it\'s \\a "secret" $HOME'
SQL = """
import psycopg
with psycopg.connect(host="127.0.0.1", user="cortex", dbname="cortex", password={password!r}, autocommit=True) as lake:
    for sql in {commands!r}:
        done = lake.execute(sql)
    print(done.fetchall())
"""
STATE = """
import redis
state = redis.Redis(password={password!r}, decode_responses=True)
print({call})
"""


@pytest.fixture(scope="session")
def tool() -> Buildah:
    faulthandler.cancel_dump_traceback_later()  # building takes minutes the first time
    images.build()
    return Buildah(images.DIRECTORY)


Make = Callable[..., Container]


@pytest.fixture
def make(tool: Buildah, tmp_path: Path) -> Iterator[Make]:
    """Makes containers of a role; volumes by the name of their folder in /var/lib/cortex."""
    made: list[Container] = []

    def make(role: str, *volumes: str) -> Container:
        name = f"cortex-test-{os.getpid()}-{tmp_path.name}-{len(made)}"
        folders = {f"/var/lib/cortex/{volume}": tmp_path / volume for volume in volumes}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
            os.chown(folder, USER, USER)
        made.append(Container(tool, images.reference(role), tmp_path / name, folders))
        return made[-1]

    yield make
    for container in made:
        container.close()


@pytest.mark.parametrize("role", images.ROLES)
def test_an_image_has_no_tools_and_no_secrets_and_is_written_to_in_tmp_alone(make: Make, role: str) -> None:
    container = make(role)
    assert container.config["User"] == f"{USER}:{USER}"
    assert container.run("id", "-u").stdout.strip() == str(USER)
    assert container.run("sh", "-c", TOO_MUCH).stdout == ""
    written = container.run("sh", "-c", WRITABLE)
    assert (written.returncode, written.stdout) == (0, "")


@pytest.mark.parametrize("role", MODULES)
def test_a_role_has_what_it_imports_and_no_other_roles_libraries(make: Make, role: str) -> None:
    code = f"""
import importlib, importlib.util
for module in {MODULES[role]}: importlib.import_module(module)
print([name for name in {FOREIGN[role]} if importlib.util.find_spec(name)])
"""
    done = make(role).run("python", "-W", "error::ImportWarning", "-c", code)
    assert (done.returncode, done.stdout) == (0, "[]\n")


@pytest.mark.parametrize(("role", "module", "named"), REFUSALS)
def test_a_missing_setting_is_named(make: Make, role: str, module: str, named: str) -> None:
    done = make(role).run("python", "-m", module)
    assert done.returncode not in (0, 137)
    assert named in done.stdout.splitlines()[-1]


def test_the_gateway_names_what_it_misses(make: Make) -> None:
    done = make("gateway").run(CORTEX_LISTEN_HOST="0.0.0.0")
    assert done.returncode == 1
    assert "ModuleNotFoundError" not in done.stdout
    assert "CORTEX_INSECURE_LISTEN" in done.stdout


@pytest.mark.parametrize("role", ["search", "graph"])
def test_the_model_is_in_the_image(make: Make, role: str) -> None:
    assert make(role).run("python", "-c", EMBED).stdout == "(1, 384)\n"


def test_the_lake_is_made_serves_and_keeps_data_when_killed(make: Make) -> None:
    lake = make("lake", "lake")
    assert lake.config["StopSignal"] == "SIGINT"
    running = lake.start(CORTEX_LAKE_PASSWORD=PASSWORD)
    made = ["CREATE EXTENSION vector", "CREATE TABLE kept AS SELECT '[1,2]'::vector AS v", "SELECT 'ready'"]
    running.ask(sql(made), "[('ready',)]")
    second = make("lake", "lake").run(CORTEX_LAKE_PASSWORD=PASSWORD)
    assert second.stdout == "lake: another container serves /var/lib/cortex/lake; end it first\n"
    running.stop("KILL")

    running = lake.start(CORTEX_LAKE_PASSWORD="another")
    said = running.ask(sql(["SELECT v::text FROM kept"], "another"), "[(")
    assert "[('[1,2]',)]" in said
    assert "password authentication failed" in running.ask(sql(["SELECT 1"]), "failed")
    assert running.stop("INT") == 0


def test_the_lake_stops_at_once_with_clients_connected(make: Make) -> None:
    running = make("lake", "lake").start(CORTEX_LAKE_PASSWORD=PASSWORD)
    running.ask(sql(["SELECT 'ready'"]), "[('ready',)]")
    assert running.stop("INT", seconds=10) == 0
    assert PASSWORD not in running.log.read_text()


@pytest.mark.parametrize(
    ("env", "volumes", "said"),
    [
        ({}, ["lake"], "lake: CORTEX_LAKE_PASSWORD is not set; take it from the Secret of the Lake\n"),
        (
            {"CORTEX_LAKE_PASSWORD": "a\nb"},
            ["lake"],
            "lake: CORTEX_LAKE_PASSWORD has more than one line; choose another\n",
        ),
        (
            {"CORTEX_LAKE_PASSWORD": "a"},
            [],
            "lake: /var/lib/cortex/lake cannot be written by user 65532; give the volume to it: fsGroup 65532\n",
        ),
    ],
)
def test_the_lake_says_what_it_misses(make: Make, env: dict[str, str], volumes: list[str], said: str) -> None:
    done = make("lake", *volumes).run(**env)
    assert (done.returncode, done.stdout) == (1, said)


def test_the_lake_of_another_version_is_left_as_it_is(make: Make, tmp_path: Path) -> None:
    lake = make("lake", "lake")
    data = tmp_path / "lake" / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("17\n")
    os.chown(data, USER, USER)
    assert "was made by PostgreSQL 17, this is 18" in lake.run(CORTEX_LAKE_PASSWORD="a").stdout
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_the_state_asks_for_the_password_and_keeps_data_when_killed(make: Make) -> None:
    state = make("state", "state")
    running = state.start(CORTEX_STATE_PASSWORD=PASSWORD)
    assert running.ask(ask("state.ping()"), "True") == "True\n"
    assert "invalid username-password pair" in running.ask(ask("state.ping()", "another"), "Error")
    # WAITAOF answers when it is on disk, whatever appendfsync says.
    running.ask(ask("state.set('kept', 'yes'), state.waitaof(1, 0, 5000)"), "True [1")
    running.stop("KILL")

    running = state.start(CORTEX_STATE_PASSWORD=PASSWORD)
    assert running.ask(ask("state.get('kept')"), "yes") == "yes\n"
    assert running.stop("TERM") == 0


def test_the_state_without_a_password_answers(make: Make) -> None:
    running = make("state", "state").start()
    running.ask(ask("state.ping()", None), "True")
    assert running.stop("TERM") == 0


def sql(commands: list[str], password: str = PASSWORD) -> str:
    return SQL.format(password=password, commands=commands)


def ask(call: str, password: Any = PASSWORD) -> str:
    return STATE.format(password=password, call=call)
