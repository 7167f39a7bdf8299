"""kopf's part: it watches the kinds and the Lease, and tells the engine and `Watches`. Nothing else knows kopf.

kopf runs in a thread with an event loop of its own: it takes a loop's signal handlers, and at its end all tasks of the
loop. Its handlers only pass events on; it writes nothing to any object (no finalizer, no annotation, no Event). The
Lease is watched in the operator's namespace alone, for which kopf runs a second time in the same loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import kopf
from cortex_kube import config, deep
from kopf._cogs.clients import api

from cortex_operator.cluster import Event, EventType, Object, ObjectKey
from cortex_operator.dataplane import ResourceKey
from cortex_operator.engine import Calls, Engine, Lease, Source
from cortex_operator.watches import Watches

log = logging.getLogger(__name__)

_BACKOFFS: Final = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)
"""Seconds between the tries of one request: an outage of so long is nothing to speak of."""
_WATCH_SECONDS: Final = 70.0
"""After which a watch is opened anew, from where it was."""
_NEVER: Final = 10 * 365 * 86400.0
_OUTAGES: Final = frozenset({429, 502, 503, 504})
_NOT_FOUND: Final = 404
_AGAIN: Final = 5.0
_END_SECONDS: Final = 5.0

Tell = Callable[[Source[ResourceKey], Event, bool], None]
"""Tells an event, and whether it is of a list: what was deleted before that list, it does not say."""


class WatchLost(Exception):
    """A watch ended for good: the operator would be blind. One line that says which error and what to do."""


@dataclass(frozen=True)
class _Part:
    """One run of kopf: what it watches, and where; in all namespaces when there are none."""

    registry: kopf.OperatorRegistry
    settings: kopf.OperatorSettings
    namespaces: tuple[str, ...]


class KopfFeed:
    """Feeds an engine from kopf's watches in `namespaces`, or everywhere when there are none. `watches` hears of each
    of them, and of the renewals of the Lease that this process holds."""

    def __init__(self, namespaces: Sequence[str], watches: Watches, lease: Lease) -> None:
        self._namespaces = tuple(namespaces)
        self._watches, self._lease = watches, lease
        self._thread: _Thread | None = None

    async def __call__(self, engine: Engine[ResourceKey]) -> None:
        """Feeds until it is cancelled. Raises WatchLost; an outage of the API server is waited for."""
        while True:
            for source in engine.sources:
                engine.suspect(source)
            error = await self._once(engine)
            await self.close()
            if not _is_outage(error):
                raise WatchLost(f"a watch ended: {_line(error)}; the operator ends, to begin anew") from error
            log.warning("the API server is away, the watches begin again: %s", _line(error))
            await asyncio.sleep(_AGAIN)

    async def _once(self, engine: Engine[ResourceKey]) -> BaseException:
        """Until kopf ends; why it did."""
        self._watches.begin()
        self._thread = thread = _Thread()
        thread.start(self._parts(engine, _login(self._watches.trace(thread.refuse))))
        try:
            return await thread.failed
        finally:
            thread.stop()

    async def close(self) -> None:
        """Waits until kopf has ended, but not for ever."""
        if self._thread is not None:
            await self._thread.closed()

    def _parts(self, engine: Engine[ResourceKey], login: Any) -> list[_Part]:
        calls = Calls(asyncio.get_running_loop())

        def tell(source: Source[ResourceKey], event: Event, listed: bool) -> None:
            calls.put(engine.tell, source, event)
            if listed:
                calls.put(engine.suspect, source)

        def hear(lease: Object) -> None:
            spec = lease.get("spec") or {}
            if spec.get("holderIdentity") == self._lease.identity:
                calls.put(self._watches.hear, spec["renewTime"])

        # A kind may be watched twice, by other labels; kopf knows one selector for each kind.
        halves = [[source for source in engine.sources if source.kept is kept] for kept in (True, False)]
        parts = [_Part(_registry(half, tell, login), _settings(half), self._namespaces) for half in halves if half]
        return [*parts, _canary(self._lease.key, hear, login)]


class _Thread:
    """One run of kopf."""

    def __init__(self) -> None:
        self._home = asyncio.get_running_loop()
        self.failed: asyncio.Future[BaseException] = self._home.create_future()
        self._closed = asyncio.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, parts: Sequence[_Part]) -> None:
        # A daemon: it must not keep the process from ending.
        threading.Thread(target=self._run, args=[parts], name="kopf", daemon=True).start()

    def refuse(self, path: str) -> None:
        """Ends it sooner than kopf itself would, which tries for minutes."""
        why = f"the operator may not list and watch {path} (403), grant it (RBAC)"
        self._at_home(self._fail, PermissionError(why))

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    async def closed(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._closed.wait()

    def _run(self, parts: Sequence[_Part]) -> None:
        try:
            asyncio.run(self._operate(parts))
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

    async def _operate(self, parts: Sequence[_Part]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        # kopf's own callbacks fail when its watches are cancelled while they connect.
        self._loop.set_exception_handler(lambda _, context: log.debug("kopf: %s", context["message"]))
        # Each in a context of its own, where kopf keeps its credentials.
        spawned = await asyncio.gather(*map(_spawn, parts))
        tasks = list(chain.from_iterable(spawned))
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            # Told before the others are ended: they may take their time.
            self._at_home(self._fail, task.exception() or RuntimeError(f"{task.get_name()} ended"))
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.wait(tasks, timeout=_END_SECONDS / 2)


async def _spawn(part: _Part) -> Collection[asyncio.Task[Any]]:
    return await kopf.spawn_tasks(
        registry=part.registry,
        settings=part.settings,
        standalone=True,
        clusterwide=not part.namespaces,
        namespaces=part.namespaces,
    )


def _settings(sources: Sequence[Source[ResourceKey]] = ()) -> kopf.OperatorSettings:
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
    # A silent watch is found by its age, whatever it said. kopf's own timer of inactivity may go off while an event is
    # handed on, and then ends the watch for good without a word.
    settings.watching.client_timeout = _WATCH_SECONDS
    settings.watching.inactivity_timeout = _NEVER
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.diffbase_storage = _NoEssence()
    for source in sources:
        if source.labels:
            selector = ",".join(f"{name}={value}" for name, value in source.labels.items())
            settings.watching.label_selectors[_resource(source)] = selector
    return settings


class _NoEssence(kopf.DiffBaseStorage):
    """kopf compares an object with what was handled last, for handlers of changes. There are none here: copying each
    object twice for that would be a tenth of the operator's work."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


