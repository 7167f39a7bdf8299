"""A small client of the gateway's REST interface: what the demo and the benchmark say to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import httpx


class GatewayError(RuntimeError):
    """The gateway refused or is not there; the message is its problem+json's `detail`, with the remedy."""


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
        headers = {"accept": "text/event-stream"}
        url = f"{_path('workflows', workflow)}/runs"
        try:
            with self._client.stream("POST", url, json={"input": input_}, headers=headers) as response:
                if response.is_error:
                    response.read()
                    raise _refused(response)
                yield from _events(response.iter_lines())
        except httpx.TransportError as error:
            raise GatewayError(f"the gateway at {self._client.base_url} does not answer: {error}") from error

    def _json(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, url, **options)
        except httpx.TransportError as error:
            raise GatewayError(f"the gateway at {self._client.base_url} does not answer: {error}") from error
        if response.is_error:
            raise _refused(response)
        return dict(response.json())


def _path(plural: str, key: str) -> str:
    namespace, _, name = key.rpartition("/")
    return f"/v1/namespaces/{namespace or 'default'}/{plural}/{name}"


def _refused(response: httpx.Response) -> GatewayError:
    try:
        problem = response.json()
        text = ". ".join(part for part in (problem.get("detail"), problem.get("remedy")) if part)
    except ValueError:
        text = response.text[:500]
    return GatewayError(f"{response.request.method} {response.request.url.path}: {response.status_code} {text}")


def _events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    name, data = "message", ""
    for line in lines:
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and data:
            yield name, json.loads(data)
            name, data = "message", ""
