"""A tiny DNS server: A records that a test changes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_A = 1


class Dns(asyncio.DatagramProtocol):
    """`records`: name -> IPv4 addresses; a name that is not there does not exist. `asked` has every question."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self._transport: Any = None

    @property
    def port(self) -> int:
        return int(self._transport.get_extra_info("sockname")[1])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        name, end = _name(data)
        (kind,) = struct.unpack_from("!H", data, end)
        self.asked.append(name)
        found = self.records.get(name, []) if kind == _A else []
        flags = 0x8580 if name in self.records else 0x8583
        reply = data[:2] + struct.pack("!5H", flags, 1, len(found), 0, 0) + data[12 : end + 4]
        for address in found:
            reply += struct.pack("!HHHIH", 0xC00C, _A, 1, 5, 4) + bytes(map(int, address.split(".")))
        self._transport.sendto(reply, addr)


def _name(data: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while size := data[at]:
        labels.append(data[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels), at + 1


@asynccontextmanager
async def serving() -> AsyncIterator[Dns]:
    transport, dns = await asyncio.get_running_loop().create_datagram_endpoint(Dns, local_addr=("127.0.0.1", 0))
    try:
        yield dns
    finally:
        transport.close()