def _registry(sources: Sequence[Source[ResourceKey]], tell: Tell, login: Any) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(login)
    for source in sources:
        kopf.on.event(*_resource(source), registry=registry, id=source.kind)(_handler(source, tell))
    return registry


def _canary(key: ObjectKey, hear: Callable[[Object], None], login: Any) -> _Part:
    lease = Source[ResourceKey](key.api_version, key.kind, keys=lambda _: ())
    registry = _registry([lease], lambda _, event, __: hear(event.object), login)
    settings = _settings()
    settings.watching.field_selectors[_resource(lease)] = f"metadata.name={key.name}"
    return _Part(registry, settings, (key.namespace,))


def _resource(source: Source[ResourceKey]) -> tuple[str, str, str]:
    group, _, version = source.api_version.rpartition("/")
    return group, version, source.kind


def _handler(source: Source[ResourceKey], tell: Tell) -> Any:
    async def on_event(event: Any, **_: Any) -> None:
        # kopf gives no type to what a list shows.
        tell(source, Event(EventType(event["type"] or "ADDED"), event["object"]), event["type"] is None)

    return on_event


def _login(trace: aiohttp.TraceConfig) -> Callable[..., Coroutine[Any, Any, kopf.AiohttpSession]]:
    async def login(**_: Any) -> kopf.AiohttpSession:
        """The credentials that the operator's own requests use, read anew each time that they are refused."""
        found: Any = await config.load(None, None)
        header = await found.get_api_key_with_prefix("BearerToken") or ""
        scheme, token = header.rpartition(" ")[::2]
        info = kopf.ConnectionInfo(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            insecure=not found.verify_ssl,
            certificate_path=found.cert_file,
            private_key_path=found.key_file,
            username=found.username or None,
            password=found.password or None,
            scheme=scheme or None,
            token=token or None,
        )
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
            headers=info.as_http_headers(),
            proxy=found.proxy,
            trace_configs=[trace],
            response_class=_Response,
        )
        return kopf.AiohttpSession(server=info.server, aiohttp_session=session)

    return login


class _Response(aiohttp.ClientResponse):
    async def json(self, **_: Any) -> Any:
        """What a list says."""
        return deep.loads(await self.read())


# kopf reads watches by the module of this name. The standard library's runs out of stack at an object that is nested
# deeply enough, which would end the watches of all.
vars(api)["json"] = SimpleNamespace(loads=deep.loads)


def _is_outage(error: BaseException) -> bool:
    return getattr(error, "status", None) in _OUTAGES or isinstance(
        error, (aiohttp.ClientConnectionError, TimeoutError)
    )


def _line(error: BaseException) -> str:
    said = getattr(error, "message", None) or " ".join(str(error).split()) or type(error).__name__
    status = getattr(error, "status", None)
    asks = "; was a CustomResourceDefinition removed?" if status == _NOT_FOUND else ""
    return f"{said} ({status}{asks})" if status else str(said)
