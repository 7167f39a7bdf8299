"""CortexIndex (`cxi`): a search service and its index in the Lake."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from cortex_kinds.access import Access
from cortex_kinds.base import Bounded, Model, Name, Whole
from cortex_kinds.cache import IndexCache, check_fit
from cortex_kinds.cel import Rule
from cortex_kinds.common import CommonSpec, CommonStatus, ObjectMeta
from cortex_kinds.embedding import PACKAGED_MODEL, Embedding
from cortex_kinds.resilience import IndexResilience
from cortex_kinds.storage import Storage

MOST_USERS: Final = 64


class SplitBy(StrEnum):
    """The unit that documents are split into."""

    SENTENCE = "Sentence"
    WORD = "Word"


class Chunking(Model):
    """How documents are split before they are embedded. Part of the revision."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.splitOverlap < self.splitLength", "splitOverlap must be below splitLength", ".splitOverlap"),
    )

    split_by: SplitBy = SplitBy.SENTENCE
    """The unit of the two lengths below."""
    split_length: Annotated[int, Field(ge=1, le=2000), Whole] = 8
    """Units in a chunk. A chunk is also never longer than the embedder reads."""
    split_overlap: Annotated[int, Field(ge=0, le=1000), Whole] = 2
    """Units that two neighbouring chunks share; below splitLength."""


class RetrievalMode(StrEnum):
    """How a search finds documents when the request does not say."""

    HYBRID = "Hybrid"
    VECTOR = "Vector"
    TEXT = "Text"


class Language(StrEnum):
    """Stemming and stop words of the text search (PostgreSQL text search configurations). Part of the revision."""

    SIMPLE = "Simple"
    DANISH = "Danish"
    DUTCH = "Dutch"
    ENGLISH = "English"
    FINNISH = "Finnish"
    FRENCH = "French"
    GERMAN = "German"
    ITALIAN = "Italian"
    NORWEGIAN = "Norwegian"
    PORTUGUESE = "Portuguese"
    SPANISH = "Spanish"
    SWEDISH = "Swedish"


class Retrieval(Model):
    """How the index answers."""

    mode: RetrievalMode = RetrievalMode.HYBRID
    """Used when a request names no mode."""
    top_k: Annotated[int, Field(ge=1, le=1000), Whole] = 10
    """Used when a request names no number of hits."""
    language: Language = Language.ENGLISH
    """Of the documents. Part of the revision."""


class IndexRevisions(Model):
    """What happens to revisions."""

    retain: Annotated[int, Field(ge=0, le=8), Whole] = 2
    """Revisions kept ready beside the current one."""


class CortexIndexSpec(CommonSpec):
    """A search service and how its index is built."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *CommonSpec.rules,
        Rule(
            "!has(self.embedding) || !has(self.embedding.local) || !has(self.embedding.local.model)"
            f" || self.embedding.local.model == '{PACKAGED_MODEL}' || (has(self.storage) && has(self.storage.models))",
            f"another model than {PACKAGED_MODEL} is read from a volume: name it in spec.storage.models",
            ".embedding.local.model",
        ),
    )

    chunking: Chunking = Chunking()
    """How documents are split before they are embedded."""
    embedding: Embedding = Embedding()
    """What turns text into vectors."""
    retrieval: Retrieval = Retrieval()
    """How the index answers."""
    revisions: IndexRevisions = IndexRevisions()
    """What happens to revisions."""
    storage: Storage | None = None
    """Volumes that the pods mount; unset: none."""
    access: Access = Access()
    """Who may use the index."""
    resilience: IndexResilience | None = None
    """What its pods do when they are asked too much; unset: as `{}`. A change reaches pods that run, without a
    restart."""
    cache: IndexCache | None = None
    """What its pods keep so that they need not compute it again; unset: as `{}`. It counts against
    `resources.limits.memory`. A change replaces the pods and builds no revision."""

    @model_validator(mode="after")
    def _caches_leave_memory(self) -> Self:
        if self.cache is not None:
            check_fit(self.resources, queries=self.cache.queries.memory, answers=self.cache.answers.memory)
        return self


class IndexUser(Model):
    """A workflow that uses the index."""

    namespace: Name
    """Its namespace."""
    name: Name
    """Its name."""


class CortexIndexStatus(CommonStatus):
    """What the operator saw last."""

    documents: Annotated[int, Field(ge=0), Whole] = 0
    """Documents in the index."""
    used_by: Annotated[list[IndexUser], Field(max_length=MOST_USERS)] = Field(default_factory=list)
    """The CortexWorkflows that name the index and may use it, by namespace and name; the first of them, if there are
    more than this list holds."""


class CortexIndex(Model):
    """A CortexIndex."""

    model_config = ConfigDict(extra="ignore")

    api_version: Literal["cortex.datapunk.io/v1alpha1"] = "cortex.datapunk.io/v1alpha1"
    kind: Literal["CortexIndex"] = "CortexIndex"
    metadata: ObjectMeta
    spec: Annotated[CortexIndexSpec, Bounded] = CortexIndexSpec()
    status: CortexIndexStatus = CortexIndexStatus()
