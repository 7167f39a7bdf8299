"""Kept answers of searches: what they are asked by, where they stand in the shared state, how they are packed.

Shields search pods, which make them, and the gateway, which falls back to them, from each other.
"""

from __future__ import annotations

import hashlib
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Final, Self

from datapunk.cortex.common_pb2 import FALLBACK_STALE_ANSWER, SearchResult
from datapunk.cortex.search_pb2 import SearchRequest

from cortex_workloads.runtime.cache.shared import Shared

NAME: Final = "answers"
"""The cache, in /metrics."""
_HEAD: Final = struct.Struct(">BqdBI")
_FORMAT: Final = 1
_LEVEL: Final = 1


@dataclass(frozen=True)
class Answer:
    """A serialised SearchResult without `took` and `age`; `version`: of the content that it was found in; `made`:
    seconds since 1970; `mode` and `top_k`: what the request left to the index, decided."""

    version: int
    made: float
    mode: int
    top_k: int
    result: bytes

    def pack(self) -> bytes:
        """As it stands in the shared state."""
        return _HEAD.pack(_FORMAT, self.version, self.made, self.mode, self.top_k) + zlib.compress(self.result, _LEVEL)

    @classmethod
    def unpack(cls, packed: bytes) -> Self | None:
        """The reverse of `pack`; None for what another release packed, or what is no answer."""
        try:
            release, version, made, mode, top_k = _HEAD.unpack_from(packed)
            return (
                cls(version, made, mode, top_k, zlib.decompress(packed[_HEAD.size :])) if release == _FORMAT else None
            )
        except (struct.error, zlib.error):
            return None

    def stale(self) -> SearchResult:
        """The result as the fallback that it is where the index cannot be asked."""
        result = self.message()
        result.fallback = FALLBACK_STALE_ANSWER
        return result

    def message(self) -> SearchResult:
        """The result, with its age."""
        result = SearchResult.FromString(self.result)
        result.age.FromNanoseconds(max(int((time.time() - self.made) * 1e9), 0))
        return result


def packed(request: SearchRequest) -> bytes:
    """Equal for requests that have the same answer: the request without what the caller accepts instead."""
    asked = SearchRequest()
    asked.CopyFrom(request)
    asked.ClearField("fallbacks")
    return asked.SerializeToString(deterministic=True)


def digest(request: SearchRequest) -> bytes:
    """Of what is `packed`."""
    return hashlib.sha256(packed(request)).digest()


def key(request: SearchRequest) -> str:
    """Where the last answer of such a request stands."""
    return f"{keys(request.index.namespace, request.index.name)}{digest(request).hex()}"


def keys(namespace: str, name: str) -> str:
    """What the keys of all answers of an index begin with."""
    return f"cortex:{{index:{namespace}/{name}}}:answer:"


async def last(shared: Shared, request: SearchRequest) -> Answer | None:
    """What the request was answered last, by any pod, true or not; None where nothing is kept or nothing answers."""
    packed = await shared.find(key(request))
    return None if packed is None else Answer.unpack(packed)
