"""Messages of Valkey's channels. They are hints: one may be lost, so who acts on them looks by itself, too.

Shields listeners from a lost connection. The library would connect again by itself and say nothing of what was missed;
here that is an error, and the listener is told to look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, cast

import orjson
from redis.exceptions import RedisError

from cortex_workloads.runtime.progress import connect

_PING_SECONDS: Final = 5.0
"""After so long a silence it is asked whether the other end is there."""
_ANSWER_SECONDS: Final = 5.0
"""Within which it says so."""
_AGAIN_SECONDS: Final = 1.0

_log = logging.getLogger("cortex.state")


async def listen(url: str, channel: str, resource: str) -> AsyncIterator[dict[str, Any] | None]:
    """Messages of a channel about one resource (its tag); None at first and whenever some may have been missed. Never
    ends by itself, nor fails: without a URL it says None once."""
    if not url:
        yield None
        return
    while True:
        client = connect(url, _PING_SECONDS + _ANSWER_SECONDS)
        subscription = client.pubsub()
        try:
            await subscription.subscribe(channel)
            connection, asked = subscription.connection, True
            while subscription.connection is connection and connection is not None and connection.is_connected:
                message = await subscription.get_message(timeout=_ANSWER_SECONDS if asked else _PING_SECONDS)
                if message is None and asked:
                    raise TimeoutError("no answer")
                if asked := message is None:
                    await subscription.ping()
                    continue
                if message["type"] == "subscribe":
                    # Not before: what changes between a look and the subscription would be missed.
                    yield None
                    continue
                with suppress(orjson.JSONDecodeError, KeyError, TypeError):
                    content = orjson.loads(message["data"])
                    if content["resource"] == resource:
                        yield content
        except (RedisError, OSError, TimeoutError) as error:
            _log.debug("the channel %s is listened to again: %s", channel, error)
        finally:
            with suppress(RedisError, OSError, TimeoutError):
                await cast(Any, subscription).aclose()
                await client.aclose()
        await asyncio.sleep(_AGAIN_SECONDS)
