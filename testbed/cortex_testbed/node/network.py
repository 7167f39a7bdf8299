"""Addresses of the node and its pods, and what carries them; shields the rest from `ip` and `conntrack`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

NODE: Final = "node-0"
ADDRESS: Final = "10.200.0.1"
"""Of the node, on lo: pods reach the API server and DNS there."""
PODS: Final = "10.244.0.0/24"
CLUSTER_CIDR: Final = "10.244.0.0/16"
SERVICE_CIDR: Final = "10.96.0.0/16"
BRIDGE: Final = "cni0"
NAME: Final = "cortex-testbed"
"""Of the pods' CNI network; it marks iptables rules and cached results as the bed's."""
CNI_CACHE: Final = Path("/var/lib/cni/results")


def conflist(addresses: Path) -> str:
    """The CNI configuration; `addresses` is the folder where those given out are noted."""
    ipam = {
        "type": "host-local",
        "dataDir": str(addresses),
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": ipam}
    return json.dumps({"cniVersion": "1.0.0", "name": NAME, "plugins": [bridge]})


def has_bridge() -> bool:
    """Whether a bridge of this name is on the machine."""
    return Path("/sys/class/net", BRIDGE).exists()


def add_address() -> None:
    """Puts the node's address on lo."""
    subprocess.run(["ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo"], check=True, capture_output=True)


def remove() -> None:
    """Takes away bridge, pairs of pods, address, tracked connections and cached results."""
    for link in [*_pairs(), BRIDGE]:
        _quietly("ip", "link", "delete", link)
    _quietly("ip", "address", "delete", f"{ADDRESS}/32", "dev", "lo")
    for which, range_ in (("--src", PODS), ("--dst", PODS), ("--dst", SERVICE_CIDR)):
        _quietly("conntrack", "--delete", which, range_)
    _remove_cache()


def _pairs() -> list[str]:
    """The host's ends of the pods' interfaces."""
    said = _quietly("ip", "-json", "link", "show", "master", BRIDGE)
    links: list[dict[str, Any]] = json.loads(said or "[]")
    return [link["ifname"] for link in links if "ifname" in link]


def _remove_cache() -> None:
    for result in CNI_CACHE.glob(f"{NAME}-*-eth0"):
        sandbox = result.name.removeprefix(f"{NAME}-").removesuffix("-eth0")
        (CNI_CACHE / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        result.unlink(missing_ok=True)
    for folder in (CNI_CACHE, CNI_CACHE.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            shutil.rmtree(folder)


def _quietly(*command: str) -> str:
    """Its output; failing means that there was nothing to do."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""
