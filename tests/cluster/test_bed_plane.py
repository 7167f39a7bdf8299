"""The control plane of our own and the cluster of `make cluster`: lifecycle, leftovers, taken ports."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from cortex_testbed import plane as planes
from cortex_testbed.cluster import UserCluster
from cortex_testbed.errors import BedError
from cortex_testbed.existing import Existing
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.plane import Plane, PlaneOptions
from cortex_testbed.processes import Processes


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UserCluster]:
    """A cluster as `make cluster` starts it, in a folder of this test's own."""
    monkeypatch.setenv("CORTEX_TEST_CLUSTER", "plane")
    monkeypatch.setenv("PYTHONPATH", str(Path(planes.__file__).parents[1]))
    cluster = UserCluster(tmp_path / "run", lambda line: said(tmp_path).write_text(read(tmp_path) + line + "\n"))
    yield cluster
    cluster.down()


def said(folder: Path) -> Path:
    return folder / "said"


def read(folder: Path) -> str:
    return said(folder).read_text() if said(folder).exists() else ""


def parts(folder: Path) -> dict[str, int]:
    """The process ids of all that runs, by name."""
    plane, kwok = Processes(folder / "run"), Processes(folder / "run" / "pools")
    pids = {name: each.pid(name) for each in (plane, kwok) for name in each.names()}
    assert sorted(pids) == ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"]
    assert None not in pids.values()
    return {name: pid for name, pid in pids.items() if pid}


def wait_for_the_end_of(*pids: int) -> None:
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([pidfd], [], [], 60)[0], f"{pid} still lives"
        os.close(pidfd)


def test_up_twice_changes_nothing_and_no_end_leaves_anything(
    own: UserCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = own.up()
    assert "because CORTEX_TEST_CLUSTER is plane" in read(tmp_path)
    assert own.up() == own.state() == first
    assert "it is up already" in read(tmp_path)
    with monkeypatch.context() as another:
        another.setenv("CORTEX_TEST_CLUSTER", "existing")
        with pytest.raises(BedError, match=r"another is up here \(plane\)"):
            own.up()
    assert len(Kubectl(first.kubeconfig).get("nodes")["items"]) > 5
    pids = parts(tmp_path)
    os.kill(first.keeper, signal.SIGKILL)
    wait_for_the_end_of(*pids.values())
    assert own.state() is None

    second = own.up()
    assert "A cluster that a killed run left here is cleaned up first" in read(tmp_path)
    pids = parts(tmp_path)
    os.kill(pids["kube-scheduler"], signal.SIGKILL)
    wait_for_the_end_of(*pids.values(), second.keeper)
    assert own.state() is None
    assert "kube-scheduler ended by itself" in own.fault()
    assert own.down()
    assert not own.down()
    assert not (tmp_path / "run").exists()


def test_ports_that_are_lost_meanwhile_are_chosen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_port = planes.free_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offered = [taken.getsockname()[1]]
        monkeypatch.setattr(planes, "free_port", lambda *avoid: offered.pop() if offered else free_port(*avoid))
        plane = Plane(tmp_path / "plane")
        try:
            plane.start()
            assert Kubectl(plane.kubeconfig)("get", "--raw=/readyz") == "ok"
            assert plane.port != taken.getsockname()[1]
            reader = plane.user("reader", "/O=readers/CN=reader")
            assert "reader" in Kubectl(reader)("auth", "whoami")
            with pytest.raises(BedError, match="Forbidden"):
                Kubectl(reader)("get", "nodes")
        finally:
            plane.stop()
    assert plane.processes.names() == []
    shutil.rmtree(tmp_path / "plane")


def test_port_that_was_asked_for_and_is_taken_names_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BedError, match=rf"port {port} is taken by pid {os.getpid()} .*: end it, or choose another"):
            Plane(tmp_path / "plane", PlaneOptions(secure_port=port)).start()


def test_existing_cluster_is_pinned_and_left_as_it_is(
    api_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server))
    cluster = Existing(tmp_path / "run")
    cluster.start()
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    cluster.stop()
    assert Kubectl(cluster.kubeconfig)("get", "--raw=/readyz") == "ok"
    assert cluster.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_kubeconfig_of_a_cluster_that_is_gone_is_one_clear_line(
    api_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "kubeconfig"
    server = Kubectl(api_server)("config", "view", "--output=jsonpath={.clusters[0].cluster.server}")
    with socket.socket() as deaf:  # it has a port, which nobody else gets, and does not listen
        deaf.bind(("127.0.0.1", 0))
        named.write_text(api_server.read_text().replace(server, f"https://127.0.0.1:{deaf.getsockname()[1]}"))
        monkeypatch.setenv("KUBECONFIG", str(named))
        said = r"the cluster of KUBECONFIG=.* does not answer \(.*refused.*\): set KUBECONFIG"
        with pytest.raises(BedError, match=said):
            Existing(tmp_path / "run").start()
