"""Documents as they come in: read from protobuf, and every mistake in them found before anything is written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from datapunk.cortex.common_pb2 import Document as DocumentMessage
from google.protobuf.struct_pb2 import Struct, Value

from cortex_workloads.runtime.errors import InvalidInput, TooLarge

ID_CHARACTERS: Final = 512
TITLE_CHARACTERS: Final = 2_000
CONTENT_BYTES: Final = 1024 * 1024
META_BYTES: Final = 64 * 1024
META_DEPTH: Final = 32
REQUEST_DOCUMENTS: Final = 1_000
REQUEST_BYTES: Final = 8 * 1024 * 1024

Violation = tuple[str, str]


@dataclass(frozen=True)
class NewDocument:
    """A document to write; `meta` is JSON."""

    id: str
    title: str
    content: str
    meta: Mapping[str, Any]

    @cached_property
    def meta_json(self) -> str:
        """The metadata as JSON text. Raises ValueError or RecursionError for what JSON cannot say."""
        return json.dumps(self.meta, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is searched: title and content."""
        return hashlib.sha256(b"\0".join((self.title.encode(), self.content.encode()))).digest()


def from_message(message: DocumentMessage) -> NewDocument:
    """A document of the protocol."""
    return NewDocument(message.id, message.title, message.content, from_struct(message.meta))


def from_struct(struct: Struct) -> dict[str, Any]:
    """A protobuf Struct as JSON; whole numbers come back as integers."""
    return {key: _from_value(value) for key, value in struct.fields.items()}


def _from_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [_from_value(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
    return None


def check(documents: Sequence[NewDocument], delete_ids: Sequence[str]) -> None:
    """Raises InvalidInput with every mistake by its field, or TooLarge for a request of too many documents."""
    if len(documents) > REQUEST_DOCUMENTS or len(delete_ids) > REQUEST_DOCUMENTS:
        raise TooLarge(
            f"{len(documents)} documents and {len(delete_ids)} delete_ids in one request;"
            f" the limit of each is {REQUEST_DOCUMENTS:,}",
            remedy="send them in several requests",
        )
    violations = [*_check_all(documents), *_check_ids([d.id for d in documents], delete_ids)]
    if violations:
        shown = "; ".join(f"{field}: {message}" for field, message in violations[:3])
        more = f"; and {len(violations) - 3} more" if len(violations) > 3 else ""
        raise InvalidInput(
            f"nothing was written: {shown}{more}",
            remedy="correct the fields named and send the request again",
            violations=violations,
        )
    size = sum(len(d.content.encode()) + len(d.title.encode()) + len(d.meta_json.encode()) for d in documents)
    if size > REQUEST_BYTES:
        raise TooLarge(
            f"the documents of one request are {size:,} bytes; the limit is {REQUEST_BYTES:,}",
            remedy="send fewer documents at once",
        )


def text_mistake(text: str) -> str | None:
    """Why the Lake cannot keep a text, if so."""
    if "\0" in text:
        return "has a NUL character (U+0000), which PostgreSQL cannot keep: remove it"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"has half of a surrogate pair at character {error.start}: it is not valid Unicode"
    return None


def _check_all(documents: Sequence[NewDocument]) -> Iterator[Violation]:
    for index, document in enumerate(documents):
        field = f"documents[{index}]"
        for name, message in _check_one(document):
            yield f"{field}.{name}", message


def _check_one(document: NewDocument) -> Iterator[Violation]:
    for name in ("id", "title", "content"):
        if (mistake := text_mistake(getattr(document, name))) is not None:
            yield name, mistake
    if (mistake := _id_mistake(document.id)) is not None:
        yield "id", mistake
    if not (document.title.strip() or document.content.strip()):
        yield "content", "is empty, and so is the title: give it one of them, there is nothing to find it by"
    if len(document.title) > TITLE_CHARACTERS:
        yield "title", f"has {len(document.title):,} characters; the limit is {TITLE_CHARACTERS:,}"
    if (size := len(document.content.encode(errors="replace"))) > CONTENT_BYTES:
        yield "content", f"is {size:,} bytes; the limit is {CONTENT_BYTES:,}: split the document"
    if (mistake := _meta_mistake(document)) is not None:
        yield "meta", mistake


def _id_mistake(identity: str) -> str | None:
    if not identity.strip():
        return "is empty; every document needs an id"
    if len(identity) > ID_CHARACTERS:
        return f"has {len(identity):,} characters; the limit is {ID_CHARACTERS}"
    return None


def _meta_mistake(document: NewDocument) -> str | None:
    if (mistake := next(_strange(document.meta, "", META_DEPTH), None)) is not None:
        return mistake
    try:
        size = len(document.meta_json.encode())
    except (TypeError, ValueError) as error:
        return f"cannot be written as JSON: {error}"
    return f"is {size:,} bytes of JSON; the limit is {META_BYTES:,}" if size > META_BYTES else None


def _strange(value: Any, path: str, depth: int) -> Iterator[str]:
    if depth == 0:
        yield f"is nested deeper than {META_DEPTH} levels"
    elif isinstance(value, str):
        if (mistake := text_mistake(value)) is not None:
            yield f"{path or 'a key'} {mistake}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path} is {value}, which is not a JSON number"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strange(str(key), "", depth)
            yield from _strange(item, f"{path}.{key}" if path else str(key), depth - 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _strange(item, f"{path}[{index}]", depth - 1)


def _check_ids(ids: Sequence[str], delete_ids: Sequence[str]) -> Iterator[Violation]:
    first: dict[str, int] = {}
    for index, identity in enumerate(ids):
        if identity in first:
            yield f"documents[{index}].id", f"{identity!r} is also the id of documents[{first[identity]}]"
        first.setdefault(identity, index)
    for index, identity in enumerate(delete_ids):
        if (mistake := _id_mistake(identity) or text_mistake(identity)) is not None:
            yield f"delete_ids[{index}]", mistake
        elif identity in first:
            yield f"delete_ids[{index}]", f"{identity!r} is also written by documents[{first[identity]}]"
