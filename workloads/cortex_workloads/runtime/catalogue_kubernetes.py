"""The catalogue of a cluster: followed through the API server, in all namespaces or in some.

Shields the gateway from lists, watches and outages: what was known stands while the API server is away. `states` says
how far the catalogue can be trusted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_kube.errors import Forbidden, NotFound
from cortex_kube.listwatch import list_watch
from cortex_kube.resources import path

from cortex_workloads.runtime import catalogue
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW, Endpoint, Held, Resource
from cortex_workloads.runtime.errors import Unavailable

SLICE: Final = "EndpointSlice"
_VERSIONS: Final = {INDEX: API_VERSION, WORKFLOW: API_VERSION, SLICE: "discovery.k8s.io/v1"}
# The EndpointSlices of a Service have its labels.
_QUERIES: Final = {SLICE: {"labelSelector": "app.kubernetes.io/part-of=datapunk-cortex"}}
_GATHER_SECONDS: Final = 0.1
"""Troubles that come together are told together."""


@dataclass(frozen=True)
class Source:
    """One collection that is followed."""

    kind: str
    namespace: str | None

    @property
    def resource(self) -> str:
        """As RBAC and CRDs name it: `cortexindexes.cortex.datapunk.io`."""
        plural = path(_VERSIONS[self.kind], self.kind, None).rpartition("/")[2]
        return f"{plural}.{_VERSIONS[self.kind].partition('/')[0]}"

    @property
    def path(self) -> str:
        """Of the API."""
        return path(_VERSIONS[self.kind], self.kind, self.namespace)


@dataclass(frozen=True)
class State:
    """Whether the catalogue is complete and followed; if not, why (`reason`: Starting, Forbidden, ResourcesMissing,
    APIServerUnavailable), what to do about it, which `resources` it is about, and whether what is there is `enough` to
    begin with: it lacks no more than namespaces that may not be looked into."""

    ok: bool
    reason: str = ""
    message: str = ""
    resources: frozenset[str] = frozenset()
    enough: bool = False


class KubernetesCatalogue(Held):
    """Both kinds and the EndpointSlices of their Services, followed while the context is open; `namespaces`: only in
    these, with no right in others. Empty until the first lists are there. One namespace where the rights went, or that
    is gone, takes nothing from the others."""

    def __init__(self, api: Api, namespaces: Sequence[str] = ()) -> None:
        super().__init__()
        self._api = api
        self._sources = [Source(kind, namespace) for namespace in namespaces or (None,) for kind in _VERSIONS]
        self._waited_for = set(self._sources)
        self._troubles: dict[Source, Exception] = {}
        self._stirred = asyncio.Event()
        self._slices: dict[tuple[str, str], tuple[tuple[str, str], tuple[Endpoint, ...]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._follow(source)) for source in self._sources]
        return self

    async def __aexit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def states(self) -> AsyncIterator[State]:
        """The state now, and each other one that follows. For one reader."""
        told: State | None = None
        while True:
            self._stirred.clear()
            state = self._state()
            if state != told:
                yield (told := state)
            await self._stirred.wait()
            await asyncio.sleep(_GATHER_SECONDS)

    def get(self, kind: str, namespace: str, name: str) -> Resource:
        """See Catalogue. Raises Unavailable (`NamespaceForbidden`) where nothing could be seen yet."""
        if Source(kind, namespace) in self._waited_for and self._enough():
            raise Unavailable(
                f"nobody knows whether {kind} {namespace}/{name} is there: this gateway may not look into {namespace}",
                remedy=f"grant its ServiceAccount get, list and watch there; if {namespace} is gone, take it out of the"
                " namespaces that the gateway follows",
                reason="NamespaceForbidden",
            )
        return super().get(kind, namespace, name)

    def _enough(self) -> bool:
        """Whether nothing is waited for but namespaces that may not be looked into, and there are others."""
        refused = all(isinstance(self._troubles.get(source), Forbidden) for source in self._waited_for)
        return refused and {s.namespace for s in self._sources} > {s.namespace for s in self._waited_for}

    def _state(self) -> State:
        for kind, reason, words in _TOLD:
            found = {source: error for source, error in self._troubles.items() if isinstance(error, kind)}
            if found:
                resources = frozenset(source.resource for source in found)
                message = words.format(names=", ".join(sorted(resources)), said=next(iter(found.values())))
                return State(False, reason, message, resources, self._enough())
        if self._waited_for:
            return State(False, "Starting", "the first lists of the API server are not there yet")
        return State(True)

    async def _follow(self, source: Source) -> None:
        hears = (self._slices_listed, self._slice_event) if source.kind == SLICE else (self._listed, self._event)
        await list_watch(
            self._api,
            source.path,
            query=_QUERIES.get(source.kind),
            on_list=partial(self._complete, source, hears[0]),
            on_event=hears[1],
            on_trouble=partial(self._trouble, source),
        )

    def _complete(self, source: Source, listed: Any, items: list[dict[str, Any]]) -> None:
        listed(source, items)
        self._waited_for.discard(source)
        self._stirred.set()
        self._moved()

    def _trouble(self, source: Source, error: Exception | None) -> None:
        if error is None:
            self._troubles.pop(source, None)
        else:
            self._troubles[source] = error
        self._stirred.set()

    def _listed(self, source: Source, items: list[dict[str, Any]]) -> None:
        others = self._snapshot.resources.values()
        kept = {r.key: r for r in others if r.kind != source.kind or source.namespace not in (None, r.namespace)}
        self._snapshot.resources = kept
        for item in items:
            self._put(item)

    def _event(self, change: str, item: dict[str, Any]) -> None:
        metadata = item["metadata"]
        self._snapshot.resources.pop((item["kind"], metadata["namespace"], metadata["name"]), None)
        if change != "DELETED":
            self._put(item)
        self._moved()

    def _put(self, item: dict[str, Any]) -> None:
        item["metadata"].pop("managedFields", None)
        if resource := catalogue.valid(item):
            self._snapshot.resources[resource.key] = resource

    def _slices_listed(self, source: Source, items: list[dict[str, Any]]) -> None:
        kept = {key: value for key, value in self._slices.items() if source.namespace not in (None, key[0])}
        self._slices = kept | {_name(item): catalogue.endpoints(item) for item in items}
        self._join()

    def _slice_event(self, change: str, item: dict[str, Any]) -> None:
        if change == "DELETED":
            self._slices.pop(_name(item), None)
        else:
            self._slices[_name(item)] = catalogue.endpoints(item)
        self._join()
        self._moved()

    def _join(self) -> None:
        joined: dict[tuple[str, str], tuple[Endpoint, ...]] = {}
        for service, found in self._slices.values():
            joined[service] = joined.get(service, ()) + found
        self._snapshot.slices = joined


_TOLD: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (Forbidden, "Forbidden", "the API server does not let this account follow {names}: {said}; grant it get, list and "
     "watch on them"),
    (NotFound, "ResourcesMissing", "waiting for the CustomResourceDefinitions {names}: apply them (`kubectl apply -f "
     "crds/`, or the chart with crds.enabled)"),
    (Exception, "APIServerUnavailable", "{names} cannot be followed, what was known of them stands: {said}"),
)  # fmt: skip


def _name(item: dict[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]
