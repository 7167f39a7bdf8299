"""A deadline of a statement. Shields who asks from a connection whose other end went away without a word: psycopg waits
for the answer as long as TCP does, and a statement that is cancelled waits for ten seconds more.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

ANSWER_SECONDS: Final = 3.0
"""Within which the Lake answers the smallest question, however busy it is."""
TCP: Final[Mapping[str, int]] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Parameters of libpq, in seconds, the last in ms: a connection is given up when the other machine does not say for so
long that it received anything. It may take any time to answer."""


@contextmanager
def within(connection: psycopg.AsyncConnection[Any], seconds: float) -> Iterator[None]:
    """Of one statement: when it takes longer the connection is ended, and the statement raises OperationalError."""
    over = False

    def end() -> None:
        nonlocal over
        over = _hang_up(connection)

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        yield
    except psycopg.OperationalError as error:
        if over:
            raise psycopg.OperationalError(f"no answer within {seconds:g} s") from error
        raise
    finally:
        timer.cancel()


def _hang_up(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether it did."""
    with suppress(OSError, psycopg.Error):
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        if poll.poll(0):
            # The answer came while this process was too busy to look.
            return False
        # Not closed: that would wake nobody, and another connection may get the number that is waited for.
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
            return True
    return False
