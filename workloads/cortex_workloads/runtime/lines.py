"""Lines: gRPC channels to the pods of one address, closed when they are retired and nobody speaks on them any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from cortex_workloads.runtime.resilience.policies import RetryPolicy
from cortex_workloads.runtime.server import MESSAGE_BYTES

LOST: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""What a call ends with whose server is gone."""
_BALANCING: Final[dict[str, Any]] = {"loadBalancingConfig": [{"round_robin": {}}]}
# Safe for every method: what writes is repeatable by its ids. A server that stops drops calls that have just come in,
# and their clients hear CANCELLED.
_RETRIED: Final = [code.name for code in LOST]
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Pods of one machine share addresses with pods that died: never reuse their connections.
    ("grpc.use_local_subchannel_pool", 1),
)


class Line:
    """A channel to an address as gRPC writes it, balanced over what is behind it; calls that are lost are tried again
    by `retries`."""

    def __init__(self, address: str, retries: RetryPolicy | None) -> None:
        config = {**_BALANCING, **(_service_config(retries) if retries else {})}
        own = (("grpc.service_config", json.dumps(config)), ("grpc.enable_retries", int(retries is not None)))
        self.channel = grpc.aio.insecure_channel(address, options=(*own, *_OPTIONS))
        self.address = address
        self._speaking = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    @contextmanager
    def speaking(self) -> Iterator[grpc.aio.Channel]:
        """The channel, open until the end of the block."""
        self._speaking += 1
        try:
            yield self.channel
        finally:
            self._speaking -= 1
            self._close_when_done()

    def retire(self) -> None:
        """Closes the channel, now or when its last call has ended."""
        self._retired = True
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._retired and not self._speaking and self._closing is None:
            self._closing = asyncio.ensure_future(self.channel.close())


def address_of(found: Iterable[tuple[str, int]]) -> str:
    """Hosts and ports as one address; IPv4 before IPv6, as gRPC takes no mix; empty without any."""
    pods = sorted(set(found))
    v4 = [f"{host}:{port}" for host, port in pods if ":" not in host]
    v6 = [f"[{host}]:{port}" for host, port in pods if ":" in host]
    return f"ipv4:{','.join(v4)}" if v4 else f"ipv6:{','.join(v6)}" if v6 else ""


def _service_config(policy: RetryPolicy) -> dict[str, Any]:
    if policy.attempts == 1:
        return {}
    retry = {
        "maxAttempts": policy.attempts,
        "initialBackoff": f"{policy.first_pause_seconds:.3f}s",
        "maxBackoff": f"{policy.longest_pause_seconds:.3f}s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": _RETRIED,
    }
    return {
        "methodConfig": [{"name": [{}], "retryPolicy": retry}],
        "retryThrottling": {"maxTokens": policy.tokens, "tokenRatio": policy.token_ratio},
    }
