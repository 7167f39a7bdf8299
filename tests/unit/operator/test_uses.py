"""Who is woken when workflows and indexes change."""

from __future__ import annotations

from typing import Any

from cortex_operator.cluster import Event, EventType, Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.reconcile import Uses

ADDED, MODIFIED, DELETED = EventType.ADDED, EventType.MODIFIED, EventType.DELETED


def a_workflow(*indexes: str, name: str = "helpdesk", **metadata: Any) -> Object:
    """`indexes`: names, or NAMESPACE/NAME."""
    uses = [
        {"name": index.rpartition("/")[2], **({"namespace": index.split("/")[0]} if "/" in index else {})}
        for index in indexes
    ]
    meta = {"namespace": "team-a", "name": name, **metadata}
    return {"kind": "CortexWorkflow", "metadata": meta, "spec": {"indexes": uses}}


def an_index(access: dict[str, Any] | None = None, namespace: str = "library", **metadata: Any) -> Object:
    spec = {"access": access} if access else {}
    return {"kind": "CortexIndex", "metadata": {"namespace": namespace, "name": "papers", **metadata}, "spec": spec}


def index(namespace: str, name: str) -> ResourceKey:
    return ResourceKey("CortexIndex", namespace, name)


def workflow(name: str = "helpdesk") -> ResourceKey:
    return ResourceKey("CortexWorkflow", "team-a", name)


PAPERS = index("library", "papers")


def test_the_indexes_hear_when_their_users_come_change_and_go() -> None:
    uses = Uses()

    def told(type: EventType, obj: Object) -> list[ResourceKey]:
        return list(uses.of_workflow(Event(type, obj)))

    assert told(ADDED, a_workflow("a", "library/papers")) == [workflow(), PAPERS, index("team-a", "a")]
    assert told(MODIFIED, a_workflow("a", "library/papers")) == [workflow()]
    assert told(MODIFIED, a_workflow("b", "library/papers")) == [workflow(), index("team-a", "a"), index("team-a", "b")]
    assert told(ADDED, a_workflow("library/papers", name="answers")) == [workflow("answers"), PAPERS]
    assert uses.users(PAPERS) == [workflow("answers"), workflow()]
    assert told(DELETED, a_workflow("b", "library/papers")) == [workflow(), PAPERS, index("team-a", "b")]
    assert uses.users(PAPERS) == [workflow("answers")]


def test_a_workflow_that_is_going_uses_nothing_any_more() -> None:
    uses = Uses()
    list(uses.of_workflow(Event(ADDED, a_workflow("library/papers"))))
    going = a_workflow("library/papers", deletionTimestamp="2026-01-01T00:00:00Z")
    assert list(uses.of_workflow(Event(MODIFIED, going))) == [workflow(), PAPERS]
    assert uses.users(PAPERS) == []


def test_what_is_gone_is_forgotten() -> None:
    uses = Uses()
    for number in range(3):
        list(uses.of_workflow(Event(ADDED, a_workflow(f"i-{number}", name=f"w-{number}"))))
        list(uses.of_workflow(Event(DELETED, a_workflow(f"i-{number}", name=f"w-{number}"))))
        list(uses.of_index(Event(ADDED, an_index())))
        list(uses.of_index(Event(DELETED, an_index())))
    assert (uses._used, uses._users, uses._signs) == ({}, {}, {})


def test_users_of_another_namespace_hear_of_the_index_they_name_and_not_of_one_of_the_same_name() -> None:
    uses = Uses()
    list(uses.of_workflow(Event(ADDED, a_workflow("library/papers"))))
    assert list(uses.of_index(Event(ADDED, an_index()))) == [PAPERS, workflow()]
    assert list(uses.of_index(Event(ADDED, an_index(namespace="team-a")))) == [index("team-a", "papers")]


def test_users_hear_when_access_changes_when_it_is_deleted_and_when_it_is_another_one() -> None:
    uses = Uses()
    list(uses.of_workflow(Event(ADDED, a_workflow("library/papers"))))
    everybody = {"allowedNamespaces": {"from": "All"}}
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    heard = [
        workflow() in uses.of_index(Event(type, obj))
        for type, obj in [
            (ADDED, an_index(uid="1")),
            (MODIFIED, an_index(uid="1")),
            (MODIFIED, an_index(everybody, uid="1")),
            (MODIFIED, an_index(everybody, uid="1")),
            (MODIFIED, an_index(everybody, uid="2")),
            (MODIFIED, an_index(everybody, uid="2", **going)),
            (DELETED, an_index(everybody, uid="2", **going)),
            (DELETED, an_index(everybody, uid="2", **going)),
        ]
    ]
    assert heard == [True, False, True, False, True, True, True, False]
