"""What requests and replies look like: the request models are what is validated, the reply models document only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cortex_kinds.index import RetrievalMode
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from cortex_workloads.runtime.errors import Family
from cortex_workloads.runtime.fallbacks import Fallback

QUERY_CHARACTERS = 8192


class Body(BaseModel):
    """Base: camelCase, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True)


class Search(Body):
    """A search of an index."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "how do vaccines work?", "mode": "Hybrid", "topK": 5}]}
    )

    query: Annotated[str, Field(min_length=1, max_length=QUERY_CHARACTERS, description="The question.")]
    mode: Annotated[RetrievalMode | None, Field(strict=False, description="Default: as the index says.")] = None
    top_k: Annotated[int, Field(ge=1, le=1000, description="How many hits. Default: as the index says.")] | None = None
    filter: Annotated[
        dict[str, Any] | None,
        Field(description="A Haystack metadata filter: {field, operator, value} or {operator, conditions}."),
    ] = None
    exact: Annotated[bool, Field(description="Compare with every vector instead of the approximate index: slower.")] = (
        False
    )
    revision: Annotated[
        str, Field(pattern="^([0-9a-f]{10})?$", description="Ask this revision instead of the current one.")
    ] = ""
    fallbacks: Annotated[
        list[Annotated[Fallback, Field(strict=False)]],
        Field(max_length=8, description="What is accepted when the real answer cannot be had. Default: an error."),
    ] = []


class Document(Body):
    """A document to add or to replace."""

    id: Annotated[str, Field(min_length=1, max_length=512, description="Identifies the document in its index.")]
    title: Annotated[str, Field(max_length=2000, description="Searched and shown with the content.")] = ""
    content: Annotated[str, Field(description="Plain text; may be empty.")] = ""
    meta: Annotated[dict[str, Any], Field(description="Anything to filter by or to see again.")] = {}


class Documents(Body):
    """Documents to write, all or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"documents": [{"id": "1", "title": "Vaccines", "content": "They train the immune system."}]}]
        }
    )

    documents: Annotated[list[Document], Field(min_length=1, max_length=1000)]


class Run(Body):
    """A run of a workflow."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"input": {"question": "how do vaccines work?"}}]})

    input: Annotated[dict[str, Any], Field(description="What the workflow's `spec.input.schema` asks for.")] = {}
    thread_id: Annotated[str, Field(max_length=128, description="Continues a thread. Default: a new one.")] = ""
    run_id: Annotated[
        str, Field(max_length=64, description="A UUID; the same twice is the same run. Default: a new one.")
    ] = ""


class Rebuild(Body):
    """Nothing: `{}`. A body all the same, as no page of the web can send one unasked."""


class Reply(BaseModel):
    """Base of replies: camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Hit(Reply):
    """A found document."""

    id: str
    title: str
    passage: str = Field(description="The best matching passage.")
    score: float = Field(description="Higher is better; comparable within one reply only.")
    meta: dict[str, Any]
    passage_start: int = Field(description="First character of the passage in the content.")
    passage_end: int
    vector_rank: int | None = Field(None, description="Rank in the vector leg; absent when it did not find it.")
    text_rank: int | None = Field(None, description="Rank in the text leg; absent when it did not find it.")


class Coverage(Reply):
    """How much of the index the search could see."""

    documents: int
    embedded: int


class SearchResult(Reply):
    """What a search found."""

    hits: list[Hit]
    revision: str
    mode: RetrievalMode
    coverage: Coverage
    took_seconds: float
    fallback: Fallback | None = Field(
        None, description="Which of the accepted fallbacks this is; absent: it is the real answer."
    )
    age_seconds: float | None = Field(None, description="Of an answer that was kept; absent: it was made for this.")


class Written(Reply):
    """What became of an upload."""

    written: int
    unchanged: int
    deleted: int
    waiting: int = Field(description="Documents of the index that wait to be embedded.")


class Progress(Reply):
    """How far an index is with embedding."""

    revision: str = Field(description="The revision that is being built, if there is one; else the current one.")
    documents: int
    embedded: int = Field(description="Documents embedded in this revision.")
    waiting: int = Field(description="Documents that wait to be embedded in it.")
    rate: float = Field(description="Documents embedded per second.")
    phase: Literal["Idle", "Embedding"] = Field(description="`Embedding` as long as a revision is being built.")


