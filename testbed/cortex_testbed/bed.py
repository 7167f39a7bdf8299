"""The bed of the end-to-end tests: a control plane and this machine as its node, from prepare to the last trace."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cortex_cli.local.launch import write_private

from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.node import chains, leftovers, network, sysctls
from cortex_testbed.node.claim import Claim, Holder, holder
from cortex_testbed.node.containerd import Containerd
from cortex_testbed.node.node import Node
from cortex_testbed.paths import ROOT
from cortex_testbed.plane import Plane, PlaneOptions
from cortex_testbed.processes import Processes

DIRECTORY: Final = ROOT / ".build" / "e2e"
OPTIONS: Final = PlaneOptions(
    bind_address="0.0.0.0",  # noqa: S104 (pods come from the bridge; the API server asks everybody for a certificate)
    advertise_address=network.ADDRESS,
    extra_sans=(f"IP:{network.ADDRESS}", f"DNS:{network.NODE}"),
    service_cidr=network.SERVICE_CIDR,
    cluster_cidr=network.CLUSTER_CIDR,
)
CHANGES: Final = (
    f"This machine becomes a node until `down`: address {network.ADDRESS} on lo, bridge {network.BRIDGE} "
    f"({network.PODS}), iptables chains KUBE-* and CNI-*, IP forwarding and a few more sysctls, cgroup cortex-testbed"
)


@dataclass(frozen=True)
class Bed:
    """A bed that is up."""

    directory: Path
    kubeconfig: Path
    """Of a member of system:masters."""

    @property
    def kubectl(self) -> Kubectl:
        """`bed.kubectl("get", "pods")` gives its output; raises BedError."""
        return Kubectl(self.kubeconfig)

    @property
    def dead(self) -> list[str]:
        """The parts that have ended by themselves."""
        parts = [Processes(self.directory / name) for name in ("plane", "node")]
        return [name for part in parts for name in part.names() if part.pid(name) is None]

    @property
    def logs(self) -> list[Path]:
        """Folders and files: of the control plane, of the node with all its pods, of the keeper."""
        return [self.directory / "plane" / "logs", self.directory / "node" / "logs", keeper_log(self.directory)]

    def import_image(self, archive: Path) -> list[str]:
        """Gives the node a docker-archive or OCI archive; the names of its images. Raises BedError."""
        return Containerd(self.directory / "node" / "containerd").load(archive)


def attach(directory: Path = DIRECTORY) -> Bed:
    """The bed of a folder, which another process started. Raises BedError when it is not up."""
    if not is_up(directory):
        raise BedError("no bed is up: `make e2e` brings one, as does `python -m cortex_testbed.e2e up`")
    return Bed(directory, directory / "plane" / "admin.kubeconfig")


def is_up(directory: Path) -> bool:
    """Whether a bed of this folder has come up and has its keeper."""
    now = holder()
    if now is None or now.directory != directory:
        return False
    try:
        return _mark(directory).read_text() == str(now.keeper)
    except OSError:
        return False


def start(directory: Path, claim: Claim, say: Callable[[str], None]) -> tuple[Plane, Node]:
    """Brings it up, after what a killed one left is gone. Raises BedError; `clean` is needed then, too."""
    clean(claim.take(), say)
    _refuse_another_kubernetes()
    say(CHANGES)
    claim.write(Holder(directory, os.getpid(), sysctls.read()))
    plane, node = Plane(directory / "plane", OPTIONS), Node(directory / "node")
    node.prepare()
    begin = time.monotonic()
    plane.start()
    between = time.monotonic()
    node.start(plane)
    say(f"Control plane ready in {between - begin:.1f} s, node in {time.monotonic() - between:.1f} s more")
    return plane, node


def clean(left: Holder | None, say: Callable[[str], None]) -> None:
    """Takes away what a bed left. Raises BedError."""
    if left is None:
        return
    if left.keeper != os.getpid():
        say(f"Taking away what a bed left that was killed: {left.directory}")
    Plane(left.directory / "plane").stop()
    leftovers.remove(left.directory / "node", left.settings)


def mark_up(directory: Path) -> None:
    """For the keeper, when the bed is up."""
    write_private(_mark(directory), str(os.getpid()))


def keeper_log(directory: Path) -> Path:
    """What the keeper of a folder has to say."""
    return directory / "keeper.log"


def _mark(directory: Path) -> Path:
    return directory / "up"


def _refuse_another_kubernetes() -> None:
    found = chains.kubernetes()
    if network.has_bridge():
        found.append(f"interface {network.BRIDGE}")
    if found:
        raise BedError(
            f"this machine runs another Kubernetes or CNI network ({', '.join(found[:3])}): "
            "end it and remove these, or use another machine"
        )
