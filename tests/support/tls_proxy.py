"""TLS in front of a server that speaks none: what a managed PostgreSQL or Valkey looks like from outside."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""How a client of PostgreSQL asks for TLS; the server says S."""


def plainly(_: socket.socket) -> None:
    """TLS from the first byte on, as Valkey has it."""


def as_postgres(client: socket.socket) -> None:
    """TLS after the question whether there is any."""
    assert client.recv(8, socket.MSG_WAITALL) == SSL_REQUEST
    client.sendall(b"S")


@contextlib.contextmanager
def tls_in_front(
    port: int, certificate: Path, key: Path, greet: Callable[[socket.socket], None] = plainly
) -> Iterator[int]:
    """The port of a proxy to 127.0.0.1:`port`; it ends with the block."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server((LOOPBACK, 0)) as listening:
        threading.Thread(target=_accept, args=(listening, port, context, greet), daemon=True).start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)


def _accept(
    listening: socket.socket, port: int, context: ssl.SSLContext, greet: Callable[[socket.socket], None]
) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_serve, args=(client, port, context, greet), daemon=True).start()


def _serve(client: socket.socket, port: int, context: ssl.SSLContext, greet: Callable[[socket.socket], None]) -> None:
    # A client that does not trust us goes away in the middle.
    with contextlib.suppress(OSError, AssertionError), client:
        greet(client)
        with context.wrap_socket(client, server_side=True) as inside, socket.create_connection((LOOPBACK, port)) as to:
            back = threading.Thread(target=_pipe, args=(to, inside), daemon=True)
            back.start()
            _pipe(inside, to)
            back.join(5)


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
