"""Lines are the same however the bytes arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

from cortex_workloads.gateway import ndjson
from hypothesis import given
from hypothesis import strategies as st


async def split(chunks: list[bytes], limit: int) -> list[tuple[int, bytes | None]]:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [line async for line in ndjson.lines(source(), limit)]


@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    cuts=st.lists(st.integers(0, 110), max_size=8),
    ends=st.booleans(),
)
async def test_any_chunks_give_the_same_lines(lines: list[bytes], cuts: list[int], ends: bool) -> None:
    content = b"\n".join(lines) + (b"\n" if ends and lines else b"")
    edges = [0, *sorted(cuts), len(content)]
    chunks = [content[a:b] for a, b in pairwise(edges)]
    whole = content.split(b"\n")
    if not whole[-1]:
        whole.pop()
    limit = 8
    assert await split(chunks, limit) == [
        (number, line if len(line) <= limit else None) for number, line in enumerate(whole, 1)
    ]


async def test_a_line_of_exactly_the_limit_is_taken() -> None:
    assert await split([b"1234", b"5678\n", b"12345", b"6789\n9"], 8) == [(1, b"12345678"), (2, None), (3, b"9")]
