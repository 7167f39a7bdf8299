"""The real node: starts its parts in order and waits until it is Ready."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cortex_cli.local import ports

from cortex_testbed import binaries
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.node import cgroups, chains, kubelet, network, pause
from cortex_testbed.node.containerd import Containerd
from cortex_testbed.plane import Plane
from cortex_testbed.processes import Processes

READY_SECONDS: Final = 60.0
LONGEST_SOCKET: Final = 107
"""Bytes of a unix socket's path."""


class Node:
    """Folder: `containerd`, `cni`, `kubelet`, `logs`, `processes`. What it starts dies with the thread that starts it;
    `leftovers.remove` takes the rest away."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.processes = Processes(self.directory)
        self.containerd = Containerd(self.directory / "containerd")
        self._kubelet = self.directory / "kubelet"

    def prepare(self) -> None:
        """Before the control plane starts: what on the machine it needs, too. Raises BedError."""
        longest = self._kubelet / "pod-resources" / "kubelet.sock"
        if len(bytes(longest)) > LONGEST_SOCKET:
            raise BedError(f"{self.directory} is too deep: {longest} is too long for a socket; use a shorter path")
        shutil.rmtree(self.directory / "logs", ignore_errors=True)
        network.add_address()
        chains.accept_pods()
        cgroups.make()
        for name, port in kubelet.PORTS.items():
            _check_port(name, port)

    def start(self, plane: Plane) -> None:
        """Returns when the node is Ready and DNS answers. Raises BedError."""
        bin_dir = binaries.ensure(binaries.NODE)
        self._start_containerd()
        self._start_kubelet(plane, bin_dir)
        proxy = plane.user("kube-proxy", "/CN=system:kube-proxy")
        self.processes.start("kube-proxy", [bin_dir / "kube-proxy", *kubelet.proxy_flags(proxy)])
        corefile = self.directory / "Corefile"
        corefile.write_text(kubelet.corefile(plane.kubeconfig))
        self.processes.start("coredns", [bin_dir / "coredns", "-conf", corefile])
        self._wait(Kubectl(plane.kubeconfig))

    def _start_containerd(self) -> None:
        cni = self.directory / "cni"
        cni.mkdir(parents=True, exist_ok=True)
        (cni / "10-pods.conflist").write_text(network.conflist(self.directory / "addresses"))
        self._run_containerd(cni)
        if self.containerd.forget_containers():
            # Its memory of them was read when it started.
            self.processes.stop("containerd")
            self._run_containerd(cni)
        self.containerd.forget_unused()
        archive = self.directory / "pause.tar"
        pause.write(archive)
        self.containerd.load(archive)

    def _run_containerd(self, cni: Path) -> None:
        self.processes.start("containerd", self.containerd.command(cni))
        try:
            self.containerd.wait()
        except BedError as error:
            tail = self.processes.tail("containerd")
            raise BedError(f"{error}; the end of {self.processes.log('containerd')}:\n{tail}") from error

    def _start_kubelet(self, plane: Plane, bin_dir: Path) -> None:
        names = [f"DNS:{network.NODE}", f"IP:{network.ADDRESS}"]
        serving = plane.authority.issue("kubelet-server", f"/CN={network.NODE}", names)
        kubeconfig = plane.user("kubelet", f"/O=system:nodes/CN=system:node:{network.NODE}")
        config = self.directory / "kubelet.yaml"
        logs = self.directory / "logs" / "pods"
        config.write_text(kubelet.kubelet_config(self.containerd.socket, plane.ca.certificate, logs))
        flags = kubelet.kubelet_flags(self._kubelet, config, kubeconfig, serving)
        self.processes.start("kubelet", [bin_dir / "kubelet", *flags])

    def _wait(self, kubectl: Kubectl) -> None:
        deadline = time.monotonic() + READY_SECONDS
        self._wait_for("node", lambda: _is_ready(kubectl), deadline)
        self._wait_for("DNS", _resolves, deadline)

    def _wait_for(self, part: str, is_ready: Callable[[], bool], deadline: float) -> None:
        while not is_ready():
            if ended := self.processes.ended():
                raise BedError(f"{ended} ended ({self.processes.log(ended)}):\n{self.processes.tail(ended)}")
            if time.monotonic() > deadline:
                logs = self.directory / "logs"
                raise BedError(f"the {part} is not ready after {READY_SECONDS:.0f} s; see the logs in {logs}")
            time.sleep(0.1)


def forget(directory: Path) -> None:
    """Removes what a node leaves in its folder, but its logs and images; nothing of it may run."""
    Containerd(directory / "containerd").forget_state()
    for name in ("kubelet", "addresses", "cni"):
        shutil.rmtree(directory / name, ignore_errors=True)


def _is_ready(kubectl: Kubectl) -> bool:
    wanted = '{.status.conditions[?(@.type=="Ready")].status}'
    with contextlib.suppress(BedError):  # not registered yet
        return kubectl("get", "node", network.NODE, f"--output=jsonpath={wanted}") == "True"
    return False


def _resolves() -> bool:
    connection = http.client.HTTPConnection(network.ADDRESS, kubelet.PORTS["coredns ready"], timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    return False


def _check_port(name: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((network.ADDRESS, port))
        except OSError as error:
            raise BedError(f"port {port}, which {name} needs, is taken by {ports.holder(port)}: end it") from error
