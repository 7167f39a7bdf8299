"""Whose turn it is to move to the operator's release, from what lives."""

from __future__ import annotations

import random
from typing import Any

import pytest
from cortex_kinds.base import API_VERSION
from cortex_operator.cluster import Event, EventType, Object
from cortex_operator.dataplane import ResourceKey
from cortex_operator.manifests.origin import MOVE, RELEASE
from cortex_operator.reconcile.fleet import Fleet, WorkloadUpdates

NEW, OLD = "2.0.0-b", "1.0.0-a"


def a_resource(name: str, version: int = 1, **status: Any) -> Object:
    going = {"deletionTimestamp": "2026-06-01T12:00:00Z"} if status.pop("going", False) else {}
    true = [type for type in ("Stalled", "Ready") if status.pop(type.lower(), False)]
    conditions = [{"type": type, "status": "True"} for type in true]
    meta = {"name": name, "namespace": "team", "uid": f"r-{name}", "resourceVersion": str(version), **going}
    return {"apiVersion": API_VERSION, "kind": "CortexIndex", "metadata": meta, "status": {"conditions": conditions}}


def a_deployment(name: str, release: str = OLD, move: str = "", replicas: int = 1, version: int = 1) -> Object:
    notes = {RELEASE: release} | ({MOVE: move} if move else {})
    labels = {"cortex.datapunk.io/index": name}
    meta = {"name": f"{name}-search", "namespace": "team", "labels": labels, "annotations": notes}
    meta |= {"uid": f"d-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}


def tell(fleet: Fleet, *objects: Object, type: EventType = EventType.MODIFIED) -> list[str]:
    """Whose turn it is by that."""
    return [key.name for obj in objects for key in fleet.hear(Event(type, obj))]


def granted(fleet: Fleet) -> list[str]:
    return [name for name in "abcdef" if fleet.standing(ResourceKey("CortexIndex", "team", name)).granted]


# Name -> what its Deployment and its resource are like; whose turn it is, how many are behind, who halts.
TURNS: list[tuple[str, dict[str, tuple[dict[str, Any], dict[str, Any]]], list[str], int, str]] = [
    ("all are there", {"a": ({"release": NEW}, {}), "b": ({"release": NEW}, {})}, [], 0, ""),
    ("the first by name", {"c": ({}, {}), "b": ({}, {}), "a": ({"release": NEW}, {})}, ["b"], 2, ""),
    ("one moves: nobody else", {"a": ({}, {}), "b": ({"release": NEW, "move": "Moving"}, {})}, [], 1, ""),
    ("one failed: nobody else", {"a": ({}, {}), "b": ({"release": NEW, "move": "Halted"}, {})}, [], 1, "b"),
    ("one that moves is stalled: nobody else, and it is named",
     {"a": ({}, {}), "b": ({"release": NEW, "move": "Moving"}, {"stalled": True})}, [], 1, "b"),
    ("one that moves is Ready: what stalls it holds nobody up",
     {"a": ({}, {}), "b": ({"release": NEW, "move": "Moving"}, {"stalled": True, "ready": True})}, [], 1, ""),
    ("a move of a release before holds nobody", {"a": ({"release": "1.5", "move": "Halted"}, {})}, ["a"], 1, ""),
    ("what fails later holds nobody", {"a": ({"release": NEW}, {"stalled": True}), "b": ({}, {})}, ["b"], 1, ""),
    ("who stalls lets the others go first", {"a": ({}, {"stalled": True}), "b": ({}, {})}, ["b"], 2, ""),
    ("those come last, all at once", {"a": ({}, {"stalled": True}), "b": ({}, {"stalled": True})}, ["a", "b"], 2, ""),
    ("also they wait for one that moves", {"a": ({}, {"stalled": True}), "b": ({"release": NEW, "move": "Moving"}, {})},
     [], 1, ""),
    ("without pods there is nothing to wait for", {"a": ({"replicas": 0}, {}), "b": ({}, {})}, ["b"], 1, ""),
    ("what is being deleted is passed over", {"a": ({}, {"going": True}), "b": ({}, {})}, ["b"], 1, ""),
    ("also while it moves", {"a": ({"release": NEW, "move": "Moving"}, {"going": True}), "b": ({}, {})}, ["b"], 1, ""),
    ("a Deployment that nobody signed is not held", {"a": ({"release": ""}, {}), "b": ({}, {})}, ["b"], 1, ""),
]  # fmt: skip


@pytest.mark.parametrize(("members", "turns", "behind", "halted"), [c[1:] for c in TURNS], ids=[c[0] for c in TURNS])
@pytest.mark.parametrize("seed", range(3))
def test_the_turn_follows_from_what_lives_in_whatever_order_it_is_heard(
    members: dict[str, tuple[dict[str, Any], dict[str, Any]]], turns: list[str], behind: int, halted: str, seed: int
) -> None:
    fleet = Fleet(NEW)
    objects = [a_deployment(name, **made) for name, (made, _) in members.items()]
    objects += [a_resource(name, **resource) for name, (_, resource) in members.items()]
    random.Random(seed).shuffle(objects)
    tell(fleet, *objects)
    assert granted(fleet) == turns
    assert fleet.behind == behind
    assert fleet.halted_by == (f"CortexIndex team/{halted}" if halted else "")


def three() -> Fleet:
    fleet = Fleet(NEW)
    tell(fleet, *map(a_resource, "abc"), *map(a_deployment, "abc"))
    return fleet


def test_the_next_one_is_woken_when_the_one_before_has_arrived_and_not_sooner() -> None:
    fleet = three()
    assert tell(fleet, a_deployment("a", NEW, "Moving", version=2)) == []
    assert tell(fleet, a_deployment("a", NEW, "Moving", version=3)) == []
    assert tell(fleet, a_deployment("a", NEW, version=4)) == ["b"]
    assert tell(fleet, a_deployment("b", NEW, version=2)) == ["c"]
    assert tell(fleet, a_deployment("c", NEW, version=2)) == []


@pytest.mark.parametrize("gone", [a_resource("a", 9), a_deployment("a", NEW, version=9)], ids=["resource", "children"])
def test_the_next_one_is_woken_when_the_one_that_moves_is_deleted(gone: Object) -> None:
    fleet = three()
    tell(fleet, a_deployment("a", NEW, "Halted", version=2))
    assert tell(fleet, gone, type=EventType.DELETED) == ["b"]


def test_who_halts_is_told_once_and_the_others_move_when_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    fleet = three()
    tell(fleet, a_deployment("a", NEW, "Moving", version=2))
    assert tell(fleet, a_resource("a", 3, stalled=True), a_resource("a", 4, stalled=True)) == []
    assert tell(fleet, a_deployment("a", NEW, "Halted", version=5)) == []
    assert [r.getMessage().split(":")[0] for r in caplog.records if r.levelname == "WARNING"] == [
        f"CortexIndex team/a did not become Ready with release {NEW}"
    ]
    tell(fleet, a_resource("a", 6), a_deployment("a", NEW, "Moving", version=7))
    assert fleet.halted_by == ""
    assert tell(fleet, a_deployment("a", NEW, version=8)) == ["b"]


def test_who_moves_and_is_paused_halts_the_upgrade_until_it_is_resumed() -> None:
    fleet = three()
    moved = a_deployment("a", NEW, "Moving", version=2)
    held = {"spec": {"replicas": 1, "paused": True}, "status": {"replicas": 1, "updatedReplicas": 0}}
    tell(fleet, {**moved, **held})
    standing = fleet.standing(ResourceKey("CortexIndex", "team", "b"))
    assert (standing.granted, standing.halted_by) == (False, "CortexIndex team/a")
    assert standing.paused.startswith("Deployment a-search is paused (spec.paused): kubectl -n team rollout resume")
    tell(fleet, a_deployment("a", NEW, "Moving", version=3))
    assert fleet.halted_by == ""
    assert tell(fleet, a_deployment("a", NEW, version=4)) == ["b"]


def test_an_older_state_and_a_deletion_of_another_object_change_nothing() -> None:
    fleet = three()
    tell(fleet, a_deployment("a", NEW, "Moving", version=10))
    tell(fleet, a_deployment("a", OLD, version=9))
    assert granted(fleet) == []
    other = a_deployment("a", version=11)
    other["metadata"]["uid"] = "before"
    assert tell(fleet, other, type=EventType.DELETED) == []
    assert granted(fleet) == []


def test_a_copy_of_a_deployment_under_another_name_is_nobody() -> None:
    fleet = three()
    copy = a_deployment("a", NEW, "Moving", version=5)
    copy["metadata"]["name"] = "copy"
    tell(fleet, copy)
    assert granted(fleet) == ["a"]


def test_by_hand_nobody_has_a_turn_and_each_goes_when_it_is_told_this_release() -> None:
    fleet = Fleet(NEW, WorkloadUpdates.MANUAL)
    assert tell(fleet, *map(a_resource, "ab"), *map(a_deployment, "ab")) == []
    assert granted(fleet) == []
    key = ResourceKey("CortexIndex", "team", "b")
    assert fleet.standing(key, NEW).granted
    assert not fleet.standing(key, OLD).granted
    assert fleet.behind == 2


def test_who_is_told_goes_before_its_turn() -> None:
    assert three().standing(ResourceKey("CortexIndex", "team", "c"), NEW).granted
