"""A Haystack DocumentStore over the Lake: asynchronous, pooled, one CortexIndex each.

Shields pipelines from SQL and from revisions: documents go to every live revision, queries to the current one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
from haystack import Document, default_from_dict, default_to_dict
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.utils import Secret

from cortex_workloads.runtime.cache.turns import Turns
from cortex_workloads.runtime.embedding.embedder import Vectors
from cortex_workloads.runtime.errors import FailedPrecondition, NotFound
from cortex_workloads.runtime.lake import revisions
from cortex_workloads.runtime.lake.pool import Lake
from cortex_workloads.runtime.lake.revisions import Phase, Resource, Revision
from cortex_workloads.search import definition, documents, retrieval, tables, writer
from cortex_workloads.search.documents import NewDocument
from cortex_workloads.search.filters import compile_filter
from cortex_workloads.search.retrieval import Found, Mode, Query
from cortex_workloads.search.writer import Written

_FRESH_SECONDS: Final = 0.5
_SELECT: Final = "SELECT d.document, d.title, d.content, d.meta FROM documents d WHERE d.resource_id = %(resource)s"

T = TypeVar("T")


class LakeDocumentStore:
    """The documents of one index. Without a `lake` it opens one of its own at `dsn` when it is first used.

    The synchronous methods of the protocol run on the loop of the store's first use: call them from other threads.
    """

    def __init__(
        self,
        namespace: str,
        name: str,
        dsn: Secret = Secret.from_env_var("CORTEX_LAKE_DSN"),  # noqa: B008 - as Haystack's own stores do
        *,
        lake: Lake | None = None,
    ) -> None:
        self.resource = Resource("CortexIndex", namespace, name)
        self._dsn = dsn
        self._lake = lake
        self._loop: asyncio.AbstractEventLoop | None = None
        self._current: tuple[float, Revision] | None = None
        self._forgotten = 0
        self._versions: Turns[int, int | None] = Turns()

    async def lake(self) -> Lake:
        """The store's connections."""
        self._loop = asyncio.get_running_loop()
        if self._lake is None:
            self._lake = Lake(self._dsn.resolve_value() or "", session=retrieval.SESSION)
            await self._lake.open()
        return self._lake

    async def current(self) -> Revision:
        """The revision that answers, at most half a second old. Raises Unavailable (`NoRevision`)."""
        if self._current is not None and time.monotonic() - self._current[0] < _FRESH_SECONDS:
            return self._current[1]
        began, forgotten = time.monotonic(), self._forgotten
        async with (await self.lake()).connection() as connection:
            found = revisions.current(await revisions.describe(connection, self.resource))
        if found is None:
            raise writer.no_revision(self.resource)
        if forgotten == self._forgotten:  # else it may have been read before the switch that was told meanwhile
            self._current = (began, found)
        return found

    def forget(self) -> None:
        """Looks the current revision up again at its next use."""
        self._current = None
        self._forgotten += 1

    async def revision(self, identity: str) -> Revision:
        """A revision by its id; the current one at most half a second old. Raises NotFound, FailedPrecondition (it
        failed)."""
        if self._current is not None and self._current[1].id == identity:
            found = await self.current()
            if found.id == identity:
                return found
        async with (await self.lake()).connection() as connection:
            every = {found.id: found for found in await revisions.describe(connection, self.resource)}
        if identity not in every:
            raise NotFound(
                f"the index {self.resource.namespace}/{self.resource.name} has no revision {identity!r}",
                remedy=f"ask for one of {', '.join(every) or 'none'}, or leave it out",
                reason="RevisionNotFound",
            )
        found = every[identity]
        if found.phase is Phase.FAILED:
            raise FailedPrecondition(
                f"revision {identity} failed: {found.message}", remedy="leave `revision` out", reason="RevisionFailed"
            )
        return found

    async def search(
        self,
        text: str,
        mode: Mode,
        top_k: int,
        *,
        vector: Vectors | None = None,
        filters: dict[str, Any] | None = None,
        revision: str = "",
        exact: bool = False,
    ) -> tuple[Found, Revision]:
        """Searches the current revision, or the one named. `vector`: float32 [dimensions]; `exact` compares it with
        every passage. Raises InvalidInput (filter), NotFound (revision), Unavailable."""
        condition = compile_filter(filters)
        for last in (False, True):
            target = await self.revision(revision) if revision else await self.current()
            configuration = definition.read(target.definition).configuration
            query = Query(text, mode, top_k, target.resource, target.row, configuration, vector, condition, exact)
            try:
                async with (await self.lake()).connection() as connection:
                    found = await retrieval.search(connection, query)
                if found.version is not None or revision or last:
                    return found, target
                # It takes no writes any more: another one is current.
                self.forget()
            except psycopg.errors.UndefinedTable:
                # Its tables were dropped since it was looked up: it is not the current one any more.
                self.forget()
                if last:
                    raise
            except psycopg.errors.UndefinedColumn:
                if last:
                    raise
                async with (await self.lake()).connection() as connection:
                    await tables.complete(connection, target.row)
        raise AssertionError

    async def version(self, revision: str) -> int | None:
        """The content version of the current revision, or of the one named; None where no answer may be kept. Raises
        NotFound, FailedPrecondition, Unavailable."""
        target = await self.revision(revision) if revision else await self.current()
        return await self._versions.next(target.row, partial(self._version, target.row))

    async def _version(self, row: int) -> int | None:
        try:
            async with (await self.lake()).connection() as connection:
                return await tables.version(connection, row)
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            self.forget()
            return None

    async def update(self, new: list[NewDocument], delete_ids: list[str]) -> Written:
        """Writes and deletes documents, all or none. Raises InvalidInput, TooLarge, Unavailable."""
        documents.check(new, delete_ids)
        return await writer.write(await self.lake(), self.resource, new, delete_ids)

    async def count_documents_async(self) -> int:
        """Documents in the index."""
        async with (await self.lake()).connection() as connection:
            current = revisions.current(await revisions.describe(connection, self.resource))
            return (await tables.counts(connection, current.row)).documents if current is not None else 0

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that pass a filter, by id; their titles are in the metadata as `title`."""
        condition = compile_filter(filters)
        where = f" AND {condition.sql}" if condition is not None else ""
        async with (await self.lake()).connection() as connection:
            resource = await revisions.resource_row(connection, self.resource)
            found = await connection.execute(
                f"{_SELECT}{where} ORDER BY d.document",
                {"resource": resource, **(condition.parameters if condition is not None else {})},
            )
            return [_document(*row) for row in await found.fetchall()]

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Writes documents (NONE overwrites); a text in the metadata's `title` is the title. Returns how many."""
        new = [_new(document) for document in documents]
        if policy in (DuplicatePolicy.SKIP, DuplicatePolicy.FAIL):
            there = await self._there([document.id for document in new])
            if there and policy is DuplicatePolicy.FAIL:
                raise DuplicateDocumentError(f"the index has documents with these ids already: {sorted(there)[:5]}")
            new = [document for document in new if document.id not in there]
        for start in range(0, len(new), 1000):
            await self.update(new[start : start + 1000], [])
        return len(new)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """Deletes documents; those not there are ignored."""
        for start in range(0, len(document_ids), 1000):
            await self.update([], document_ids[start : start + 1000])

    def count_documents(self) -> int:
        """As `count_documents_async`."""
        return self.wait(self.count_documents_async())

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """As `filter_documents_async`."""
        return self.wait(self.filter_documents_async(filters))

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """As `write_documents_async`."""
        return self.wait(self.write_documents_async(documents, policy))

    def delete_documents(self, document_ids: list[str]) -> None:
        """As `delete_documents_async`."""
        self.wait(self.delete_documents_async(document_ids))

    def to_dict(self) -> dict[str, Any]:
        """As Haystack writes components; the address stays in the environment."""
        return default_to_dict(
            self, namespace=self.resource.namespace, name=self.resource.name, dsn=self._dsn.to_dict()
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LakeDocumentStore:
        """The reverse of `to_dict`."""
        parameters = data["init_parameters"]
        parameters["dsn"] = Secret.from_dict(parameters["dsn"])
        store: LakeDocumentStore = default_from_dict(cls, data)
        return store

    async def close(self) -> None:
        """Closes the connections."""
        if self._lake is not None:
            await self._lake.close()

    async def _there(self, ids: list[str]) -> set[str]:
        async with (await self.lake()).connection() as connection:
            resource = await revisions.resource_row(connection, self.resource)
            found = await connection.execute(
                "SELECT document FROM documents WHERE resource_id = %s AND document = ANY(%s)", (resource, ids)
            )
            return {row[0] for row in await found.fetchall()}

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs asynchronous work of the store from another thread. Raises RuntimeError on the store's own loop."""
        if self._loop is None or not self._loop.is_running():
            work.close()
            raise RuntimeError("no event loop runs this store: await one of its _async methods first")
        if self._loop is _running_loop():
            work.close()
            raise RuntimeError("this would wait for its own event loop: await the _async method instead")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _document(identity: str, title: str, content: str, meta: dict[str, Any]) -> Document:
    return Document(id=identity, content=content, meta={"title": title, **meta} if title else meta)


def _new(document: Document) -> NewDocument:
    title = document.meta.get("title", "")
    return NewDocument(document.id, title if isinstance(title, str) else "", document.content or "", document.meta)
