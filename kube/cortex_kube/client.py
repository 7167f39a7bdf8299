"""One cluster's API server, spoken to in raw JSON.

    async with await Api.connect() as api:
        index = await api.request("GET", path("cortex.datapunk.io/v1alpha1", "CortexIndex", "default", "papers"))

Shields callers from HTTP, credentials and connections: whatever goes wrong is an ApiError. Nothing is tried again here.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.config import ConfigException

from cortex_kube import config, deep
from cortex_kube.errors import (
    ApiError,
    ConfigError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Unavailable,
    from_response,
    from_status,
)

__all__ = [
    "Api",
    "ApiError",
    "ConfigError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "NotFound",
    "Unavailable",
]

# Names for what the class could not write: it has a method called list.
_Objects = list[dict[str, Any]]
_Listed = tuple[_Objects, str]

_CONNECT_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 10.0
_TROUBLE: Final = (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError, ConfigException)


_fence: ContextVar[Callable[[], object] | None] = ContextVar("fence", default=None)


@contextmanager
def fenced(fence: Callable[[], object]) -> Iterator[None]:
    """Calls `fence` now, and once more when the bytes of a request within are about to leave: it may have waited for
    its connection, or the process have stood still."""
    fence()
    before = _fence.set(fence)
    try:
        yield
    finally:
        _fence.reset(before)


class Api:
    """A pool of connections to one API server, with the credentials of one user."""

    def __init__(self, client: Any, user_agent: str) -> None:
        self._client = client
        self._agent = user_agent

    @classmethod
    async def connect(
        cls, *, kubeconfig: Path | None = None, context: str | None = None, user_agent: str = "datapunk-cortex"
    ) -> Self:
        """The cluster of `kubeconfig`, else of the pod's service account, else of KUBECONFIG or ~/.kube/config. Nothing
        is asked of it yet. Raises ConfigError: one line that names the file, the reason and the remedy."""
        configuration = await config.load(kubeconfig, context)
        configuration.trace_configs = [_last_call()]
        try:
            return cls(ApiClient(configuration), user_agent)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the certificates for {configuration.host} cannot be used: {error}; correct the kubeconfig"
            ) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all connections."""
        await self._client.close()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self._client.configuration.host)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> dict[str, Any]:
        """The object that the API server answers with; `timeout` seconds for all of it. Raises ApiError."""
        limit = aiohttp.ClientTimeout(total=timeout)
        async with self._exchange(method, path, query, body, content_type, limit) as response:
            return _parsed(await response.read(), f"{method} {path}")

    async def list(self, path: str, *, query: Mapping[str, str] | None = None, page: int = 500) -> _Listed:
        """All objects of a collection, each with apiVersion and kind, and the version of the list, to watch from. Asks
        for `page` objects at a time; when that takes too long for the server, for all at once. Raises ApiError."""
        try:
            return await self._all(path, query, page)
        except Gone:
            return await self._all(path, query, 0)

    async def pages(
        self, path: str, *, query: Mapping[str, str] | None = None, page: int = 500
    ) -> AsyncGenerator[_Listed, None]:
        """What `list` gives, `page` objects at a time, 0: all at once. Raises ApiError; Gone when they are taken too
        slowly."""
        asked = {**(query or {}), **({"limit": str(page)} if page else {})}
        while True:
            answer = await self.request("GET", path, query=asked)
            kind = {"apiVersion": answer.get("apiVersion", ""), "kind": answer.get("kind", "").removesuffix("List")}
            metadata = answer.get("metadata") or {}
            yield [{**kind, **item} for item in answer.get("items") or ()], metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            asked = {**asked, "continue": metadata["continue"]}

    async def watch(
        self,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        resource_version: str,
        timeout: float = 290,
        opened: Callable[[], None] | None = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Changes since a version: raw `{"type", "object"}`, also BOOKMARK. The server ends it after `timeout` s. Calls
        `opened` once the server has granted it. Raises Gone when the version is too old, Unavailable also when nothing
        at all comes for `timeout` and 10 s."""
        asked = {
            **(query or {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, round(timeout))),
        }
        limit = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=timeout + _GRACE_SECONDS)
        async with self._exchange("GET", path, asked, None, "application/json", limit) as response:
            if opened is not None:
                opened()
            async for line in _lines(response.content.iter_any()):
                yield _event(line, f"GET {path}")

    async def _all(self, path: str, query: Mapping[str, str] | None, page: int) -> _Listed:
        pages = [found async for found in self.pages(path, query=query, page=page)]
        return [item for items, _ in pages for item in items], pages[-1][1]

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        limit: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response of success, closed at the end. Raises ApiError, also for what goes wrong while it is read."""
        url = self.server + path + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        try:
            headers = await self._headers(method, path, content_type)
            answer = await self._client.call_api(method, url, headers, body, _request_timeout=limit)
            response: aiohttp.ClientResponse = answer.response
            try:
                if not 200 <= response.status < 300:
                    told = await response.read()
                    raise from_response(response.status, told, response.headers, f"{method} {path}")
                yield response
            finally:
                response.close()
        except _TROUBLE as error:
            said = " ".join(str(error).split()) or ("no answer in time" if isinstance(error, TimeoutError) else "")
            raise Unavailable(f"{self.server} does not answer: {said or type(error).__name__}") from error

    async def _headers(self, method: str, path: str, content_type: str) -> dict[str, str]:
        headers = {"User-Agent": self._agent, "Accept": "application/json", "Content-Type": content_type}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        # A token's file may end in a line break.
        return {name: value.strip() for name, value in headers.items()}


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    # Objects may be larger than any reader's limit for a line.
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line


def _event(line: bytes, what: str) -> dict[str, Any]:
    event = _parsed(line, what)
    if event.get("type") != "ERROR":
        return event
    told = event.get("object") or {}
    raise from_status(told, int(told.get("code") or 500), what)


def _parsed(data: bytes, what: str) -> dict[str, Any]:
    try:
        found = deep.loads(data)
    except ValueError as error:
        raise Unavailable(f"{what} was answered with what is not JSON: {data[:80]!r}") from error
    if not isinstance(found, dict):
        raise Unavailable(f"{what} was answered with what is no object: {data[:80]!r}")
    return found


def _last_call() -> aiohttp.TraceConfig:
    async def call(*_: object) -> None:
        fence = _fence.get()
        if fence is not None:
            fence()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(call)
    trace.on_request_chunk_sent.append(call)
    trace.freeze()
    return trace
