"""Configuration and flags of kubelet, kube-proxy and CoreDNS."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

from cortex_testbed.certificates import Pair
from cortex_testbed.node import cgroups
from cortex_testbed.node.network import ADDRESS, CLUSTER_CIDR, NODE

LABEL: Final = "test.datapunk.io/node=real"
PORTS: Final = {
    "kubelet": 10250,
    "kube-proxy": 10256,
    "kube-proxy metrics": 10249,
    "coredns": 53,
    "coredns ready": 8181,
}
"""What the node listens on, at its own address."""
DEVICE_PLUGINS: Final = Path("/var/lib/kubelet/device-plugins")
"""A constant in kubelet, whatever its folder is."""
_COREFILE: Final = """\
cluster.local:53 10.in-addr.arpa:53 {{
    bind {address}
    errors
    kubernetes {{
        kubeconfig {kubeconfig}
        ttl 5
    }}
    cache 5
}}
.:53 {{
    bind {address}
    ready {address}:{ready}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
"""The second block makes a name that is not found NXDOMAIN; alone, the first refuses it, which clients take for a
failure of the server."""


def kubelet_config(socket: Path, client_ca: Path, logs: Path) -> str:
    """For `--config`: accepts what small and nested machines have, and never deletes an image: none could be pulled."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "port": PORTS["kubelet"],
            "healthzPort": 0,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(client_ca)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroups.NAME}",
            "clusterDNS": [ADDRESS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{socket}",
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "maxPods": 110,
            "oomScoreAdj": 0,
            "podLogsDir": str(logs),
        }
    )


def kubelet_flags(root: Path, config: Path, kubeconfig: Path, serving: Pair) -> list[str]:
    """`serving` is the certificate of its own server."""
    return [
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={root}",
        f"--cert-dir={root / 'pki'}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--hostname-override={NODE}",
        f"--node-ip={ADDRESS}",
        f"--node-labels={LABEL}",
    ]


def proxy_flags(kubeconfig: Path) -> list[str]:
    """It leaves the sizes of the connection table as they are."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={NODE}",
        f"--cluster-cidr={CLUSTER_CIDR}",
        "--proxy-mode=iptables",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        f"--healthz-bind-address={ADDRESS}:{PORTS['kube-proxy']}",
        f"--metrics-bind-address={ADDRESS}:{PORTS['kube-proxy metrics']}",
    ]


def corefile(kubeconfig: Path) -> str:
    """CoreDNS's configuration: the cluster's names, and that there are no others."""
    return _COREFILE.format(address=ADDRESS, ready=PORTS["coredns ready"], kubeconfig=kubeconfig)
