"""`python -m cortex_workloads.gateway` as a process: start, refusals, end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cortex_cli.local.ports import free_port

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def run(**variables: object) -> subprocess.Popen[str]:
        settings = {"CATALOGUE_FILE": tmp_path / "none.json", "PORT_HTTP": 0, "PORT_GRPC": 0, "PORT_METRICS": 0}
        environment = {f"CORTEX_{key}": str(value) for key, value in {**settings, **variables}.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", "cortex_workloads.gateway"],
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def refusal(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert len(said.strip().splitlines()) == 1, said
    return said


def ready(port: int, seconds: float) -> float:
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as reply:
                assert json.load(reply)["ready"]
                return time.monotonic() - begun
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"not ready within {seconds} s")


def test_it_gets_ready_answers_and_ends_in_order(start: Start) -> None:
    port = free_port()
    process = start(PORT_HTTP=port)
    ready(port, 60)
    process.send_signal(signal.SIGTERM)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    lines = [json.loads(line) for line in said.splitlines()]
    assert all({"time", "level", "message", "logger", "service", "pod"} <= set(line) for line in lines)
    assert lines
    assert complaints == ""


def test_who_is_left_at_its_end_is_told_so(start: Start) -> None:
    port = free_port()
    process = start(PORT_HTTP=port, DRAIN_SECONDS=0)
    ready(port, 60)
    asking = (
        b"POST /v1/namespaces/default/workflows/helpdesk/runs HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    )
    replies = []
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(asking)
            replies.append(connection.makefile("rb"))
        # The operation reads the body, which never comes.
        assert replies[-1].readline() == b"HTTP/1.1 100 Continue\r\n"
        replies[-1].readline()
    process.send_signal(signal.SIGTERM)
    for reply in replies:
        with reply:
            head, _, body = reply.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"application/problem+json" in head
        problem = json.loads(body)
        assert (problem["reason"], problem["retryable"], problem["remedy"]) == ("Draining", True, "try again")
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    assert "Traceback" not in said


def test_it_refuses_an_address_that_others_reach(start: Start) -> None:
    said = refusal(start(LISTEN_HOST="0.0.0.0"))
    assert "0.0.0.0" in said
    assert "CORTEX_INSECURE_LISTEN=true" in said
    assert "--insecure-listen" in said
    assert "authentication" in said


def test_it_listens_everywhere_when_told_so(start: Start) -> None:
    port = free_port()
    start(LISTEN_HOST="0.0.0.0", INSECURE_LISTEN="true", PORT_HTTP=port)
    ready(port, 60)


@pytest.mark.parametrize("variable", ["PORT_HTTP", "PORT_GRPC"])
def test_a_taken_port_is_named_with_its_variable(start: Start, variable: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refusal(start(**{variable: port}))
    assert f"127.0.0.1:{port}" in said
    assert f"CORTEX_{variable}" in said


def test_wrong_settings_are_named(start: Start) -> None:
    assert "CORTEX_PORT_HTTP" in refusal(start(PORT_HTTP="eight thousand"))
