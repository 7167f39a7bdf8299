"""What a bed leaves on the machine: nothing, also when it was killed. Before the tests that use the bed: it is down and
up again afterwards, and empty."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cortex_testbed import bed as beds
from cortex_testbed import images
from cortex_testbed.bed import DIRECTORY, Bed
from cortex_testbed.node.claim import holder
from cortex_testbed.paths import ROOT
from cortex_testbed.processes import Processes
from node_pods import PORT, SERVER, SLEEPER, addresses, pod, start

SYSCTLS = ("net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet", "vm.overcommit_memory", "kernel.panic")
FOLDERS = ("/var/lib/cni", "/var/lib/kubelet", "/run/netns", "/run/containerd/s")
FOREIGN = "CNI-0123456789abcdef01234567"


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What looks like the bed's but is another's: a chain of CNI with its rule, a chain and a policy like Docker's, a
    network namespace, a shim (the process)."""
    comment = 'name: "podman" id: "1"'
    rules = [
        ["-N", FOREIGN],
        ["-A", "POSTROUTING", "-s", "10.88.0.2/32", "-m", "comment", "--comment", comment, "-j", FOREIGN],
        ["-N", "DOCKER-TEST"],
    ]
    for rule in rules:
        subprocess.run(["iptables", "-t", "nat", *rule], check=True)
    subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
    subprocess.run(["ip", "netns", "add", "cni-foreign"], check=True)
    shim = Path(shutil.copy(shutil.which("sleep") or "", tmp_path / "containerd-shim-runc-v2"))
    process = subprocess.Popen([shim, "1000"])
    yield process
    process.kill()
    process.wait()
    subprocess.run(["ip", "netns", "delete", "cni-foreign"], check=True)
    subprocess.run(["iptables", "-P", "FORWARD", "ACCEPT"], check=True)
    for rule in (["-D", *rules[1][1:]], ["-X", FOREIGN], ["-X", "DOCKER-TEST"]):
        subprocess.run(["iptables", "-t", "nat", *rule], check=True)


def test_a_killed_bed_starts_again_and_one_that_is_taken_down_leaves_nothing(
    bed: Bed, python_image: str, foreign: subprocess.Popen[bytes]
) -> None:
    command("down")
    before = traces()
    command("up")
    use(bed, python_image)

    kill_everything()
    assert "10.200.0.1" in output("ip", "address"), "a crash that leaves nothing is not this test's"
    assert shims(), "containers outlive what was killed"
    said = command("up")
    assert "that was killed" in said
    use(bed, python_image)

    kill_everything()
    command("down")
    command("down")
    assert traces() == before
    assert foreign.poll() is None
    command("up")


def test_a_second_bed_is_refused_and_says_whose_the_first_one_is(bed: Bed, tmp_path: Path) -> None:
    done = e2e("--directory", str(tmp_path / "other"), "up")
    assert done.returncode == 1
    assert f"the one of {bed.directory}" in done.stderr
    assert "room for one node" in done.stderr
    assert beds.attach() == bed


def test_taking_another_bed_down_leaves_this_one(bed: Bed, tmp_path: Path) -> None:
    done = e2e("--directory", str(tmp_path / "other"), "down")
    assert f"the bed of {bed.directory} is, and stays" in done.stdout
    assert beds.attach() == bed


def use(bed: Bed, image: str) -> None:
    """Pods get addresses of their own, and what answers at each is the pod that has it."""
    bed.import_image(images.build("operator"))
    bed.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    servers = [pod(f"server-{i}", "default", image, SERVER) for i in range(4)]
    start(bed.kubectl, "default", [*servers, pod("client", "default", image, SLEEPER)])
    found = addresses(bed.kubectl, ["default"])
    assert len(set(found.values())) == len(found) == 5
    del found["client"]
    hosts = sorted(found.values())
    program = (
        f"import socket\nfor host in {hosts}: "
        f"print(host, socket.create_connection((host, {PORT}), timeout=5).recv(100).decode())"
    )
    answers = dict(line.split() for line in bed.kubectl("exec", "client", "--", "python3", "-c", program).splitlines())
    assert answers == {address: name for name, address in found.items()}


def kill_everything() -> None:
    """kill -9 of the keeper and of all that it started, as far as it still lives."""
    now = holder()
    assert now is not None
    parts = [Processes(DIRECTORY / "plane"), Processes(DIRECTORY / "node")]
    pids = [now.keeper, *(pid for some in parts for name in some.names() if (pid := some.pid(name)))]
    assert len(pids) == 9
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def traces() -> dict[str, object]:
    """All that a bed may leave, as the machine tells it."""
    return {
        "processes": shims(),
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if str(DIRECTORY) in line],
        "interfaces": sorted(re.findall(r"^\d+: ([^:@]+)", output("ip", "link"), re.MULTILINE)),
        "addresses": re.findall(r"inet \S+", output("ip", "-4", "address")),
        "routes": output("ip", "route"),
        "namespaces": output("ip", "netns", "list"),
        "rules": [rules(output(f"{family}-save")) for family in ("iptables", "ip6tables")],
        "sysctls": output("sysctl", *SYSCTLS),
        "cgroups": sorted(map(str, Path("/sys/fs/cgroup").glob("**/cortex-testbed"))),
        "folders": [str(path) for folder in FOLDERS for path in Path(folder).glob("**/*")],
    }


def shims() -> list[str]:
    """Processes that name the bed's folder, and those that hold its pods."""
    lines = output("ps", "-eo", "args").splitlines()
    return [line for line in lines if (str(DIRECTORY) in line and "pytest" not in line) or line == "/pause"]


def rules(saved: str) -> list[str]:
    return [re.sub(r"\[\d+:\d+\]", "", line) for line in saved.splitlines() if not line.startswith("#")]


def command(action: str) -> str:
    done = e2e(action)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def e2e(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "testbed")}
    line = [sys.executable, "-m", "cortex_testbed.e2e", *words]
    return subprocess.run(line, env=env, capture_output=True, text=True, timeout=110, check=False)


def output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
