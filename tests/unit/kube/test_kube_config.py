"""Ways to a cluster: kubeconfigs with tokens, certificates and plugins, a pod's service account; one-line refusals."""

from __future__ import annotations

import base64
import json
import ssl
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cortex_kube import config
from cortex_kube.client import Api, ConfigError, Unavailable
from cortex_testbed.certificates import Authority
from kubeconfig import kubeconfig
from kubernetes.aio.config import incluster_config


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def tls_server(server: Any, authority: Authority) -> Any:
    """The server, from now on with TLS, which asks for client certificates."""
    await server.stop()
    pair = authority.issue("server", "/CN=server", ["IP:127.0.0.1"])
    server.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca.certificate))
    server.tls.load_cert_chain(pair.certificate, pair.key)
    server.tls.verify_mode = ssl.CERT_OPTIONAL
    await server.start()
    return server


async def bearer(api: Api, server: Any) -> str:
    """What the server is told of who asks."""
    server.says({})
    await api.request("GET", "/x")
    return str(server.requests[-1].headers.get("Authorization", ""))


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


async def test_the_default_is_kubeconfig_of_the_environment_then_of_the_home(
    stack: AsyncExitStack, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".kube"
    home.mkdir(parents=True)
    kubeconfig(home / "config", server.url, {"token": "home"})
    api = await stack.enter_async_context(await Api.connect())
    assert (api.server, await bearer(api, server)) == (server.url, "Bearer home")
    two = kubeconfig(tmp_path / "two", server.url, {"token": "two"})
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{two}")
    assert await bearer(await stack.enter_async_context(await Api.connect()), server) == "Bearer two"
    given = kubeconfig(tmp_path / "given", server.url, {"username": "me", "password": "x"})
    api = await stack.enter_async_context(await Api.connect(kubeconfig=given, context="c"))
    assert await bearer(api, server) == f"Basic {base64.b64encode(b'me:x').decode()}"


async def test_a_client_certificate_and_the_clusters_ca(
    stack: AsyncExitStack, tls_server: Any, authority: Authority, tmp_path: Path
) -> None:
    pair = authority.issue("me", "/O=people/CN=me")
    user = {"client-certificate-data": encoded(pair.certificate), "client-key-data": encoded(pair.key)}
    ca = {"certificate-authority-data": encoded(authority.ca.certificate)}
    api = await stack.enter_async_context(
        await Api.connect(kubeconfig=kubeconfig(tmp_path / "config", tls_server.url, user, **ca))
    )
    assert await bearer(api, tls_server) == ""
    certificate = tls_server.requests[-1].transport.get_extra_info("peercert")
    assert (("commonName", "me"),) in certificate["subject"]


async def test_a_server_of_another_authority_is_not_spoken_to(
    stack: AsyncExitStack, tls_server: Any, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    ca = {"certificate-authority-data": encoded(other.ca.certificate)}
    api = await stack.enter_async_context(
        await Api.connect(kubeconfig=kubeconfig(tmp_path / "config", tls_server.url, **ca))
    )
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await api.request("GET", "/x")
    assert tls_server.requests == []


def plugin(tmp_path: Path, minutes: float) -> dict[str, Any]:
    """A user whose plugin counts its calls: token-1, token-2, each good for so long."""
    expires = (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    program = tmp_path / "plugin.py"
    program.write_text(
        f"""import json, pathlib
count = pathlib.Path({str(tmp_path / "count")!r})
number = len(count.read_text()) + 1 if count.exists() else 1
count.write_text("x" * number)
status = {{"token": f"token-{{number}}", "expirationTimestamp": {expires!r}}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""
    )
    return {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(program)]}
    }


@pytest.mark.parametrize(("minutes", "third"), [(60, "Bearer token-1"), (1, "Bearer token-4")])
async def test_a_plugin_is_asked_again_when_its_token_ends(
    stack: AsyncExitStack, server: Any, tmp_path: Path, minutes: float, third: str
) -> None:
    file = kubeconfig(tmp_path / "config", server.url, plugin(tmp_path, minutes))
    api = await stack.enter_async_context(await Api.connect(kubeconfig=file))
    for _ in range(2):
        await bearer(api, server)
    assert await bearer(api, server) == third


async def test_a_token_file_is_read_again(
    stack: AsyncExitStack, server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    file = kubeconfig(tmp_path / "config", server.url, {"tokenFile": str(token)})
    api = await stack.enter_async_context(await Api.connect(kubeconfig=file))
    token.write_text("two")
    assert await bearer(api, server) == "Bearer one"
    monkeypatch.setattr(config, "_RELOAD_SECONDS", 0.0)
    assert await bearer(api, server) == "Bearer two"
    token.unlink()
    with pytest.raises(Unavailable, match=r"gives no credentials.*token"):
        await api.request("GET", "/x")


@pytest.fixture
def service_account(tls_server: Any, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("first")
    (folder / "ca.crt").write_bytes(authority.ca.certificate.read_bytes())
    monkeypatch.setattr(config, "_SERVICE_ACCOUNT", folder)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(tls_server.port))
    return folder


async def test_in_a_pod_the_service_account_is_used_and_its_token_read_again(
    stack: AsyncExitStack, tls_server: Any, service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await stack.enter_async_context(await Api.connect())
    assert (api.server, await bearer(api, tls_server)) == (tls_server.url, "bearer first")
    (service_account / "token").write_text("second")
    assert await bearer(api, tls_server) == "bearer first"
    now = datetime.now

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now(tz) + timedelta(minutes=2)

    monkeypatch.setattr(incluster_config, "datetime", SimpleNamespace(datetime=Later, timedelta=timedelta))
    assert await bearer(api, tls_server) == "bearer second"


async def test_a_token_that_is_gone_is_told_as_not_available(
    stack: AsyncExitStack, tls_server: Any, service_account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = await stack.enter_async_context(await Api.connect())
    (service_account / "token").unlink()
    monkeypatch.setattr(
        incluster_config, "datetime", SimpleNamespace(datetime=SimpleNamespace(now=lambda: datetime.max))
    )
    with pytest.raises(Unavailable, match="token"):
        await api.request("GET", "/x")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be used"),
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        (json.dumps({"apiVersion": "v1", "kind": "Config"}), "Expected key current-context"),
        (json.dumps({"current-context": "x", "contexts": [], "clusters": []}), "object with name x"),
    ],
)
async def test_a_kubeconfig_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    await refused(lambda: Api.connect(kubeconfig=file), str(file), said)


async def test_what_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing"
    await refused(lambda: Api.connect(kubeconfig=missing), f"there is no kubeconfig {missing}", "set KUBECONFIG")
    await refused(Api.connect, "no cluster is configured", "set KUBECONFIG")
    good = kubeconfig(tmp_path / "good", "https://127.0.0.1:1")
    await refused(lambda: Api.connect(kubeconfig=good, context="other"), "other")
    garbage = base64.b64encode(b"garbage").decode()
    wrong = kubeconfig(tmp_path / "wrong", "https://127.0.0.1:1", **{"certificate-authority-data": garbage})
    await refused(lambda: Api.connect(kubeconfig=wrong), "https://127.0.0.1:1", "certificates")
    command = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}
    plugged = kubeconfig(tmp_path / "plugged", "https://127.0.0.1:1", command)
    await refused(lambda: Api.connect(kubeconfig=plugged), str(plugged), "no-such-plugin")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    monkeypatch.setattr(config, "_SERVICE_ACCOUNT", tmp_path / "none")
    await refused(Api.connect, "service account", "automountServiceAccountToken")


async def refused(connect: Callable[[], Any], *words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        await connect()
    said = str(raised.value)
    assert "\n" not in said
    assert all(word in said for word in words), said
