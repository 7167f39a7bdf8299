"""What the engine remembers of objects, so that a list can tell what went while nobody watched."""

from __future__ import annotations

from cortex_operator.cluster import Event, EventType, Object, ObjectKey
from cortex_operator.engine.known import Known
from objects import a_config_map


def told(*objects: Object) -> Known:
    known = Known()
    for obj in objects:
        known.note(Event(EventType.ADDED, obj))
    return known


def gone(known: Known, *listed: Object) -> list[str]:
    events = list(known.gone(known.now(), listed))
    assert {event.type for event in events} <= {EventType.DELETED}
    return [event.object["metadata"]["name"] for event in events]


def test_what_a_list_lacks_is_gone_and_what_it_has_is_not() -> None:
    assert gone(told(a_config_map("a"), a_config_map("b")), a_config_map("b"), a_config_map("new")) == ["a"]


def test_what_was_told_to_be_deleted_is_not_told_again() -> None:
    known = told(a_config_map("a"))
    known.note(Event(EventType.DELETED, a_config_map("a")))
    assert gone(known) == []
    assert known.now() == {}


def test_what_came_or_changed_while_the_list_was_read_is_not_gone() -> None:
    known = told(a_config_map("changed"), a_config_map("deleted"), a_config_map("gone"))
    before = known.now()
    known.note(Event(EventType.MODIFIED, a_config_map("changed")))
    known.note(Event(EventType.DELETED, a_config_map("deleted")))
    known.note(Event(EventType.ADDED, a_config_map("came")))
    assert [event.object["metadata"]["name"] for event in known.gone(before, ())] == ["gone"]


def test_objects_of_the_same_name_in_two_namespaces_are_two() -> None:
    known = told(a_config_map("a", "one"), a_config_map("a", "two"))
    (event,) = known.gone(known.now(), [a_config_map("a", "one")])
    assert ObjectKey.of(event.object).namespace == "two"


def test_only_what_names_an_object_and_its_owners_is_kept() -> None:
    obj = a_config_map("a", large="x" * 1000)
    obj["metadata"] |= {"uid": "u", "labels": {"l": "v"}, "ownerReferences": [{"uid": "o"}], "annotations": {"n": "v"}}
    (event,) = (known := told(obj)).gone(known.now(), ())
    kept = {name: obj["metadata"][name] for name in ("name", "namespace", "uid", "labels", "ownerReferences")}
    assert event.object == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": kept}
