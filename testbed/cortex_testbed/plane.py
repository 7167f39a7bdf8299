"""A throw-away control plane: etcd, API server, controller-manager, scheduler; shields the rest from their flags."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import shutil
import ssl
import time
from pathlib import Path
from typing import Final

import yaml
from cortex_cli.local.launch import write_private
from cortex_cli.local.ports import LOOPBACK, free_port, holder, is_free

from cortex_testbed import binaries, components, crds
from cortex_testbed.certificates import Authority, Pair
from cortex_testbed.components import Keys, PlaneOptions, Ports
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.processes import Processes

__all__ = ["Plane", "PlaneOptions"]

READY_SECONDS: Final = 90.0
PORT_ATTEMPTS: Final = 5
CONTEXT: Final = "cortex-test"
_STOP_ORDER: Final = (("kube-scheduler", 1), ("kube-controller-manager", 1), ("kube-apiserver", 1), ("etcd", 3))
"""With seconds of grace. The API server would wait a minute for open watches, and it cannot do without etcd."""


class Plane:
    """One control plane, whose folder holds nothing else. What it starts dies with the thread that calls `start`."""

    def __init__(self, directory: Path, options: PlaneOptions | None = None) -> None:
        self.directory = directory.absolute()
        self.options = options or PlaneOptions()
        self.processes = Processes(self.directory)
        self.port = 0
        self.kubeconfig = self.directory / "admin.kubeconfig"
        """Of a member of system:masters; complete in itself, it can be copied."""

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def ca(self) -> Pair:
        """Of the cluster's certificate authority, once it was started."""
        return self.authority.ca

    def start(self) -> None:
        """Returns when the API server is ready and a namespace gets its service account. A cluster that was left in
        the folder is ended and forgotten. Raises BedError."""
        bin_dir = binaries.ensure()
        self.stop()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._forget("pki")
        self._make_certificates()
        for attempt in range(PORT_ATTEMPTS):
            try:
                return self._start(bin_dir)
            except BedError:
                taken = self._lost_a_port()
                self.stop()
                if not taken or attempt == PORT_ATTEMPTS - 1:
                    raise

    def stop(self) -> None:
        """Ends it, also one that another process started in this folder. Files stay."""
        for name, grace in _STOP_ORDER:
            self.processes.stop(name, grace)

    def user(self, name: str, subject: str) -> Path:
        """A kubeconfig NAME.kubeconfig for a new client certificate; `subject` as /O=GROUP/CN=USER."""
        pair = self.authority.issue(name, subject)
        path = self.directory / f"{name}.kubeconfig"
        credentials = {"client-certificate-data": _base64(pair.certificate), "client-key-data": _base64(pair.key)}
        cluster = {"server": self.server, "certificate-authority-data": _base64(self.ca.certificate)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": cluster}],
            "users": [{"name": name, "user": credentials}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": name}}],
            "current-context": CONTEXT,
        }
        write_private(path, yaml.safe_dump(content, sort_keys=False))
        return path

    def _forget(self, *names: str) -> None:
        for name in names:
            shutil.rmtree(self.directory / name, ignore_errors=True)

    def _make_certificates(self) -> None:
        self.authority = Authority(self.directory / "pki")
        service = ipaddress.ip_network(self.options.service_cidr)[1]
        names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        sans = [*(f"DNS:{name}" for name in names), f"IP:{LOOPBACK}", f"IP:{service}", *self.options.extra_sans]
        self._keys = Keys(
            ca=self.authority.ca,
            server=self.authority.issue("kube-apiserver", "/CN=kube-apiserver", sans),
            admin=self.authority.pair("admin"),
            tokens=self.authority.signing_key("service-accounts"),
        )

    def _start(self, bin_dir: Path) -> None:
        self._forget("etcd", "logs")
        ports = self._choose_ports()
        self.port = ports.apiserver
        self.user("admin", "/O=system:masters/CN=admin")
        etcd = components.etcd(self.directory / "etcd", ports, self._keys)
        self.processes.start("etcd", [bin_dir / "etcd", *etcd])
        server = components.apiserver(self.options, ports, self._keys)
        self.processes.start("kube-apiserver", [bin_dir / "kube-apiserver", *server])
        deadline = time.monotonic() + READY_SECONDS
        self._wait("/readyz", deadline)
        if self.options.our_kinds:
            crds.install(Kubectl(self.kubeconfig))
        self._start_client(bin_dir, "controller-manager", components.controller_manager(self.options, self._keys))
        self._start_client(bin_dir, "scheduler", [])
        self._wait("/api/v1/namespaces/default/serviceaccounts/default", deadline)

    def _start_client(self, bin_dir: Path, role: str, flags: list[str]) -> None:
        name = f"kube-{role}"
        kubeconfig = self.user(name, f"/CN=system:{name}")
        common = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"]
        self.processes.start(name, [bin_dir / name, *common, *flags])

    def _choose_ports(self) -> Ports:
        wanted = self.options.secure_port
        if wanted and not is_free(wanted):
            raise BedError(f"port {wanted} is taken by {holder(wanted)}: end it, or choose another port")
        taken: list[int] = [wanted or free_port()]
        while len(taken) < 3:
            taken.append(free_port(frozenset(taken)))
        return Ports(*taken)

    def _lost_a_port(self) -> bool:
        return any("address already in use" in self.processes.tail(name, 50) for name in ("etcd", "kube-apiserver"))

    def _wait(self, path: str, deadline: float) -> None:
        tls = ssl.create_default_context(cafile=str(self.ca.certificate))
        tls.load_cert_chain(self._keys.admin.certificate, self._keys.admin.key)
        while not _answers(self.port, path, tls):
            if ended := self.processes.ended():
                raise BedError(f"{ended} ended ({self.processes.log(ended)}):\n{self.processes.tail(ended)}")
            if time.monotonic() > deadline:
                raise BedError(f"no {path} after {READY_SECONDS:.0f} s; see the logs in {self.directory / 'logs'}")
            time.sleep(0.05)


def _answers(port: int, path: str, tls: ssl.SSLContext) -> bool:
    connection = http.client.HTTPSConnection(LOOPBACK, port, timeout=5, context=tls)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
