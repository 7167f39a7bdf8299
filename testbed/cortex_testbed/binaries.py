"""Kubernetes and its tools as binaries; shields the rest from Go modules, versions and what is built already."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cortex_testbed.errors import BedError
from cortex_testbed.paths import BIN, BUILD, MODULES

GO: Final = (1, 26)
"""The oldest Go that builds all of it."""
KUBERNETES: Final = "v1.35.4"
LINKED_SMALL: Final = "-s -w"


@dataclass(frozen=True)
class Binary:
    """A command, from a module of our own (`module`, a folder of testbed/go) or by its version alone."""

    package: str
    version: str
    module: str = ""
    ldflags: str = LINKED_SMALL

    @property
    def stamp(self) -> str:
        """What it is built of; another text means another binary."""
        files = sorted((MODULES / self.module).iterdir()) if self.module else []
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        return f"{self.package} {self.version} {self.ldflags} {digest}\n"


def _kubernetes_ldflags() -> str:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    values = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    settings = (f"-X {package}.{name}={value}" for package in packages for name, value in values.items())
    return " ".join([LINKED_SMALL, *settings])


def _kubernetes(command: str) -> Binary:
    return Binary(f"k8s.io/kubernetes/cmd/{command}", KUBERNETES, "kubernetes", _kubernetes_ldflags())


BINARIES: Final = {
    "etcd": Binary("go.etcd.io/etcd/server/v3", "v3.6.8", "etcd"),
    "kube-apiserver": _kubernetes("kube-apiserver"),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kubectl": _kubernetes("kubectl"),
    "kubelet": _kubernetes("kubelet"),
    "kube-proxy": _kubernetes("kube-proxy"),
    "kwok": Binary("sigs.k8s.io/kwok/cmd/kwok", "v0.8.0"),
    "helm": Binary("helm.sh/helm/v4/cmd/helm", "v4.3.1"),
    "coredns": Binary("github.com/coredns/coredns", "v1.15.0"),
    "kind": Binary("sigs.k8s.io/kind", "v0.31.0"),
    "kind-config": Binary(".", "v0.31.0", "kind"),
    "kstatus": Binary(".", "v0.37.2", "kstatus"),
}
PLANE: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
"""A control plane with fake nodes."""
CHECKS: Final = ("helm", "kind-config", "kstatus")
"""What the tests of `make test` run beside a cluster."""
NODE: Final = (*PLANE, "kubelet", "kube-proxy", "coredns", "helm")
"""The same with a real node."""


def ensure(names: Iterable[str] = PLANE, say: Callable[[str], None] = print) -> Path:
    """The folder that holds the binaries, after those that are missing or of another version were built; `say` gets a
    line for each with its seconds. Several processes may ask at once. Raises BedError."""
    wanted = list(names)
    if not missing(wanted):
        return BIN
    BIN.mkdir(parents=True, exist_ok=True)
    with (BUILD / "binaries.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unbuilt = missing(wanted)
        if unbuilt:
            _check_go()
            say(f"Building {', '.join(unbuilt)} (once; minutes when Go's build cache is cold)")
        for name in unbuilt:
            begin = time.monotonic()
            _build(name)
            say(f"  {name} {BINARIES[name].version} in {time.monotonic() - begin:.0f} s")
    return BIN


def missing(names: Iterable[str] = PLANE) -> list[str]:
    """Those that are not built, or are of another version."""
    return [name for name in names if not _is_built(name)]


def _stamp_file(name: str) -> Path:
    return BIN / f".{name}.stamp"


def _is_built(name: str) -> bool:
    try:
        return (BIN / name).is_file() and _stamp_file(name).read_text() == BINARIES[name].stamp
    except OSError:
        return False


def _check_go() -> None:
    remedy = f"install Go {GO[0]}.{GO[1]} or newer and put it on PATH"
    try:
        # In the module's folder, where a Go that may fetch another toolchain has done so.
        command = ["go", "env", "GOVERSION"]
        done = subprocess.run(command, cwd=MODULES / "kubernetes", capture_output=True, text=True, check=False)
    except OSError as error:
        raise BedError(f"Go is needed to build Kubernetes and `go` was not found: {remedy}") from error
    found = re.match(r"go(\d+)\.(\d+)", done.stdout)
    if found is None or (int(found[1]), int(found[2])) < GO:
        said = done.stdout.strip() or (done.stderr.strip().splitlines() or ["no version"])[-1]
        raise BedError(f"Go is too old to build Kubernetes ({said}): {remedy}")


def _build(name: str) -> None:
    binary = BINARIES[name]
    log = BUILD / "build-logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    flags = ["-trimpath", "-buildvcs=false", "-ldflags", binary.ldflags]
    with tempfile.TemporaryDirectory(dir=BUILD) as made, log.open("wb") as output:
        env = {**os.environ, "CGO_ENABLED": "0", "GOBIN": made}
        if binary.module:
            command = ["go", "build", *flags, "-o", f"{made}/{name}", binary.package]
        else:
            command = ["go", "install", *flags, f"{binary.package}@{binary.version}"]
        folder = MODULES / binary.module if binary.module else Path(made)
        done = subprocess.run(command, cwd=folder, env=env, stdout=output, stderr=output, check=False)
        if done.returncode:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise BedError(f"{name} {binary.version} cannot be built; the end of {log}:\n{tail}")
        _stamp_file(name).unlink(missing_ok=True)
        Path(made, name).replace(BIN / name)
    _stamp_file(name).write_text(binary.stamp)
