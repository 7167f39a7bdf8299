"""What is loaded: a search pod over a PostgreSQL, both processes of their own, and an index of real documents in it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from cortex_cli.local import postgres
from cortex_cli.local.launch import Launch
from cortex_cli.local.ports import free_port
from cortex_kinds.index import CortexIndexSpec
from cortex_kinds.revision import index_definition, revision_id
from datapunk.cortex import common_pb2, control_pb2, control_pb2_grpc, search_pb2, search_pb2_grpc

from benchmarks import known_items

INDEX: Final = common_pb2.ResourceRef(namespace="default", name="bench")
_READY_SECONDS: Final = 60.0
_EMBED_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Bed:
    """The address of the pod, what it can be asked, and its process."""

    address: str
    queries: tuple[str, ...]
    pid: int

    def cpu_seconds(self) -> float:
        """That the pod has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Beds:
    """Pods over one index of 2,750 docstrings, one at a time."""

    def __init__(self, folder: Path, dsn: str, queries: tuple[str, ...]) -> None:
        self._folder, self._dsn, self._queries = folder, dsn, queries

    @asynccontextmanager
    async def pod(self, **environment: str) -> AsyncIterator[Bed]:
        """A pod with this environment."""
        with _pod(self._dsn, self._folder, environment) as pod:
            await _asked(pod, lambda described: bool(described.current_revision), _READY_SECONDS)
            yield Bed(f"127.0.0.1:{pod.ports[0]}", self._queries, pod.process.pid)


@asynccontextmanager
async def beds(folder: Path) -> AsyncIterator[Beds]:
    """The index, embedded, in a PostgreSQL below the folder."""
    data = _known_items(folder)
    queries = tuple(line["text"] for line in _lines(data / "queries.jsonl"))
    with _lake(folder) as dsn:
        with _pod(dsn, folder, {}) as first:
            await _filled(first, _lines(data / "corpus.jsonl"))
        yield Beds(folder, dsn, queries)


def _known_items(folder: Path) -> Path:
    data = folder / "known-items"
    data.mkdir()
    known_items.write(data)
    return data


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@dataclass
class _Pod:
    ports: tuple[int, int, int]
    process: subprocess.Popen[bytes]


@contextmanager
def _lake(folder: Path) -> Iterator[str]:
    launch = postgres.prepare(folder / "postgres", durable=False)
    with _running(launch, folder / "postgres.log"):
        yield launch.url


@contextmanager
def _running(launch: Launch, log: Path) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(launch.command, cwd=launch.cwd, env=dict(launch.env), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while reason := launch.probe():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{launch.name} does not start: {reason}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _pod(dsn: str, folder: Path, environment: dict[str, str]) -> Iterator[_Pod]:
    ports = (free_port(), free_port(), free_port())
    names = ("CORTEX_PORT_GRPC", "CORTEX_PORT_CONTROL", "CORTEX_PORT_METRICS")
    own = {
        **dict(zip(names, map(str, ports), strict=True)),
        "CORTEX_LAKE_DSN": dsn,
        "CORTEX_RESOURCE_NAME": INDEX.name,
        "CORTEX_LISTEN_HOST": "127.0.0.1",
        **environment,
    }
    with ExitStack() as stack:
        log = stack.enter_context((folder / "pod.log").open("ab"))
        command = [sys.executable, "-m", "cortex_workloads.search"]
        process = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log)
        try:
            yield _Pod(ports, process)
        finally:
            process.terminate()
            process.wait()


async def _filled(pod: _Pod, documents: list[Any]) -> None:
    await _asked(pod, lambda described: described.lake_read, _READY_SECONDS)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.ports[1]}") as channel:
        wanted = index_definition(CortexIndexSpec())
        order = control_pb2.CommandRequest(resource=INDEX, operation_id="1")
        order.ensure_revision.id = revision_id(wanted)
        order.ensure_revision.definition.update(wanted)
        await control_pb2_grpc.ControlServiceStub(channel).Command(order)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.ports[0]}") as channel:
        stub: Any = search_pb2_grpc.HaystackServiceStub(channel)
        for start in range(0, len(documents), 500):
            some = [common_pb2.Document(id=one["_id"], content=one["text"]) for one in documents[start : start + 500]]
            await stub.UpdateIndex(search_pb2.UpdateRequest(index=INDEX, documents=some))
    await _asked(pod, lambda described: not described.revisions[0].waiting, _EMBED_SECONDS)


async def _asked(pod: _Pod, until: Any, seconds: float) -> None:
    """Asks the pod to describe itself until it says what is wanted."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.ports[1]}") as channel, asyncio.timeout(seconds):
        stub: Any = control_pb2_grpc.ControlServiceStub(channel)
        while True:
            try:
                if until(await stub.Describe(control_pb2.DescribeRequest(resource=INDEX))):
                    return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.1)
