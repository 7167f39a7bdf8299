"""A throw-away control plane: etcd, API server, controller-manager, scheduler; shields the rest from their flags."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import shutil
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from cortex_cli.local.launch import write_private
from cortex_cli.local.ports import LOOPBACK, free_port, holder, is_free

from cortex_testbed import binaries
from cortex_testbed.certificates import Authority, Pair
from cortex_testbed.errors import BedError
from cortex_testbed.processes import Processes

READY_SECONDS: Final = 90.0
PORT_ATTEMPTS: Final = 5
CONTEXT: Final = "cortex-test"
_STOP_ORDER: Final = (("kube-scheduler", 1), ("kube-controller-manager", 1), ("kube-apiserver", 1), ("etcd", 3))
"""With seconds of grace. The API server would wait a minute for open watches, and it cannot do without etcd."""


@dataclass(frozen=True)
class PlaneOptions:
    """What differs between a bare control plane (the defaults: loopback only, no root) and one with a real node."""

    bind_address: str = LOOPBACK
    advertise_address: str | None = None
    """Where pods reach the API server, published as the Service `kubernetes`; None: nowhere."""
    secure_port: int = 0
    """0: a free one."""
    extra_sans: tuple[str, ...] = ()
    """Of the server's certificate, as DNS:NAME or IP:ADDRESS."""
    service_cidr: str = "10.96.0.0/16"
    cluster_cidr: str | None = None
    """Of the pods; each node gets a part of it. None: nodes get none."""


class Plane:
    """One control plane, whose folder holds nothing else. What it starts dies with the thread that calls `start`."""

    def __init__(self, directory: Path, options: PlaneOptions | None = None) -> None:
        self.directory = directory.absolute()
        self.options = options or PlaneOptions()
        self.processes = Processes(self.directory)
        self.port = 0
        self.kubeconfig = self.directory / "admin.kubeconfig"
        """Of a member of system:masters; complete in itself, it can be copied."""
        self._etcd_port = 0

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def ca(self) -> Pair:
        """Of the cluster's certificate authority."""
        return self.authority.ca

    def start(self) -> None:
        """Returns when the API server is ready and a namespace gets its service account. A cluster that was left in
        the folder is ended and forgotten. Raises BedError."""
        bin_dir = binaries.ensure()
        self.stop()
        for name in ("etcd", "pki", "logs"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
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

    def _make_certificates(self) -> None:
        self.authority = Authority(self.directory / "pki")
        service = ipaddress.ip_network(self.options.service_cidr)[1]
        names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        sans = [*(f"DNS:{name}" for name in names), f"IP:{LOOPBACK}", f"IP:{service}", *self.options.extra_sans]
        self._server = self.authority.issue("kube-apiserver", "/CN=kube-apiserver", sans)
        self._tokens = self.authority.signing_key("service-accounts")

    def _start(self, bin_dir: Path) -> None:
        self._choose_ports()
        self.user("admin", "/O=system:masters/CN=admin")
        self.processes.start("etcd", [bin_dir / "etcd", *self._etcd_flags()])
        self.processes.start("kube-apiserver", [bin_dir / "kube-apiserver", *self._apiserver_flags()])
        deadline = time.monotonic() + READY_SECONDS
        self._wait("/readyz", deadline)
        for name, flags in (("controller-manager", self._manager_flags()), ("scheduler", [])):
            kubeconfig = self.user(f"kube-{name}", f"/CN=system:kube-{name}")
            common = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"]
            self.processes.start(f"kube-{name}", [bin_dir / f"kube-{name}", *common, *flags])
        self._wait("/api/v1/namespaces/default/serviceaccounts/default", deadline)

    def _choose_ports(self) -> None:
        wanted = self.options.secure_port
        if wanted and not is_free(wanted):
            raise BedError(f"port {wanted} is taken by {holder(wanted)}: end it, or choose another port")
        self.port = wanted or free_port()
        self._etcd_port = free_port(frozenset([self.port]))
        self._peer_port = free_port(frozenset([self.port, self._etcd_port]))

    def _lost_a_port(self) -> bool:
        return any("address already in use" in self.processes.tail(name, 50) for name in ("etcd", "kube-apiserver"))

    def _etcd_flags(self) -> list[str]:
        client, peer = (f"https://{LOOPBACK}:{port}" for port in (self._etcd_port, self._peer_port))
        tls = [
            flag
            for prefix in ("", "peer-")
            for flag in (
                f"--{prefix}cert-file={self._server.certificate}",
                f"--{prefix}key-file={self._server.key}",
                f"--{prefix}trusted-ca-file={self.ca.certificate}",
                f"--{prefix}client-cert-auth",
            )
        ]
        return [
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            *tls,
        ]

    def _apiserver_flags(self) -> list[str]:
        server, ca, admin = self._server, self.ca.certificate, self.authority.pair("admin")
        advertise = self.options.advertise_address
        return [
            f"--etcd-servers=https://{LOOPBACK}:{self._etcd_port}",
            f"--etcd-cafile={ca}",
            f"--etcd-certfile={server.certificate}",
            f"--etcd-keyfile={server.key}",
            f"--bind-address={self.options.bind_address}",
            f"--secure-port={self.port}",
            f"--advertise-address={advertise or LOOPBACK}",
            f"--endpoint-reconciler-type={'lease' if advertise else 'none'}",
            f"--service-cluster-ip-range={self.options.service_cidr}",
            f"--tls-cert-file={server.certificate}",
            f"--tls-private-key-file={server.key}",
            f"--client-ca-file={ca}",
            f"--kubelet-client-certificate={admin.certificate}",
            f"--kubelet-client-key={admin.key}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--service-account-key-file={self._tokens.certificate}",
            f"--service-account-signing-key-file={self._tokens.key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
        ]

    def _manager_flags(self) -> list[str]:
        pods = self.options.cluster_cidr
        node_cidrs = ["--allocate-node-cidrs", f"--cluster-cidr={pods}"] if pods else []
        return [
            f"--service-cluster-ip-range={self.options.service_cidr}",
            f"--service-account-private-key-file={self._tokens.key}",
            f"--root-ca-file={self.ca.certificate}",
            f"--cluster-signing-cert-file={self.ca.certificate}",
            f"--cluster-signing-key-file={self.ca.key}",
            "--use-service-account-credentials",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            *node_cidrs,
        ]

    def _wait(self, path: str, deadline: float) -> None:
        tls = ssl.create_default_context(cafile=str(self.ca.certificate))
        admin = self.authority.pair("admin")
        tls.load_cert_chain(admin.certificate, admin.key)
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
