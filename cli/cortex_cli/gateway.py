"""A small client of the gateway's REST interface: what the demo, the benchmark and `cortex state` say to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import httpx

_SILENT_SECONDS: Final = 45.0
"""A stream says every 15 s that it is there."""


class GatewayError(RuntimeError):
    """The gateway refused or is not there; the message is its problem+json's `detail`, with the remedy. `told`: the
    same without the request; `reason`: its stable code (empty when it is not there); `retryable`: whether the same may
    succeed later."""

    def __init__(self, message: str, *, told: str = "", reason: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.told = told or message
        self.reason = reason
        self.retryable = retryable


class Gateway:
    """One gateway, by its base URL."""

    def __init__(self, url: str, *, timeout: float = 120.0) -> None:
        self._client = httpx.Client(base_url=url, timeout=timeout, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def search(self, index: str, query: str, **options: Any) -> dict[str, Any]:
        """Searches `NAMESPACE/NAME`; options as in the request (`mode`, `topK`, `filter`, `exact`)."""
        return self._json("POST", f"{_path('indexes', index)}/search", json={"query": query, **options})

    def push(self, index: str, documents: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """Uploads documents as NDJSON; returns {written, unchanged, deleted, waiting}."""
        lines = (json.dumps(document).encode() + b"\n" for document in documents)
        headers = {"content-type": "application/x-ndjson"}
        return self._json("POST", f"{_path('indexes', index)}/documents", content=lines, headers=headers)

    def progress(self, index: str) -> dict[str, Any]:
        """{revision, documents, embedded, waiting, rate, phase} as it stands."""
        return self._json("GET", f"{_path('indexes', index)}/progress", headers={"accept": "application/json"})

    def run(self, workflow: str, input_: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Runs a workflow; yields (event name, event) until `completed` or `failed`."""
        url = f"{_path('workflows', workflow)}/runs"
        for _, name, event in self._stream("POST", url, json={"input": input_}):
            yield name, event

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """What is at a path; None in the query is left out."""
        return self._json("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a path answers to a body."""
        return self._json("POST", path, json=body)

    def follow(self, path: str, after: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(id, name, event) of each event at a path after an id (empty: from now on)."""
        timeout = httpx.Timeout(_SILENT_SECONDS, connect=10)
        yield from self._stream("GET", path, headers={"last-event-id": after} if after else {}, timeout=timeout)

    def _stream(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        headers = {"accept": "text/event-stream", **(headers or {})}
        try:
            with self._client.stream(method, url, headers=headers, **options) as response:
                if response.is_error:
                    response.read()
                    raise _refused(response)
                yield from _events(response.iter_lines())
        except httpx.TransportError as error:
            raise self._silent(error) from error

    def _json(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, url, **options)
        except httpx.TransportError as error:
            raise self._silent(error) from error
        if response.is_error:
            raise _refused(response)
        return dict(response.json())

    def _silent(self, error: Exception) -> GatewayError:
        why = str(error) or type(error).__name__
        url = self._client.base_url
        shown = url.copy_with(userinfo=b"***") if url.userinfo else url
        return GatewayError(f"the gateway at {shown} does not answer: {why}", retryable=True)


def problem(body: dict[str, Any], where: str = "") -> GatewayError:
    """A problem+json as an error; `where` stands before its words."""
    parts = [part for part in (body.get("detail"), body.get("remedy")) if part]
    told, reason = "; ".join(parts), body.get("reason", "")
    return GatewayError(where + ". ".join(parts), told=told, reason=reason, retryable=bool(body.get("retryable")))


def _path(plural: str, key: str) -> str:
    namespace, _, name = key.rpartition("/")
    return f"/v1/namespaces/{namespace or 'default'}/{plural}/{name}"


def _refused(response: httpx.Response) -> GatewayError:
    where = f"{response.request.method} {response.request.url.path}: {response.status_code} "
    try:
        return problem(dict(response.json()), where)
    except ValueError:
        return GatewayError(where + response.text[:500], retryable=response.status_code >= 500)


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    event_id, name, data = "", "message", ""
    for line in lines:
        if line.startswith("id:"):
            event_id = line[3:].strip()
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and data:
            yield event_id, name, json.loads(data)
            event_id, name, data = "", "message", ""
