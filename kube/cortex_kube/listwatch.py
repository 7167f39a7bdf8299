"""Follows a collection: lists it, watches from there, and lists anew whenever that breaks.

Shields callers from versions, bookmarks and outages: they hear whole lists, single changes, and of trouble once when it
begins and once when it is over.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final, NoReturn

from cortex_kube.client import Api
from cortex_kube.errors import ApiError, Gone, Unavailable

_log: Final = logging.getLogger("cortex.kube")
_WATCH_SECONDS: Final = 55.0
"""How long one watch lasts. Short: a connection that is silently dead is found out 10 s later."""
_SETTLED_SECONDS: Final = 1.0
"""A watch that lasts so long was granted; one that ends before, with nothing said, is trouble."""
_FIRST_SECONDS: Final = 0.2
_MOST_SECONDS: Final = 5.0

OnTrouble = Callable[[Exception | None], None]


async def list_watch(
    api: Api,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    on_list: Callable[[list[dict[str, Any]]], None],
    on_event: Callable[[str, dict[str, Any]], None],
    on_trouble: OnTrouble | None = None,
) -> NoReturn:
    """Calls `on_list` with everything there is, and `on_event(ADDED | MODIFIED | DELETED, object)` with each change.
    After a gap there is another `on_list`: what it lacks is gone. `on_trouble` hears the error when a kind of trouble
    begins and None when the collection is followed again; without it both are logged. Ends only by cancellation."""
    trouble = _Trouble(path, on_trouble)
    while True:
        try:
            items, version = await api.list(path, query=query)
            on_list(items)
            while True:
                version = await _watch(api, path, query, version, on_event, trouble)
        except Gone:
            await asyncio.sleep(trouble.patience())
        except Exception as error:
            trouble.begins(error)
            await asyncio.sleep(trouble.patience(error))


async def _watch(
    api: Api,
    path: str,
    query: Mapping[str, str] | None,
    version: str,
    on_event: Callable[[str, dict[str, Any]], None],
    trouble: _Trouble,
) -> str:
    """The version to watch from next."""
    begun, before = time.monotonic(), version
    with trouble.ending() as opened:
        watch = api.watch(path, query=query, resource_version=version, timeout=_WATCH_SECONDS, opened=opened)
        async with aclosing(watch) as events:
            async for event in events:
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    on_event(event["type"], event["object"])
    if version == before and time.monotonic() - begun < _SETTLED_SECONDS:
        raise Unavailable(f"{api.server} ends each watch of {path} at once")
    return version


class _Trouble:
    """Tells each kind of trouble once, and how long to wait."""

    def __init__(self, path: str, tell: OnTrouble | None) -> None:
        self._path, self._tell = path, tell or self._say
        self._kind: type[Exception] | None = None
        self._attempts = 0

    def begins(self, error: Exception) -> None:
        self._attempts += 1
        if self._kind is not type(error):
            self._kind = type(error)
            self._tell(error)

    @contextmanager
    def ending(self) -> Iterator[Callable[[], None]]:
        """Over, once the block has lasted since what it gives was called: to be let to list is not to be let to
        watch, and a watch may end at once."""
        timers: list[asyncio.TimerHandle] = []
        loop = asyncio.get_running_loop()
        try:
            yield lambda: timers.append(loop.call_later(_SETTLED_SECONDS, self._over))
        finally:
            for timer in timers:
                timer.cancel()

    def patience(self, error: Exception | None = None) -> float:
        """Seconds until the next try, never less than the server asked for."""
        whole = min(_MOST_SECONDS, _FIRST_SECONDS * 2.0 ** min(self._attempts, 10))
        return max(whole * random.uniform(0.5, 1.0), getattr(error, "retry_after", None) or 0.0)  # noqa: S311

    def _over(self) -> None:
        self._attempts = 0
        if self._kind is not None:
            self._kind = None
            self._tell(None)

    def _say(self, error: Exception | None) -> None:
        if error is None:
            _log.info("%s is followed again", self._path)
        else:
            _log.warning(
                "%s cannot be followed, what was known of it stands: %s", self._path, error, exc_info=_defect(error)
            )


def _defect(error: Exception) -> Exception | None:
    return None if isinstance(error, ApiError) else error
