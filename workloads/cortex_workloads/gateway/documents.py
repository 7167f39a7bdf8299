"""Writes and deletes documents."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from datapunk.cortex import common_pb2
from datapunk.cortex.search_pb2 import UpdateRequest, UpdateResponse

from cortex_workloads.gateway import body, ndjson
from cortex_workloads.gateway.backend import Backend, ref
from cortex_workloads.gateway.schemas import Document
from cortex_workloads.runtime.catalogue import Resource
from cortex_workloads.runtime.errors import CortexError, InvalidInput, TooLarge

LINE_BYTES: Final = 4 * 1024 * 1024
"""The largest line of an NDJSON upload."""
SECONDS: Final = 60.0
_BATCH_DOCUMENTS: Final = 500
_BATCH_BYTES: Final = 4 * 1024 * 1024
_SHOWN: Final = 100
_BOM: Final = b"\xef\xbb\xbf"
_CULPRIT: Final = re.compile(r"documents\D{0,2}(\d+)")


async def write(backend: Backend, namespace: str, name: str, documents: Iterable[Document]) -> UpdateResponse:
    """Writes documents, all or none. Raises NotFound, InvalidInput, Unavailable."""
    index = backend.index(namespace, name)
    return await _update(backend, index, documents=[_message(document) for document in documents])


async def delete(backend: Backend, namespace: str, name: str, document: str) -> UpdateResponse:
    """Deletes a document; that it is not there is no error."""
    return await _update(backend, backend.index(namespace, name), delete_ids=[document])


@dataclass
class Outcome:
    """What became of an upload: counts, the first bad lines (line, reason), and what ended it early, if anything."""

    written: int = 0
    unchanged: int = 0
    deleted: int = 0
    waiting: int = 0
    bad: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    ended_by: CortexError | None = None
    line: int = 0

    @property
    def accepted(self) -> int:
        """Documents that stand: written, or there already."""
        return self.written + self.unchanged

    def refuse(self, line: int, reason: str) -> None:
        """Counts a bad line."""
        self.bad += 1
        if len(self.errors) < _SHOWN:
            self.errors.append({"line": line, "reason": reason})

    def add(self, response: UpdateResponse) -> None:
        """Counts a batch."""
        self.written += response.written
        self.unchanged += response.unchanged
        self.deleted += response.deleted
        self.waiting = response.waiting


async def upload(backend: Backend, namespace: str, name: str, chunks: AsyncIterable[bytes]) -> Outcome:
    """Writes the documents of an NDJSON stream, in batches, as they come: the next bytes are read when a batch is
    committed, so memory does not grow with the upload. Bad lines are named and skipped; what was accepted stands.
    Raises NotFound."""
    upload = _Upload(backend, backend.index(namespace, name))
    try:
        async for number, line in ndjson.lines(chunks, LINE_BYTES):
            await upload.take(number, line)
        await upload.flush()
    except CortexError as error:
        upload.outcome.ended_by = error
    upload.outcome.errors.sort(key=lambda error: error["line"])
    return upload.outcome


class _Upload:
    def __init__(self, backend: Backend, index: Resource) -> None:
        self._backend, self._index = backend, index
        self._batch: list[tuple[int, common_pb2.Document]] = []
        self._ids: set[str] = set()
        self._bytes = 0
        self.outcome = Outcome()

    async def take(self, number: int, line: bytes | None) -> None:
        if line is None:
            self.outcome.refuse(number, f"the line is longer than {LINE_BYTES:,} bytes; split the document")
            return
        line = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if not line:
            return
        try:
            document = _message(body.validate(Document, line))
        except CortexError as error:
            self.outcome.refuse(number, _reason(error))
            return
        # A request names an id once; of two lines with the same id the later one stands.
        if len(self._batch) == _BATCH_DOCUMENTS or self._bytes + len(line) > _BATCH_BYTES or document.id in self._ids:
            await self.flush()
        self._batch.append((number, document))
        self._ids.add(document.id)
        self._bytes += len(line)

    async def flush(self) -> None:
        """Sends what is held; what the service refuses by name is taken out, and the others sent again."""
        while self._batch:
            self.outcome.line = self._batch[0][0]
            try:
                response = await _update(self._backend, self._index, documents=[d for _, d in self._batch])
            except (InvalidInput, TooLarge) as error:
                self._drop(error)
                continue
            self.outcome.add(response)
            break
        self._batch, self._ids, self._bytes = [], set(), 0

    def _drop(self, error: CortexError) -> None:
        culprits = {int(match[1]): message for path, message in error.violations if (match := _CULPRIT.search(path))}
        if not any(position < len(self._batch) for position in culprits):
            culprits = dict.fromkeys(range(len(self._batch)), str(error))
        for position, (number, _) in enumerate(self._batch):
            if position in culprits:
                self.outcome.refuse(number, culprits[position])
        self._batch = [entry for position, entry in enumerate(self._batch) if position not in culprits]


async def _update(backend: Backend, index: Resource, **changes: Any) -> UpdateResponse:
    return await backend.haystack(index).UpdateIndex(UpdateRequest(index=ref(index), **changes), timeout=SECONDS)


def _message(document: Document) -> common_pb2.Document:
    meta = body.to_struct(document.meta) if document.meta else None
    return common_pb2.Document(id=document.id, title=document.title, content=document.content, meta=meta)


def _reason(error: CortexError) -> str:
    if error.violations:
        return "; ".join(f"{path or 'the document'}: {message}" for path, message in error.violations)
    return error.message.replace("the body", "the line")
