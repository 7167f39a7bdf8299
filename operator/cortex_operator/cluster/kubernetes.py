"""`KubernetesCluster`: the port `Cluster` over an API server, in raw JSON.

Shields callers from requests: server-side apply with a fixed manager, watches that break, reads of what the cache knows
and writes that would change nothing. The cache may be behind: writes that depend on a state name it, and a refusal
makes what is known fresh, so that the next try sees what is there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from cortex_kube.client import Api, fenced
from cortex_kube.client import Unavailable as NoAnswer
from cortex_kube.listwatch import list_watch
from cortex_kube.resources import path

from cortex_operator.cluster.admission import admit, check_controller, check_preconditions, check_uid, normal_key
from cortex_operator.cluster.cache import Cache
from cortex_operator.cluster.discovery import served_of
from cortex_operator.cluster.fields import copy_json
from cortex_operator.cluster.owned import is_applied
from cortex_operator.cluster.port import (
    EVERYWHERE,
    FIELD_MANAGER,
    ApplyResult,
    Conflict,
    Event,
    Invalid,
    NotFound,
    Object,
    ObjectKey,
    Objects,
)
from cortex_operator.cluster.refusals import OPERATOR, Asker, translated
from cortex_operator.cluster.schema import CLUSTER_SCOPED
from cortex_operator.cluster.watching import Watcher

_APPLY: Final = "application/apply-patch+yaml"
_JSON_PATCH: Final = "application/json-patch+json"
_MERGE_PATCH: Final = "application/merge-patch+json"
_SERVERS_OWN: Final = ("generation", "creationTimestamp", "deletionTimestamp", "managedFields")
_OF_NONE: Final = "1"
"""A resourceVersion that no object has: a store's first write has a later one."""
_SOON: Final = 1.0
"""An outage that the API server itself says is over in so many seconds is waited for here."""


