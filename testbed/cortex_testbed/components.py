"""The flags of the control plane's components; shields the plane from how each one is told the same things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cortex_cli.local.ports import LOOPBACK

from cortex_testbed.certificates import Pair


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
    our_kinds: bool = False
    """Install our CRDs before the controllers start: the garbage collector looks for new kinds every 30 s only."""


@dataclass(frozen=True)
class Keys:
    """The certificates that the components share."""

    ca: Pair
    server: Pair
    """Of the API server and etcd, and the API server's as etcd's client."""
    admin: Pair
    """The API server's as the kubelets' client."""
    tokens: Pair
    """What signs service account tokens; its certificate is the public key alone."""


@dataclass(frozen=True)
class Ports:
    """All on the loopback address, but the API server's."""

    apiserver: int
    etcd: int
    etcd_peer: int


def etcd(data: Path, ports: Ports, keys: Keys) -> list[str]:
    """Only clients with a certificate of this cluster are served; what was written may be lost with the machine."""
    client, peer = (f"https://{LOOPBACK}:{port}" for port in (ports.etcd, ports.etcd_peer))
    tls = (
        ("cert-file", keys.server.certificate),
        ("key-file", keys.server.key),
        ("trusted-ca-file", keys.ca.certificate),
        ("client-cert-auth", "true"),
    )
    return [
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        *(f"--{prefix}{flag}={value}" for prefix in ("", "peer-") for flag, value in tls),
    ]


def apiserver(options: PlaneOptions, ports: Ports, keys: Keys) -> list[str]:
    """Nothing is aggregated into it; it reaches kubelets at their nodes' InternalIP."""
    advertise = options.advertise_address
    return [
        f"--etcd-servers=https://{LOOPBACK}:{ports.etcd}",
        f"--etcd-cafile={keys.ca.certificate}",
        f"--etcd-certfile={keys.server.certificate}",
        f"--etcd-keyfile={keys.server.key}",
        f"--bind-address={options.bind_address}",
        f"--secure-port={ports.apiserver}",
        f"--advertise-address={advertise or LOOPBACK}",
        f"--endpoint-reconciler-type={'lease' if advertise else 'none'}",
        f"--service-cluster-ip-range={options.service_cidr}",
        f"--tls-cert-file={keys.server.certificate}",
        f"--tls-private-key-file={keys.server.key}",
        f"--client-ca-file={keys.ca.certificate}",
        f"--kubelet-client-certificate={keys.admin.certificate}",
        f"--kubelet-client-key={keys.admin.key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={keys.tokens.certificate}",
        f"--service-account-signing-key-file={keys.tokens.key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ]


def controller_manager(options: PlaneOptions, keys: Keys) -> list[str]:
    """Each controller is a service account of its own; at the default rate making those takes seconds. Autoscalers are
    looked at every 2 s in place of 15."""
    pods = options.cluster_cidr
    return [
        f"--service-cluster-ip-range={options.service_cidr}",
        f"--service-account-private-key-file={keys.tokens.key}",
        f"--root-ca-file={keys.ca.certificate}",
        f"--cluster-signing-cert-file={keys.ca.certificate}",
        f"--cluster-signing-key-file={keys.ca.key}",
        "--use-service-account-credentials",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--horizontal-pod-autoscaler-sync-period=2s",
        *(["--allocate-node-cidrs", f"--cluster-cidr={pods}"] if pods else []),
    ]
