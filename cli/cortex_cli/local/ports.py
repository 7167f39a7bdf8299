"""Ports of the loopback address; shields the rest from how a free one is found and who holds a taken one."""

from __future__ import annotations

import random
import socket
from typing import Final

LOOPBACK: Final = "127.0.0.1"
RANGE: Final = range(20000, 32000)
"""Below the ports that Linux gives to outgoing connections, so that none of those takes one between two uses."""


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(avoid: frozenset[int] = frozenset()) -> int:
    """A port that nobody listens on now and that is not among `avoid`. Raises OSError when there is none."""
    for port in random.sample(RANGE, len(RANGE)):
        if port not in avoid and is_free(port):
            return port
    raise OSError(f"no free port between {RANGE.start} and {RANGE.stop} on {LOOPBACK}")


def holder(port: int) -> str:
    """Who listens on a port, for a message: `pid 12 (nginx)`, or `another process` when that cannot be seen."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
                return f"pid {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return "another process"
