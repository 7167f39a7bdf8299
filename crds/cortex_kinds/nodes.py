"""The closed catalogue of node types. A node is a union discriminated by `type`, with exactly one member."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from cortex_kinds.base import Duration, Expression, Model, Name, NodeName, StateKey, Whole
from cortex_kinds.cel import Rule
from cortex_kinds.index import RetrievalMode

NodeTarget = Annotated[str, Field(min_length=1, max_length=63)]
"""A node's name, or END."""


class NodeType(StrEnum):
    """What a node does."""

    SEARCH = "Search"
    ROUTE = "Route"
    TRANSFORM = "Transform"
    EXTRACT = "Extract"


class Search(Model):
    """Searches an index; writes `[{id, title, content, score, meta, index}]` to the state."""

    index: Name
    """One of `spec.indexes`."""
    query: Expression
    """CEL: the question, a string."""
    top_k: Annotated[int, Field(ge=1, le=100), Whole] | None = None
    """How many documents; unset: as the index says."""
    mode: RetrievalMode | None = None
    """How to search; unset: as the index says."""
    into: StateKey = "documents"
    """The state's key that the documents are written to."""


class RouteCase(Model):
    """One branch."""

    when: Expression
    """CEL: a boolean."""
    to: NodeTarget
    """The node to go on with, or END."""


class Route(Model):
    """Chooses where to go on; writes nothing. The first case that holds wins."""

    cases: Annotated[list[RouteCase], Field(min_length=1, max_length=16)]
    """Tried in order."""
    default: NodeTarget
    """Where to go when no case holds."""


class Transform(Model):
    """Computes values; writes each to the state."""

    set: Annotated[dict[StateKey, Expression], Field(min_length=1, max_length=32)]
    """State key -> CEL over the state as it was before the node."""


class Extract(Model):
    """Picks the passage that answers a question best, scored by the local embedder.

    Writes the passage (a string) to `into` and `[{id, title, passage, score, meta, index}]`, best first, to `sources`.
    """

    question: Expression
    """CEL: the question, a string."""
    documents: Expression
    """CEL: a list of documents, as Search writes them."""
    sources: Annotated[int, Field(ge=1, le=16), Whole] = 3
    """How many sources to write."""
    into: StateKey = "answer"
    """The state's key that the answer is written to."""


class Retry(Model):
    """Tries a node again when what it depends on is unavailable."""

    attempts: Annotated[int, Field(ge=1, le=10), Whole] = 3
    """Tries in all."""


class Cache(Model):
    """Keeps what a node wrote, and writes it again when the node reads the same; what has changed meanwhile is missed
    for so long."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("duration(self.ttl) <= duration('24h')", "ttl is at most 24h", ".ttl"),
        Rule(
            "!has(self.staleWhileRevalidate) || duration(self.staleWhileRevalidate) <= duration('24h')",
            "staleWhileRevalidate is at most 24h",
            ".staleWhileRevalidate",
        ),
    )

    ttl: Duration
    """How long a result is kept, at most; at most 24h."""
    stale_while_revalidate: Duration | None = None
    """How long after that it is still written, while one run finds the new one for the others; at most 24h. Unset: not
    at all."""


class Node(Model):
    """One node of a graph."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!(self.name in ['START', 'END'])", "START and END are taken: give the node another name", ".name"),
        *(
            Rule(
                f"has(self.{member}) == (self.type == '{member.capitalize()}')",
                f"`{member}` is given exactly when `type` is {member.capitalize()}",
                f".{member}",
            )
            for member in ("search", "route", "transform", "extract")
        ),
        Rule(
            "!has(self.cache) || self.type in ['Search', 'Extract']",
            "`cache` is for Search and Extract: a Route or a Transform costs less than to look it up",
            ".cache",
        ),
    )

    name: NodeName
    """Unique in the graph; START and END are taken."""
    type: NodeType
    """Which member is set."""
    search: Search | None = None
    """For type Search."""
    route: Route | None = None
    """For type Route."""
    transform: Transform | None = None
    """For type Transform."""
    extract: Extract | None = None
    """For type Extract."""
    timeout: Duration | None = None
    """Of one try; unset: the run's."""
    retry: Retry = Retry(attempts=1)
    """Tries again when what the node depends on is unavailable."""
    cache: Cache | None = None
    """For types Search and Extract: keeps what the node wrote, by what it reads. Unset: nothing is kept here."""
