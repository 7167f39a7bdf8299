"""JSON that is nested more deeply than anybody here reads: an API server takes ten thousand levels.

One such object must not keep all others from being read, so what lies too deep in it reads as null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

LEVELS: Final = 200
"""That are kept."""
_PARTS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def loads(data: bytes | str) -> Any:
    """What the JSON says. Raises ValueError when it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # What is wrong is said in words alone, and a broken one stays broken.
        try:
            return orjson.loads(b"".join(_kept(data.encode() if isinstance(data, str) else data)))
        except orjson.JSONDecodeError:
            raise error from None


def _kept(data: bytes) -> Iterator[bytes]:
    level, begun = 0, 0
    for part in _PARTS.finditer(data):
        match data[part.start() : part.start() + 1]:
            case b"[" | b"{":
                level += 1
                if level == LEVELS + 1:
                    yield data[begun : part.start()] + b"null"
            case b"]" | b"}":
                if level == LEVELS + 1:
                    begun = part.end()
                level -= 1
    yield data[begun:]
