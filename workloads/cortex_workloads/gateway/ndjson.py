"""Splits a stream of bytes into lines in constant memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator


async def lines(chunks: AsyncIterable[bytes], limit: int) -> AsyncIterator[tuple[int, bytes | None]]:
    """(number from 1, line without its end); None in place of a line longer than `limit` bytes, which is never held."""
    held, number, too_long = bytearray(), 1, False
    async for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            too_long = too_long or len(held) + end - start > limit
            yield number, None if too_long else bytes(held) + chunk[start:end]
            held.clear()
            number, too_long, start = number + 1, False, end + 1
        if too_long or len(held) + len(chunk) - start > limit:
            too_long = True
            held.clear()
        else:
            held += chunk[start:]
    if held or too_long:
        yield number, None if too_long else bytes(held)
