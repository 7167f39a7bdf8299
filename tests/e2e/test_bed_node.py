"""The bed's node does what a node does: pods, Services, DNS, logs, exec, addresses."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cortex_testbed.bed import Bed
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.node.network import NAME
from node_pods import PORT, SERVER, SLEEPER, addresses, eventually, pod, service, start

CA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
CALL = f"import socket; print(socket.create_connection(('{{host}}', {PORT}), timeout=5).recv(100).decode())"
RESOLVE = """
import json, socket, time
begin = time.monotonic()
try:
    found = sorted({{info[4][0] for info in socket.getaddrinfo('{name}', 80, type=socket.SOCK_STREAM)}})
except socket.gaierror as error:
    found = error.errno == socket.EAI_NONAME and 'EAI_NONAME' or str(error)
print(json.dumps([found, time.monotonic() - begin]))
"""


@dataclass(frozen=True)
class Neighbours:
    """Two servers `web` behind the Services `web` and `web-headless`, and a client beside them."""

    kubectl: Kubectl
    namespace: str
    image: str

    def run(self, program: str) -> str:
        """What a Python program prints in the client."""
        return self.kubectl("exec", "client", *self.here, "--", "python3", "-c", program).strip()

    def resolve(self, name: str) -> tuple[list[str] | str, float]:
        """The addresses that the client finds, or the error's name; and the seconds that it took."""
        found, seconds = json.loads(self.run(RESOLVE.format(name=name)))
        return found, seconds

    @property
    def here(self) -> list[str]:
        return [f"--namespace={self.namespace}"]

    @property
    def addresses(self) -> dict[str, str]:
        """Of the pods, by name."""
        return addresses(self.kubectl, [self.namespace])


@pytest.fixture(scope="module")
def web(bed: Bed, python_image: str) -> Iterator[Neighbours]:
    """In a namespace that enforces the restricted Pod Security Standard."""
    name = f"web-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    servers = [pod(f"web-{i}", name, python_image, SERVER, {"app": "web"}) for i in range(2)]
    services = [service("web", name, "web"), service("web-headless", name, "web", headless=True)]
    bed.kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    bed.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=30s")
    made = Neighbours(bed.kubectl, name, python_image)
    start(bed.kubectl, name, [*services, *servers, pod("client", name, python_image, SLEEPER)])
    eventually(lambda: len(made.resolve("web-headless")[0]) == 2, "both pods are in DNS")
    eventually(lambda: made.run(CALL.format(host="web")) != "", "kube-proxy knows them, too")
    yield made
    bed.kubectl("delete", "namespace", name, "--wait=false")


def test_a_service_is_reached_by_its_name_and_by_its_address(web: Neighbours) -> None:
    cluster_ip = web.kubectl.get("service", "web", *web.here)["spec"]["clusterIP"]
    for host in ("web", f"web.{web.namespace}.svc.cluster.local", cluster_ip):
        assert web.run(CALL.format(host=host)) in {"web-0", "web-1"}


def test_a_headless_service_resolves_to_all_its_pods(web: Neighbours) -> None:
    found, _ = web.resolve("web-headless")
    assert found == sorted([web.addresses["web-0"], web.addresses["web-1"]])


@pytest.mark.parametrize("name", ["nothing", "nothing.example.com"])
def test_a_name_that_does_not_exist_is_refused_at_once(web: Neighbours, name: str) -> None:
    said, seconds = web.resolve(name)
    assert said == "EAI_NONAME"
    assert seconds < 1


def test_the_api_server_is_reached_from_a_pod(web: Neighbours) -> None:
    program = (
        "import socket, ssl; tls = ssl.create_default_context(cafile='%s'); print(tls.wrap_socket(%s, %s).version())"
    )
    reached = "socket.create_connection(('kubernetes.default', 443), timeout=5)"
    assert web.run(program % (CA, reached, "server_hostname='kubernetes.default.svc'")) == "TLSv1.3"


def test_logs_come_from_the_node(web: Neighbours) -> None:
    assert web.kubectl("logs", "web-0", *web.here) == "listening\n"


def test_a_pod_is_nobody_and_cannot_write_to_its_root(web: Neighbours) -> None:
    program = "import os; print(os.getuid(), os.access('/', os.W_OK), os.statvfs('/').f_flag & os.ST_RDONLY)"
    assert web.run(program) == "65534 False 1"


def test_a_deleted_pod_gives_its_address_back(bed: Bed, web: Neighbours) -> None:
    start(web.kubectl, web.namespace, [pod("short", web.namespace, web.image, SLEEPER)])
    noted = bed.directory / "node" / "addresses" / NAME / web.addresses["short"]
    assert noted.exists()
    web.kubectl("delete", "pod", "short", *web.here, "--timeout=30s")
    eventually(lambda: not noted.exists(), f"{noted.name} is given back")


def test_requests_for_the_whole_machine_fit(web: Neighbours) -> None:
    status = web.kubectl.get("node", "node-0")["status"]
    assert status["allocatable"]["cpu"] == status["capacity"]["cpu"]
