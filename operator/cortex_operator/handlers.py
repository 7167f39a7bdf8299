"""kopf's part: it watches the two kinds and what the operator makes, and tells the engine. Nothing else knows kopf.

kopf runs in a thread with an event loop of its own: it takes a loop's signal handlers, and at its end all tasks of the
loop. Its handlers only pass events on; it writes nothing to any object (no finalizer, no annotation, no Event).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import aiohttp
import kopf
from cortex_kube import config

from cortex_operator.cluster import Event, EventType
from cortex_operator.dataplane import ResourceKey
from cortex_operator.engine import Engine, Source

log = logging.getLogger(__name__)

_BACKOFFS: Final = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)
"""Seconds between the tries of one request: an outage of so long is nothing to speak of."""
_OUTAGES: Final = frozenset({429, 502, 503, 504})
_AGAIN: Final = 5.0
_END_SECONDS: Final = 5.0

Tell = Callable[[Source[ResourceKey], Event, bool], None]
"""Tells an event, and whether it is of a list: what was deleted before that list, it does not say."""


class WatchLost(Exception):
    """A watch ended for good: the operator would be blind. One line that says which error and what to do."""


class KopfFeed:
    """Feeds an engine from kopf's watches in `namespaces`, or everywhere when there are none. `running` hears whether
    they run."""

    def __init__(self, namespaces: Sequence[str], running: Callable[[bool], None]) -> None:
        self._namespaces = tuple(namespaces)
        self._running = running

    async def __call__(self, engine: Engine[ResourceKey]) -> None:
        """Feeds until it is cancelled. Raises WatchLost; an outage of the API server is waited for."""
        loop = asyncio.get_running_loop()

        def tell(source: Source[ResourceKey], event: Event, listed: bool) -> None:
            # In the order in which they are called: the cache relies on it.
            loop.call_soon_threadsafe(engine.tell, source, event)
            if listed:
                loop.call_soon_threadsafe(engine.suspect, source)

        while True:
            for source in engine.sources:
                engine.suspect(source)
            error = await self._once(_registry(engine.sources, tell), _settings(engine.sources))
            self._running(False)
            if not _is_outage(error):
                raise WatchLost(f"a watch ended: {_line(error)}; the operator ends, to begin anew") from error
            log.warning("the API server is away, the watches begin again: %s", _line(error))
            await asyncio.sleep(_AGAIN)

    async def _once(self, registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings) -> BaseException:
        """Until kopf ends; why it did."""
        loop = asyncio.get_running_loop()
        thread = _Thread(registry, settings, self._namespaces, lambda: loop.call_soon_threadsafe(self._running, True))
        thread.start()
        try:
            return await thread.failed
        finally:
            await thread.end()


class _Thread:
    """One run of kopf."""

    def __init__(
        self,
        registry: kopf.OperatorRegistry,
        settings: kopf.OperatorSettings,
        namespaces: Sequence[str],
        ready: Callable[[], object],
    ) -> None:
        self._registry, self._settings, self._namespaces, self._ready = registry, settings, namespaces, ready
        self._home = asyncio.get_running_loop()
        self.failed: asyncio.Future[BaseException] = self._home.create_future()
        self._closed = asyncio.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        # A daemon: it must not keep the process from ending.
        threading.Thread(target=self._run, name="kopf", daemon=True).start()

    async def end(self) -> None:
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), _END_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except BaseException as failure:
            self._at_home(self._fail, failure)
        self._at_home(self._fail, RuntimeError("kopf ended by itself"))
        self._at_home(self._closed.set)

    def _at_home(self, call: Callable[..., object], *arguments: object) -> None:
        if not self._home.is_closed():
            self._home.call_soon_threadsafe(call, *arguments)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    async def _operate(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # kopf's own callbacks fail when its watches are cancelled while they connect.
        self._loop.set_exception_handler(lambda _, context: log.debug("kopf: %s", context["message"]))
        ready = asyncio.Event()
        tasks = await kopf.spawn_tasks(
            registry=self._registry,
            settings=self._settings,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            ready_flag=ready,
        )
        telling = asyncio.create_task(self._tell_ready(ready))
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            # Told before the others are ended: they may take their time.
            self._at_home(self._fail, task.exception() or RuntimeError(f"{task.get_name()} ended"))
        for task in (*tasks, telling, stopping):
            task.cancel()
        await asyncio.wait(tasks, timeout=_END_SECONDS / 2)

    async def _tell_ready(self, ready: asyncio.Event) -> None:
        await ready.wait()
        self._ready()


def _settings(sources: Sequence[Source[ResourceKey]]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.queueing.exit_timeout = 0.5
    # A worker keeps the last event of its object for so long.
    settings.queueing.idle_timeout = 0.5
    settings.networking.request_timeout = 30.0
    settings.networking.connect_timeout = 10.0
    settings.networking.error_backoffs = _BACKOFFS
    settings.watching.connect_timeout = 10.0
    settings.watching.inactivity_timeout = 70.0
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = None
    for source in sources:
        if source.labels:
            selector = ",".join(f"{name}={value}" for name, value in source.labels.items())
            settings.watching.label_selectors[_resource(source)] = selector
    return settings


def _registry(sources: Sequence[Source[ResourceKey]], tell: Tell) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    for source in sources:
        kopf.on.event(*_resource(source), registry=registry, id=source.kind)(_handler(source, tell))
    return registry


def _resource(source: Source[ResourceKey]) -> tuple[str, str, str]:
    group, _, version = source.api_version.rpartition("/")
    return group, version, source.kind


def _handler(source: Source[ResourceKey], tell: Tell) -> Any:
    async def on_event(event: Any, **_: Any) -> None:
        # kopf gives no type to what a list shows.
        tell(source, Event(EventType(event["type"] or "ADDED"), event["object"]), event["type"] is None)

    return on_event


async def _login(**_: Any) -> kopf.ConnectionInfo:
    """The credentials that the operator's own requests use, read anew each time that they are refused."""
    found: Any = await config.load(None, None)
    header = await found.get_api_key_with_prefix("BearerToken") or ""
    scheme, token = header.rpartition(" ")[::2]
    return kopf.ConnectionInfo(
        server=found.host,
        ca_path=found.ssl_ca_cert,
        insecure=not found.verify_ssl,
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
        username=found.username or None,
        password=found.password or None,
        scheme=scheme or None,
        token=token or None,
        proxy_url=found.proxy,
    )


def _is_outage(error: BaseException) -> bool:
    return getattr(error, "status", None) in _OUTAGES or isinstance(
        error, (aiohttp.ClientConnectionError, TimeoutError)
    )


def _line(error: BaseException) -> str:
    said = getattr(error, "message", None) or " ".join(str(error).split()) or type(error).__name__
    status = getattr(error, "status", None)
    return f"{said} ({status})" if status else str(said)