class KubernetesCluster:
    """Objects of an API server; of namespaced kinds those in `namespaces`, or all when it is empty. Reads of what
    `cache` knows ask nobody; somebody else lets it hear the watches. `fence` is called just before each write and does
    not return when this process may not write. `asker` words its refusals. The caller closes `api`."""

    def __init__(
        self,
        api: Api,
        namespaces: Sequence[str] = (),
        cache: Cache | None = None,
        fence: Callable[[], object] = lambda: None,
        asker: Asker = OPERATOR,
    ) -> None:
        self._api = api
        self._asker = asker
        self._fence = fence
        self._namespaces = tuple(namespaces)
        self._cache = cache or Cache({})

    async def apply(self, obj: Object, *, field_manager: str = FIELD_MANAGER, force: bool = True) -> ApplyResult:
        """Server-side apply. Raises Invalid, Conflict, NamespaceTerminating, Forbidden, Unavailable."""
        key, config = admit(obj)
        for name in _SERVERS_OWN:
            config["metadata"].pop(name, None)
        digest = _digest(config, field_manager)
        if self._cache.is_applied(key, digest):
            return ApplyResult.UNCHANGED
        async with self._writing(key):
            # The cache keeps what the usual manager owns, and nothing of others.
            enough = field_manager == FIELD_MANAGER or not self._cache.follows(key.api_version, key.kind)
            live = await (self._find(key) if enough else self._find_unwatched(key))
            if live is None and enough and self._cache.follows(key.api_version, key.kind):
                if (made := await self._create(key, config, field_manager)) is not None:
                    self._keep(made)
                    return ApplyResult.CREATED
                live = await self._find_unwatched(key)
            check_preconditions(key, config["metadata"], live)
            check_controller(key, config, live)
            if live is not None and is_applied(config, live, field_manager):
                self._cache.applied(key, _version(live), digest)
                return ApplyResult.UNCHANGED
            after = await self._apply(key, config, field_manager, force=force)
            self._keep(after)
        if live is None:
            return ApplyResult.CREATED
        return ApplyResult.UNCHANGED if _version(after) == _version(live) else ApplyResult.CHANGED

    async def get(self, key: ObjectKey, *, unwatched: bool = False) -> Object:
        """One object; with `unwatched` also one without the labels of what is watched. Raises NotFound, Forbidden,
        Unavailable."""
        key = normal_key(key)
        if unwatched or not self._answers(key.api_version, key.kind, key.namespace):
            return await self._request("GET", key)
        found = self._cache.get(key)
        if found is None:
            raise NotFound(f"{key} is not there")
        return found

    async def list(
        self, api_version: str, kind: str, *, namespace: str | None = None, labels: dict[str, str] | None = None
    ) -> list[Object]:
        """All objects of a kind, ordered by namespace and name. Raises Forbidden, Unavailable."""
        if self._answers(api_version, kind, namespace):
            return self._cache.list(api_version, kind, namespace, labels or {})
        found: list[Object] = []
        for place in self._places(kind, namespace):
            with translated(f"the list of {kind}", self._asker):
                found += (await self._api.list(path(api_version, kind, place), query=_query(labels)))[0]
        return sorted(found, key=ObjectKey.of)

    async def scan(
        self, api_version: str, kind: str, *, labels: dict[str, str] | None = None
    ) -> AsyncGenerator[Objects, None]:
        """All objects of a kind, in pages. Raises Forbidden, Unavailable."""
        for place in self._places(kind, None):
            with translated(f"the list of {kind}", self._asker):
                async with aclosing(self._api.pages(path(api_version, kind, place), query=_query(labels))) as pages:
                    async for page, _ in pages:
                        yield page

    async def served(self, kinds: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Those of the kinds that the API server serves. Raises Forbidden, Unavailable."""
        return await served_of(self._api, kinds, self._asker)

    async def delete(self, key: ObjectKey, *, uid: str | None = None, foreground: bool = False) -> None:
        """Deletes an object, what it owns in the background or before it. Raises NotFound, Forbidden, Unavailable."""
        policy = "Foreground" if foreground else "Background"
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        key = normal_key(key)
        try:
            async with self._writing(key):
                self._deleted(key, await self._request("DELETE", key, body=options))
        except Conflict as error:
            raise NotFound(f"{key} with uid {uid} is not there") from error

    async def patch_status(
        self, key: ObjectKey, status: Object, *, uid: str | None = None, field_manager: str = FIELD_MANAGER
    ) -> bool:
        """Replaces the status. Raises NotFound, Invalid, Forbidden, Unavailable.

        By a JSON patch: one request, what is left out goes whoever wrote it, and no version is needed, but a test of
        the uid. An apply would keep the fields of other managers, a merge patch those that are left out.
        """
        key = normal_key(key)
        status = copy_json(status)
        found = await self.get(key)
        check_uid(key, found, uid)
        if found.get("status", {}) == status:
            return False
        patch: list[Object] = [{"op": "test", "path": "/metadata/uid", "value": uid}] if uid is not None else []
        patch.append({"op": "add", "path": "/status", "value": status})
        query = {"fieldManager": field_manager}
        async with self._writing(key):
            try:
                after = await self._request("PATCH", key, "status", body=patch, content_type=_JSON_PATCH, query=query)
            except Invalid:
                # Of a test that failed the API server says no more than that something is wrong with the request.
                check_uid(key, await self._request("GET", key), uid)
                raise
            self._keep(after)
        return True

    async def set_finalizers(self, obj: Object, finalizers: Sequence[str]) -> None:
        """Replaces the finalizers of an object as it was read. Raises Conflict, NotFound, Invalid, Forbidden,
        Unavailable.

        By a merge patch that names the version: an apply would leave one that another manager wrote, too.
        """
        key = normal_key(ObjectKey.of(obj))
        named = {name: obj["metadata"][name] for name in ("uid", "resourceVersion")}
        patch = {"metadata": {**named, "finalizers": list(finalizers)}}
        query = {"fieldManager": FIELD_MANAGER}
        async with self._writing(key):
            after = await self._request("PATCH", key, body=patch, content_type=_MERGE_PATCH, query=query)
            if "deletionTimestamp" in after["metadata"]:
                self._deleted(key, after)
            else:
                self._keep(after)

    async def watch(self, api_version: str, kind: str, *, namespace: str | None = None) -> AsyncGenerator[Event, None]:
        """What is there (as ADDED), then what changes."""
        followed = _Followed(api_version, kind)
        tasks = [
            asyncio.create_task(followed.follow(self._api, path(api_version, kind, place), place))
            for place in self._places(kind, namespace)
        ]
        try:
            async with aclosing(followed.events()) as events:
                async for event in events:
                    yield event
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(self, key: ObjectKey) -> Object | None:
        try:
            return await self.get(key)
        except NotFound:
            return None

    async def _find_unwatched(self, key: ObjectKey) -> Object | None:
        """What the cache lacks may be there without the labels of what is watched, as somebody else's."""
        try:
            return await self._request("GET", key)
        except NotFound:
            return None

    async def _create(self, key: ObjectKey, config: Object, field_manager: str) -> Object | None:
        """Applies what the cache lacks; None when there is an object of this name, or something is wrong with it. One
        request does both: an apply that names a version makes the object, or is refused because the version of what is
        there is another one."""
        if config["metadata"].keys() & {"uid", "resourceVersion"}:
            return None
        new = {**config, "metadata": {**config["metadata"], "resourceVersion": _OF_NONE}}
        try:
            return await self._apply(key, new, field_manager, force=True)
        except (Conflict, Invalid):
            # Also where an API server takes no version of what it is to make: the apply that follows names none.
            return None

    async def _apply(self, key: ObjectKey, config: Object, field_manager: str, *, force: bool) -> Object:
        query = {"fieldManager": field_manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        return await self._request("PATCH", key, body=config, content_type=_APPLY, query=query)

    def _answers(self, api_version: str, kind: str, namespace: str | None) -> bool:
        """Whether the cache answers; counted."""
        known = self._is_followed(namespace) and self._cache.follows(api_version, kind)
        self._cache.reads[kind, known] += 1
        return known

    def _is_followed(self, namespace: str | None) -> bool:
        # Everywhere are objects, too, that the cache's selection leaves out.
        return not namespace or (namespace != EVERYWHERE and namespace in (self._namespaces or (namespace,)))

    def _keep(self, obj: Object) -> None:
        if self._is_followed(obj["metadata"].get("namespace")):
            self._cache.wrote(obj)

    def _deleted(self, key: ObjectKey, answer: Object) -> None:
        """The API server answers with the object, or with a Status that names its uid."""
        if answer["kind"] == "Status":
            self._cache.deleted(key, answer["details"]["uid"])
        elif answer["metadata"].get("finalizers"):
            self._keep(answer)
        else:
            self._cache.deleted(key, answer["metadata"]["uid"])

    @asynccontextmanager
    async def _writing(self, key: ObjectKey) -> AsyncIterator[None]:
        """What is known of the object is as new as the answer, also when it was refused."""
        with self._cache.writing(key):
            try:
                yield
            except (Conflict, NotFound):
                await self._refresh(key)
                raise

    async def _refresh(self, key: ObjectKey) -> None:
        if self._cache.follows(key.api_version, key.kind):
            try:
                self._keep(await self._request("GET", key))
            except NotFound:
                self._cache.missing(key)

    async def _request(self, method: str, key: ObjectKey, subresource: str | None = None, **options: Any) -> Object:
        where = path(key.api_version, key.kind, key.namespace or None, key.name, subresource)
        with translated(key, self._asker):
            try:
                return await self._send(method, where, **options)
            except NoAnswer as error:
                # A connection that the API server closed while it was idle, or a server that asks for a moment: every
                # request here may be sent twice.
                if (error.retry_after or 0.0) > _SOON:
                    raise
                await asyncio.sleep(error.retry_after or 0.0)
                return await self._send(method, where, **options)

    async def _send(self, method: str, where: str, **options: Any) -> Object:
        if method == "GET":
            return await self._api.request(method, where, **options)
        with fenced(self._fence):
            return await self._api.request(method, where, **options)

    def _places(self, kind: str, namespace: str | None) -> Sequence[str | None]:
        if kind in CLUSTER_SCOPED or namespace == EVERYWHERE:
            return (None,)
        return (namespace,) if namespace else self._namespaces or (None,)


class _Followed:
    """Objects of one kind as they are now, kept by list-watches, and the events of their changes."""

    def __init__(self, api_version: str, kind: str) -> None:
        self._objects: dict[ObjectKey, Object] = {}
        self._watcher = Watcher(api_version, kind, None, self._objects.get)

    async def follow(self, api: Api, where: str, place: str | None) -> None:
        def on_list(items: list[Object]) -> None:
            there = {ObjectKey.of(obj): obj for obj in items}
            for key in [k for k in self._objects if k not in there and place in (None, k.namespace)]:
                self._set(key, None)
            for key, obj in sorted(there.items(), key=lambda item: item[0]):
                self._set(key, obj)

        def on_event(type: str, obj: Object) -> None:
            self._set(ObjectKey.of(obj), None if type == "DELETED" else obj)

        await list_watch(api, where, on_list=on_list, on_event=on_event)

    async def events(self) -> AsyncGenerator[Event, None]:
        while True:
            for event in await self._watcher.events():
                yield event

    def _set(self, key: ObjectKey, obj: Object | None) -> None:
        before = self._objects.get(key)
        if obj is None:
            self._objects.pop(key, None)
        elif before is None or _version(before) != _version(obj):
            self._objects[key] = obj
        self._watcher.tell(key)


def _version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


def _digest(config: Object, manager: str) -> bytes:
    return hashlib.blake2b(json.dumps([manager, config]).encode(), digest_size=16).digest()


def _query(labels: dict[str, str] | None) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{name}={value}" for name, value in sorted(labels.items()))} if labels else {}
