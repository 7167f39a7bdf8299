"""Which indexes and workflows there are, and where their pods listen.

Shields the gateway and the channels from where that stands: locally a file that the supervisor replaces atomically
(docs/architecture.md, "Finding pods"), in a cluster the API server (catalogue_kubernetes.py). Reads are from memory and
never wait.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import orjson
from cortex_kinds.common import Condition
from cortex_kinds.index import CortexIndex
from cortex_kinds.workflow import CortexWorkflow
from pydantic import ValidationError

from cortex_workloads.runtime.errors import NotFound

_log: Final = logging.getLogger("cortex.catalogue")
_POLL_SECONDS: Final = 0.1
INDEX: Final = "CortexIndex"
WORKFLOW: Final = "CortexWorkflow"
_MODELS: Final[dict[str, type[CortexIndex] | type[CortexWorkflow]]] = {INDEX: CortexIndex, WORKFLOW: CortexWorkflow}
_PLURAL: Final = {INDEX: "indexes", WORKFLOW: "workflows"}


@dataclass(frozen=True)
class Resource:
    """One index or workflow: as it was applied (`manifest`, with status) and as a model."""

    kind: str
    namespace: str
    name: str
    manifest: dict[str, Any]
    model: CortexIndex | CortexWorkflow

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        return self.kind, self.namespace, self.name

    @property
    def ready(self) -> Condition | None:
        """The condition Ready; None until the operator has seen the resource."""
        return self.condition("Ready")

    def condition(self, type_: str) -> Condition | None:
        """A condition by its type."""
        return next((c for c in self.model.status.conditions if c.type == type_), None)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Endpoint:
    """A pod that is ready: its address and its ports by name."""

    address: str
    ports: dict[str, int]
    pod: str = ""


class Catalogue(Protocol):
    """What there is. `version` changes with every change."""

    @property
    def version(self) -> int:
        """Counts changes."""
        ...

    def list(self, kind: str, namespace: str | None = None) -> list[Resource]:
        """All resources of a kind, by namespace and name."""
        ...

    def get(self, kind: str, namespace: str, name: str) -> Resource:
        """One resource. Raises NotFound, which lists near names."""
        ...

    def has(self, kind: str, namespace: str, name: str) -> bool:
        """Whether there is such a resource."""
        ...

    def endpoints(self, service: str, namespace: str) -> tuple[Endpoint, ...]:
        """The ready pods behind a (headless) Service."""
        ...

    async def changed(self, version: int) -> None:
        """Returns once `version` is no longer the current one."""
        ...


@dataclass
class Snapshot:
    """The catalogue's contents at one moment; without `items` and `slices` nothing is there."""

    resources: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    slices: dict[tuple[str, str], tuple[Endpoint, ...]] = field(default_factory=dict)

    def list(self, kind: str, namespace: str | None = None) -> list[Resource]:
        """See Catalogue."""
        found = (r for r in self.resources.values() if r.kind == kind and namespace in (None, r.namespace))
        return sorted(found, key=lambda r: (r.namespace, r.name))

    def get(self, kind: str, namespace: str, name: str) -> Resource:
        """See Catalogue."""
        resource = self.resources.get((kind, namespace, name))
        if resource is None:
            raise self._not_found(kind, namespace, name)
        return resource

    def has(self, kind: str, namespace: str, name: str) -> bool:
        """See Catalogue."""
        return (kind, namespace, name) in self.resources

    def _not_found(self, kind: str, namespace: str, name: str) -> NotFound:
        others = [f"{r.namespace}/{r.name}" for r in self.list(kind)]
        near = difflib.get_close_matches(f"{namespace}/{name}", others, n=5, cutoff=0.5) or others[:5]
        remedy = (
            f"did you mean {', '.join(near)}?" if near else f"there are no {_PLURAL[kind]} yet: apply a {kind} first"
        )
        return NotFound(f"there is no {kind} {namespace}/{name}", remedy=remedy, reason=f"{kind[6:]}NotFound")


def parse(data: bytes) -> Snapshot:
    """The catalogue file's contents. Raises ValueError when it is not such a file; a resource that is not valid is left
    out and logged, for one must not hide the others."""
    document = orjson.loads(data)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    snapshot = Snapshot()
    for item in document.get("items") or ():
        if resource := valid(item):
            snapshot.resources[resource.key] = resource
    for item in document.get("endpointSlices") or ():
        key, found = endpoints(item)
        snapshot.slices[key] = snapshot.slices.get(key, ()) + found
    return snapshot


def valid(item: dict[str, Any]) -> Resource | None:
    """The resource; None when it is not valid, which is logged."""
    try:
        model = _MODELS[item["kind"]].model_validate(item)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, line['loc']))}: {line['msg']}" for line in error.errors())
        metadata = item.get("metadata") or {}
        name = f"{item['kind']} {metadata.get('namespace', 'default')}/{metadata.get('name', '')}"
        _log.error("%s is left out, it is not valid: %s", name, wrong)
        return None
    except (KeyError, TypeError) as error:
        _log.error("a resource of the catalogue is not valid: %r", error)
        return None
    return Resource(item["kind"], model.metadata.namespace, model.metadata.name, item, model)


def endpoints(item: dict[str, Any]) -> tuple[tuple[str, str], tuple[Endpoint, ...]]:
    """What an EndpointSlice says: (namespace, Service), and the pods that are ready."""
    metadata = item["metadata"]
    ports = {port["name"]: port["port"] for port in item.get("ports") or ()}
    found = tuple(
        Endpoint(endpoint["addresses"][0], ports, (endpoint.get("targetRef") or {}).get("name", ""))
        for endpoint in item.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready", True)
    )
    return (metadata.get("namespace", "default"), metadata["labels"]["kubernetes.io/service-name"]), found


class Held:
    """A catalogue in memory, which a subclass fills and then calls `_moved`."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._version = 0
        self._change = asyncio.Event()

    @property
    def version(self) -> int:
        """See Catalogue."""
        return self._version

    def list(self, kind: str, namespace: str | None = None) -> list[Resource]:
        """See Catalogue."""
        return self._snapshot.list(kind, namespace)

    def get(self, kind: str, namespace: str, name: str) -> Resource:
        """See Catalogue."""
        return self._snapshot.get(kind, namespace, name)

    def has(self, kind: str, namespace: str, name: str) -> bool:
        """See Catalogue."""
        return self._snapshot.has(kind, namespace, name)

    def endpoints(self, service: str, namespace: str) -> tuple[Endpoint, ...]:
        """See Catalogue."""
        return self._snapshot.slices.get((namespace, service), ())

    async def changed(self, version: int) -> None:
        """See Catalogue."""
        while self._version == version:
            await self._change.wait()

    def _moved(self) -> None:
        self._version += 1
        self._change.set()
        self._change = asyncio.Event()


class FileCatalogue(Held):
    """A catalogue in a file, followed while the context is open. A file that is missing is an empty catalogue; one that
    cannot be read keeps what was there (and is logged once)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._seen: object = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.refresh()
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()

    def refresh(self) -> None:
        """Reads the file if it is another than the one read last."""
        try:
            stat = self._path.stat()
            mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if mark == self._seen:
                return
            self._seen = mark
            self._snapshot = parse(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            _log.error("the catalogue %s cannot be read, what it said before stands: %s", self._path, error)
            return
        self._moved()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            self.refresh()
