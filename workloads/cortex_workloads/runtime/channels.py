"""Channels to the pods of a resource, by the target that a cluster would use: `dns:///SERVICE.NAMESPACE.svc:PORT`.

    async with Channels(settings) as channels:
        search = HaystackServiceStub(channels.channel("dns:///papers-search-headless.default.svc:50052"))
        reply = await search.Search(request, timeout=5)

Shields callers from where pods are: a catalogue says so, and the connections follow it under the same stub; in a
cluster, for who has none, DNS. Balances over the pods and tries again by gRPC's own throttled policy, and once more
where pods are now when those it knew are gone: so do not retry around it. Asks nobody while a target's circuit is open
(runtime/resilience). Sends the trace context along. Calls raise `errors.CortexError`, never AioRpcError. A stub's unary
method is awaited once; a streaming one is iterated (close it early with `contextlib.aclosing`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from types import TracebackType
from typing import Any, Final, Self, cast

import grpc

from cortex_workloads.runtime import errors, targets, tasks, telemetry
from cortex_workloads.runtime.catalogue import Catalogue, FileCatalogue
from cortex_workloads.runtime.lines import LOST, Line, address_of
from cortex_workloads.runtime.resilience.circuits import Circuit
from cortex_workloads.runtime.resilience.policies import BreakerPolicy, RetryPolicy
from cortex_workloads.runtime.resilience.retries import What, again
from cortex_workloads.runtime.settings import CallerSettings

_PORT_NAMES: Final = {50052: "grpc", 50053: "grpc", 50059: "control"}
_FORGET_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 2.0
"""How long a call waits for a first ready pod, and for one in the place of a lost one."""
_HEALTH: Final = "/grpc.health."


class Channels:
    """The channels of a process, one for each target, closed together."""

    def __init__(self, settings: CallerSettings, catalogue: Catalogue | None = None) -> None:
        self._file = settings.catalogue_file
        self._breaker, self._retries = settings.breaker, RetryPolicy()
        self._catalogue = catalogue
        self._channels: dict[tuple[str, bool], _Channel] = {}
        self._circuits: dict[str, Circuit] = {}
        self._stack = AsyncExitStack()
        self._forgetting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._catalogue is None and self._file is not None:
            self._catalogue = await self._stack.enter_async_context(FileCatalogue(self._file))
        if self._catalogue is not None:
            self._forgetting = asyncio.create_task(self._forget(self._catalogue), name="forget targets")
        return self

    async def __aexit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        await tasks.end(self._forgetting)
        for channel in self._channels.values():
            await channel.close()
        await self._stack.aclose()

    def channel(self, target: str, *, retries: bool = True) -> grpc.aio.Channel:
        """For the constructor of a stub; without `retries` for who tries again by himself. Raises ValueError when the
        target is none of the form above."""
        key = (target, retries)
        if key not in self._channels:
            policy = self._retries if retries else None
            self._channels[key] = _Channel(target, self._catalogue, policy, self._circuit(target))
        return cast(grpc.aio.Channel, self._channels[key])

    def circuit(self, target: str) -> Circuit | None:
        """The circuit of a target; None before its first call."""
        return self._circuits.get(target)

    def change(self, breaker: BreakerPolicy, retries: RetryPolicy | None = None) -> None:
        """From now on by these policies. Calls that are under way are tried again as they began."""
        if breaker != self._breaker:
            self._breaker = breaker
            for circuit in self._circuits.values():
                circuit.change(breaker)
        if retries is not None and retries != self._retries:
            self._retries = retries
            for (_, retried), channel in self._channels.items():
                if retried:
                    channel.change(retries)

    def _circuit(self, target: str) -> Circuit:
        if target not in self._circuits:
            self._circuits[target] = Circuit(target, targets.name(targets.parse(target)), self._breaker)
        return self._circuits[target]

    async def _forget(self, catalogue: Catalogue) -> None:
        """Lets targets go whose resources are gone: channels, circuits, metrics."""
        while True:
            version = catalogue.version
            for target in [target for target in self._circuits if targets.is_gone(catalogue, target)]:
                self._circuits.pop(target).forget()
                for retries in (True, False):
                    if (channel := self._channels.pop((target, retries), None)) is not None:
                        channel.retire()
            await catalogue.changed(version)
            # Many changes come together.
            await asyncio.sleep(_FORGET_SECONDS)


class _Channel:
    """What a stub needs of a channel: makes its methods. The line below may change between two calls."""

    def __init__(self, target: str, catalogue: Catalogue | None, retries: RetryPolicy | None, circuit: Circuit) -> None:
        match = targets.parse(target)
        self._target, self._catalogue, self._retries, self._circuit = target, catalogue, retries, circuit
        self._service, self._namespace, self._name = match["service"], match["namespace"], targets.name(match)
        self._port = _PORT_NAMES.get(int(match["port"]), "grpc")
        self._line: Line | None = None
        self._detour: Line | None = None
        self._found = False
        self._version = -1

    async def close(self) -> None:
        for line in (self._line, self._detour):
            if line is not None:
                await line.channel.close()

    def retire(self) -> None:
        """Closes what is open, once nobody speaks on it; the next call opens anew."""
        for line in (self._line, self._detour):
            if line is not None:
                line.retire()
        self._line = self._detour = None
        # The next line is no sign of other pods.
        self._found, self._version = False, -1

    def change(self, retries: RetryPolicy) -> None:
        """gRPC takes another policy with another channel only."""
        self._retries = retries
        self.retire()

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[..., Any]:
        async def once(line: Line, request: Any, left: float | None, metadata: Any) -> Any:
            with line.speaking() as channel:
                stub = channel.unary_unary(method, request_serializer, response_deserializer)
                return await stub(request, timeout=left, metadata=_metadata(metadata))

        async def twice(line: Line, request: Any, left: Callable[[], float | None], metadata: Any) -> Any:
            try:
                return await once(line, request, left(), metadata)
            except grpc.aio.AioRpcError as error:
                told = self._told(error)
                other = await self._instead(line, left()) if _lost(error) else None
                if other is None:
                    raise told from error
            again(What.MOVED)
            try:
                return await once(other, request, left(), metadata)
            except grpc.aio.AioRpcError as error:
                raise self._told(error) from error

        async def call(request: Any, *, timeout: float | None = None, metadata: Any = ()) -> Any:
            started = time.monotonic()
            line = await self._ready(timeout)
            with self._guard(method):
                return await twice(line, request, lambda: _left(timeout, started), metadata)

        return call

    def unary_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any
    ) -> Callable[..., AsyncIterator[Any]]:
        async def call(request: Any, *, timeout: float | None = None, metadata: Any = ()) -> AsyncIterator[Any]:
            started = time.monotonic()
            line = await self._ready(timeout)
            with self._guard(method, stream=True) as answered, line.speaking() as channel:
                stub = channel.unary_stream(method, request_serializer, response_deserializer)
                stream = stub(request, timeout=_left(timeout, started), metadata=_metadata(metadata))
                try:
                    async for response in stream:
                        answered()
                        yield response
                except grpc.aio.AioRpcError as error:
                    raise self._told(error) from error
                finally:
                    stream.cancel()

        return call

    def _guard(self, method: str, *, stream: bool = False) -> AbstractContextManager[Callable[[], None]]:
        # Who asks for health wants to know how the target is now.
        return nullcontext(lambda: None) if method.startswith(_HEALTH) else self._circuit.call(stream=stream)

    async def _ready(self, timeout: float | None) -> Line:
        if self._catalogue is None:
            self._line = self._line or Line(self._target, self._retries)
            return self._line
        try:
            async with asyncio.timeout(_WAIT_SECONDS if timeout is None else min(timeout, _WAIT_SECONDS)):
                while (line := self._follow(self._catalogue)) is None:
                    await self._catalogue.changed(self._version)
                return line
        except TimeoutError:
            # A process that stood still hears of a pod and of the end of its wait in the same moment.
            if (line := self._follow(self._catalogue)) is None:
                raise self._unavailable("has no ready pod") from None
            return line

    def _follow(self, catalogue: Catalogue) -> Line | None:
        if catalogue.version == self._version:
            return self._line
        self._version = catalogue.version
        address = self._address(catalogue)
        if self._line is not None and self._line.address != address:
            self._line.retire()
            self._line = None
        if self._line is None and address:
            self._line = Line(address, self._retries)
            if self._found:
                self._circuit.moved()
            self._found = True
        return self._line

    def _address(self, catalogue: Catalogue) -> str:
        found = catalogue.endpoints(self._service, self._namespace)
        return address_of(
            (endpoint.address, endpoint.ports[self._port]) for endpoint in found if self._port in endpoint.ports
        )

    async def _instead(self, lost: Line, timeout: float | None) -> Line | None:
        """Another line than the one on which nobody answers any more; None when there is none soon."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS if timeout is None else min(timeout, _WAIT_SECONDS)):
                return await (self._past_dns(lost) if self._catalogue is None else self._moved(self._catalogue, lost))
        except TimeoutError:
            line = None if self._catalogue is None else self._follow(self._catalogue)
            return None if line is lost else line

    async def _moved(self, catalogue: Catalogue, lost: Line) -> Line:
        """The pod died, and the catalogue shows others, or will."""
        while (line := self._follow(catalogue)) is None or line is lost:
            await catalogue.changed(self._version)
        return line

    async def _past_dns(self, lost: Line) -> Line:
        """DNS may name pods that are gone for as long as its caches keep them; what is behind the address of the
        resource's other Service is always current. The first of both that can be reached."""
        ready = {asyncio.ensure_future(line.channel.channel_ready()): line for line in (lost, *self._detours())}
        try:
            done, _ = await asyncio.wait(ready, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in ready:
                waiting.cancel()
        return ready[done.pop()]

    def _detours(self) -> tuple[Line, ...]:
        if self._port != "grpc" or not self._service.endswith(targets.HEADLESS):
            return ()
        service = self._service.removesuffix(targets.HEADLESS)
        self._detour = self._detour or Line(self._target.replace(self._service, service, 1), self._retries)
        return (self._detour,)

    def _told(self, error: grpc.aio.AioRpcError) -> errors.CortexError:
        told = errors.from_rpc_error(error)
        if _by_server(error):
            return told
        if isinstance(told, errors.Unavailable):
            return self._unavailable(f"does not answer ({told.message})")
        if isinstance(told, errors.DeadlineExceeded):
            return errors.DeadlineExceeded(f"{self._name} did not answer in time", remedy="allow it more time")
        return told

    def _unavailable(self, what: str) -> errors.Unavailable:
        return targets.unavailable(self._catalogue, self._name, what)


def _by_server(error: grpc.aio.AioRpcError) -> bool:
    return any(key == errors.DETAILS_KEY for key, _ in error.trailing_metadata() or ())


def _lost(error: grpc.aio.AioRpcError) -> bool:
    return error.code() in LOST and not _by_server(error)


def _left(timeout: float | None, started: float) -> float | None:
    return None if timeout is None else max(0.001, timeout - (time.monotonic() - started))


def _metadata(given: Any) -> tuple[tuple[str, str], ...]:
    return (*(given or ()), *telemetry.headers().items())
