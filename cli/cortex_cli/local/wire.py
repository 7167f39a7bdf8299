"""The supervisor's socket: one JSON object a line each way. Shields both ends from the length limit of its path."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

NAME: Final = "cortex.sock"
LINE_BYTES: Final = 64 * 2**20

Message = dict[str, Any]


class NotRunning(ConnectionError):
    """No supervisor answers for the data directory."""


@contextlib.contextmanager
def short_path(directory: Path) -> Iterator[str]:
    """A path of the socket that is never too long: Unix sockets' have 107 bytes at most."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{NAME}"
    finally:
        os.close(fd)


def ask(directory: Path, verb: str, *, timeout: float = 30.0, **arguments: Any) -> Any:
    """The supervisor's answer to a verb. Raises NotRunning, or ValueError with the supervisor's refusal."""
    try:
        with short_path(directory) as path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as replies:
                line = replies.readline(LINE_BYTES)
    except OSError as error:
        raise NotRunning(f"no cluster runs on {directory}; start one: cortex up -f DIR") from error
    if not line:
        raise NotRunning(f"the cluster on {directory} ended while it was asked")
    reply = json.loads(line)
    if "error" in reply:
        raise ValueError(reply["error"])
    return reply["result"]