class RunError(Reply):
    """Why a run failed."""

    code: str
    message: str
    node: str


class RunResult(Reply):
    """A run."""

    run_id: str
    thread_id: str
    revision: str
    status: Literal["Running", "Completed", "Failed"]
    steps: int
    output: dict[str, Any] | None = Field(None, description="The final state of a completed run.")
    error: RunError | None = Field(None, description="Of a failed run.")
    took_seconds: float | None = None


class Resource(Reply):
    """An index or a workflow as it was applied, with its status."""

    api_version: str
    kind: Literal["CortexIndex", "CortexWorkflow"]
    metadata: dict[str, Any]
    spec: dict[str, Any] | None = Field(None, description="Absent when nothing but defaults was asked for.")
    status: dict[str, Any] | None = Field(None, description="Absent until the operator has seen it.")


class Items(Reply):
    """Resources as they were applied, with their status."""

    items: list[Resource]


class AggregateState(Reply):
    """What an aggregate is."""

    aggregate: str
    version: int = Field(description="The number of its last event; of a replica, of its last change.")
    fields: dict[str, Any]


class StateReply(AggregateState):
    """The answer to a read."""

    source: Literal["Lake", "Copy"] = Field(description="Where it was read: in the Lake or in the shared state.")
    age_seconds: float = Field(
        description="By how much it may be behind what was acknowledged before; 0: nothing can be missing."
    )


class Change(Reply):
    """An event."""

    position: int = Field(description="Its place in the resource's feed, without a gap; 0: it has none yet.")
    mark: str | None = Field(
        None,
        description="Of the position, which may have another event after a restore: go on after POSITION-MARK."
        " Absent in a history.",
    )
    aggregate: str
    version: int = Field(description="Counts the events of the aggregate from 1.")
    type: str = Field(description="What happened: RunStarted, RevisionCurrent, ...")
    data: dict[str, Any] | None = Field(
        None, description="The fields that changed; absent when they are nested too deeply."
    )
    at: str
    by: str = Field(description="The connection that wrote it: of a pod, its name.")


class History(Reply):
    """Events of an aggregate, in order."""

    events: list[Change]
    more: bool = Field(description="Whether there are more: ask with `after` = the last `version`.")


class StateCopy(Reply):
    """The copy in the shared state."""

    epoch: str = Field(description="Another one once the copy was begun anew; empty: there is none yet.")
    position: int = Field(description="The last event that is in it.")
    lag_seconds: float | None = Field(
        None, description="All that was acknowledged so long ago is in it. Absent: nobody can say."
    )


class Difference(Reply):
    """Something that is not as it should be."""

    aggregate: str
    message: str


class StateReport(Reply):
    """Whether the state is what happened."""

    position: int = Field(description="The last position of the feed, in the Lake.")
    copy_: StateCopy | None = Field(
        None, alias="copy", description="Absent: the shared state does not answer, and `problem` says why."
    )
    problem: str | None = None
    rows: list[Difference] = Field(description="Rows that are not what their events make; the first 100.")
    copies: list[Difference] = Field(description="Copies that are not what the rows are; the first 100.")
    replicas: list[AggregateState] = Field(description="Replicas that are there, and what they do.")


class FieldError(Reply):
    """One mistake of a request: a JSON pointer (or the number of an NDJSON line) and what is wrong."""

    field: str | None = None
    line: int | None = None
    message: str | None = None
    reason: str | None = None


class Problem(Reply):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    reason: str = Field(description="Stable code.")
    family: Family = Field(description="Stable code of what to do about it.")
    retryable: bool = Field(description="Whether the same request may succeed later; Retry-After says when.")
    remedy: str | None = None
    errors: list[FieldError] | None = None
    trace_id: str


REQUESTS: tuple[type[BaseModel], ...] = (Search, Document, Documents, Run, Rebuild, Problem)
"""What the OpenAPI page needs besides the replies that its operations name."""
