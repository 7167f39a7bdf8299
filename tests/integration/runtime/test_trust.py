"""`spec.caBundle`: with the variables that pods get, our clients trust a server of that authority, and no other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import psycopg
import pytest
from cortex_kinds.trust import CABundle
from cortex_operator.manifests.trust import trust_env
from cortex_testbed.certificates import Authority, Pair
from cortex_workloads.runtime.errors import Unavailable
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.progress import ProgressStream
from patience import with_the_state
from tls_proxy import as_postgres, tls_in_front

BUNDLE = CABundle.model_validate({"secretRef": {"name": "roots"}})
CONNECT = """
import sys, grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
exporter = OTLPSpanExporter(sys.argv[1], insecure=False)
grpc.channel_ready_future(exporter._channel).result(timeout=float(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Pair:
    return authority.issue("server", "/CN=server", ["DNS:localhost"])


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of an authority that made none of the server's."""
    return Authority(tmp_path_factory.mktemp("stranger")).ca.certificate


def trusting(certificates: Path) -> dict[str, str]:
    """What a pod gets; the file is where it lies here."""
    return dict.fromkeys(trust_env(BUNDLE), str(certificates))


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


async def reaches(dsn: str, *, within: float = 0.0) -> bool:
    """Whether a Lake's first attempt succeeds, or, on a busy machine, one within so many seconds."""
    lake = Lake(dsn, 1)
    try:
        await lake.open()
        end = time.monotonic() + within
        async with asyncio.timeout(60 + within):
            while not (lake.reachable or ("does not answer" in lake.message and time.monotonic() > end)):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        return lake.reachable
    finally:
        await lake.close()


async def test_the_lake_is_trusted_by_the_bundle_and_not_without_it(
    lake_dsn: str, authority: Authority, server: Pair, stranger: Path
) -> None:
    parts = urlsplit(lake_dsn)
    with tls_in_front(parts.port or 0, server.certificate, server.key, as_postgres) as port:
        address = f"{parts.username}:{parts.password}@localhost:{port}{parts.path}"
        dsn = f"postgresql://{address}?sslmode=verify-full"
        with environment(trusting(authority.ca.certificate)):
            assert await reaches(dsn, within=60)
        with environment(trusting(stranger)):
            assert not await reaches(dsn)
            with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
                await psycopg.AsyncConnection.connect(dsn)


async def test_the_shared_state_is_trusted_by_the_bundle_and_not_without_it(
    state_url: str, authority: Authority, server: Pair, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(state_url)
    with tls_in_front(parts.port or 0, server.certificate, server.key) as port:
        url = f"rediss://:{parts.password}@localhost:{port}{parts.path}"
        with_the_state(monkeypatch)
        with environment(trusting(authority.ca.certificate)):
            async with ProgressStream(url) as progress:
                await progress.ping()
        with environment(trusting(stranger)):
            async with ProgressStream(url) as progress:
                with pytest.raises(Unavailable, match="certificate verify failed"):
                    await progress.ping()


@pytest.mark.parametrize("trusted", [True, False])
def test_the_receiver_of_traces_is_trusted_by_the_bundle_and_not_without_it(
    authority: Authority, server: Pair, stranger: Path, trusted: bool
) -> None:
    receiver = grpc.server(ThreadPoolExecutor(1))
    pair = (server.key.read_bytes(), server.certificate.read_bytes())
    port = receiver.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    receiver.start()
    variables = trusting(authority.ca.certificate if trusted else stranger)
    command = [sys.executable, "-c", CONNECT, f"https://localhost:{port}", "60" if trusted else "2"]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    receiver.stop(None)
    assert (done.returncode == 0) is trusted, done.stderr
    assert trusted or "TimeoutError" in done.stderr or "CERTIFICATE_VERIFY_FAILED" in done.stderr
