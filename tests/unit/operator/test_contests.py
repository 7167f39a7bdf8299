"""When the operator notices that somebody changes an object back again and again, and what it does then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cortex_operator.cluster import Object
from cortex_operator.reconcile.contests import Contests

START = datetime(2026, 6, 1, 12, tzinfo=UTC)


def a_deployment(**spec: Any) -> Object:
    meta = {"name": "papers-search", "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


WANTED, THEIRS = a_deployment(replicas=1), a_deployment(replicas=3)


def test_the_fifth_time_in_two_minutes_is_told_once_and_then_it_takes_its_time() -> None:
    contests = Contests()
    assert [contests.note(THEIRS, WANTED, at(n)) for n in range(4)] == [False] * 4
    assert contests.pause(THEIRS, WANTED, at(4)) == 0
    assert contests.note(THEIRS, WANTED, at(4))
    assert [contests.pause(THEIRS, WANTED, at(n)) for n in (4, 14, 34, 40)] == [30, 20, 0, 0]
    assert not contests.note(THEIRS, WANTED, at(34))
    assert contests.pause(THEIRS, WANTED, at(35)) == 29


def test_another_change_of_it_and_another_spec_do_not_wait() -> None:
    contests = Contests()
    for n in range(5):
        contests.note(THEIRS, WANTED, at(n))
    assert contests.pause(a_deployment(replicas=4), WANTED, at(5)) == 0
    assert contests.pause(THEIRS, a_deployment(replicas=2), at(5)) == 0


def test_the_number_that_the_cluster_gives_to_each_change_of_the_pods_makes_no_other_change_of_it() -> None:
    contests = Contests()
    numbered = [a_deployment(replicas=3) for _ in range(5)]
    for n, each in enumerate(numbered):
        each["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": str(n)}
    assert [contests.note(each, WANTED, at(n)) for n, each in enumerate(numbered)][-1]


def test_changes_that_differ_and_those_that_are_rare_are_no_contest() -> None:
    contests = Contests()
    assert not any(contests.note(a_deployment(replicas=n), WANTED, at(n)) for n in range(20))
    contests = Contests()
    assert not any(contests.note(THEIRS, WANTED, at(40 * n)) for n in range(20))
    assert contests.pause(THEIRS, WANTED, at(800)) == 0


def test_a_contest_that_is_over_is_told_again_when_it_comes_again() -> None:
    contests = Contests()
    assert [contests.note(THEIRS, WANTED, at(n)) for n in range(5)][-1]
    assert [contests.note(THEIRS, WANTED, at(300 + n)) for n in range(5)] == [False] * 4 + [True]
