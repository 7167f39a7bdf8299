"""Cases 9 to 14 and 19: what people and other controllers write, to resources and to their objects.

Every field is walked and drifts against the in-memory store (tests/integration/operator); here is a seeded sample,
in `make soak` all of them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from cortex_kube.client import ApiError
from cortex_kube.resources import path
from cortex_operator.cluster import Object, ObjectKey
from drift import drifts, is_ours
from fault_proxy import Asked
from stage import KINDS, LONG, SETTLED, Oracle, Stage, Subject, eventually, rest, seeded
from walk import WALKS, steps

SAMPLE = None if LONG else 6
LEFT_OUT = frozenset({"priorityClassName", "runtimeClassName", "minReplicas"})
"""The first two are of objects without a namespace, which no test may share. What an autoscaler raises to a minimum it
never lowers again where nobody measures pods: with the field gone the resource is not as a fresh one."""
WRONG: dict[str, dict[str, Any]] = {
    "CortexIndex": {"gpu": {"pool": "nobody-has-it"}},
    "CortexWorkflow": {"edges": [{"from": "START", "to": "nowhere"}]},
}


def walked(subject: Subject) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A seeded choice of fields: the spec without each, and with it."""
    manifest = {"kind": subject.key.kind, "apiVersion": subject.key.api_version, "metadata": {"name": "a"}}
    found = [
        (step.without, step.given)
        for step in steps({**manifest, "spec": {**subject.base, "replicas": None}})
        if not LEFT_OUT & set(step.path)
    ]
    return found if SAMPLE is None else seeded().sample(found, SAMPLE)


async def give(subject: Subject, spec: dict[str, Any]) -> None:
    """Applies the spec, without pods where it does not say how many."""
    given = {name: value for name, value in spec.items() if value is not None}
    await subject.apply(**{"replicas": None if "autoscaling" in given else 0, **given})


@pytest.mark.parametrize("kind", KINDS)
async def test_case_09_a_walk_over_fields(kind: str, stage: Stage, judge: Oracle) -> None:
    """Each comes and goes again, and leaves what a fresh one has."""
    pairs = walked(judge.subject(stage, kind))
    subjects = [judge.subject(stage, kind) for _ in pairs]
    for turn in (0, 1, 0):
        for subject, pair in zip(subjects, pairs, strict=True):
            await give(subject, pair[turn])
        for subject in subjects:  # what all are compared with is made at once, not each when it is its turn
            await judge.fresh(kind, subject.spec)
        for subject in subjects:
            await subject.settles(SETTLED + 2.0 * len(subjects))
    await rest(*subjects)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_10_a_b_c_equals_c(kind: str, stage: Stage, judge: Oracle) -> None:
    """The operator sees some of the states between, and whichever they are, the last one counts."""
    subject = judge.subject(stage, kind)
    for spec in ({}, *(given for _, given in walked(subject))):
        await give(subject, spec)
    await subject.apply(retrieval={"topK": 4}) if kind == "CortexIndex" else await subject.apply(limits={"steps": 4})
    await rest(subject)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_11_bad_then_revert(kind: str, stage: Stage, judge: Oracle) -> None:
    """What the API server takes and the operator cannot do: Stalled says so, what is there stays, a revert mends it."""
    subject = judge.subject(stage, kind)
    await subject.apply()
    await subject.settles()
    before = {ObjectKey.of(obj): obj["metadata"]["uid"] for obj in await judge.managed(subject.key)}
    await subject.apply(**WRONG[kind])
    await until_condition(subject, "Stalled", "True")
    assert {ObjectKey.of(obj): obj["metadata"]["uid"] for obj in await judge.managed(subject.key)} == before
    await subject.apply()
    await rest(subject)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_12_drift_of_fields(kind: str, stage: Stage, judge: Oracle) -> None:
    """Somebody changes or takes away fields of the resource's objects, one at a time."""
    rng, subject = seeded(), judge.subject(stage, kind)
    part = next(part for part in WALKS[kind] if "affinity" in part.get("placement", ()))
    await subject.apply(**part, env=[{"name": "PLAIN", "value": "one"}])
    await subject.settles()
    done = 0
    for child in await judge.managed(subject.key):
        found = [drift for drift in drifts(child) if is_ours(child, drift)]
        for drift in found if SAMPLE is None else rng.sample(found, min(3, len(found))):
            if await put(judge, drift.of(await judge.cluster.get(ObjectKey.of(child)))):
                done += 1
                await subject.settles()
    assert done >= 6
    await rest(subject)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_12_drift_of_objects(kind: str, stage: Stage, judge: Oracle) -> None:
    """Somebody deletes all of the resource's objects."""
    subject = judge.subject(stage, kind)
    await subject.apply(replicas=2)
    await subject.settles()
    uids = {obj["metadata"]["uid"] for obj in await judge.managed(subject.key)}
    for obj in await judge.managed(subject.key):
        await judge.cluster.delete(ObjectKey.of(obj))
    await rest(subject)
    assert uids.isdisjoint({obj["metadata"]["uid"] for obj in await judge.managed(subject.key)})


@pytest.mark.parametrize("kind", KINDS)
async def test_case_13_the_autoscaler_owns_the_number_of_pods(kind: str, stage: Stage, judge: Oracle) -> None:
    """The number that an autoscaler wrote stays, whatever else changes."""
    subject = judge.subject(stage, kind)
    await subject.apply(replicas=None, autoscaling={"minReplicas": 2, "maxReplicas": 4})
    await subject.settles()
    await scale(judge, subject, 3)
    await subject.apply(
        replicas=None, autoscaling={"minReplicas": 2, "maxReplicas": 5}, template={"labels": {"a": "b"}}
    )
    await subject.settles()
    await rest(subject)
    assert (await judge.cluster.get(subject.child()))["spec"]["replicas"] == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_case_14_conflicts(kind: str, stage: Stage, judge: Oracle) -> None:
    """The API server refuses the first writes (409), and somebody else claims the same fields by force."""
    subject, seen = judge.subject(stage, kind), set[str]()

    def fault(asked: Asked) -> int:
        if not (subject.concerns(asked) and asked.writes) or asked.path in seen:
            return 0
        seen.add(asked.path)
        return 409

    stage.proxy.fault = fault
    await subject.apply()
    await subject.settles()
    assert len(seen) >= 5
    meta = {"name": subject.child().name, "namespace": subject.key.namespace}
    for replicas in range(1, 6):
        claimed = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}
        await judge.cluster.apply(claimed, field_manager="somebody")
    await rest(subject)


async def test_case_19_a_poisoned_resource_keeps_nobody_waiting(stage: Stage, judge: Oracle) -> None:
    """Writes to some fail for ever (500), others are changed meanwhile: of these nine in ten begin within 3 s."""
    poisoned = [judge.subject(stage, kind) for kind in KINDS for _ in range(2)]
    others = [judge.subject(stage, kind) for kind in KINDS for _ in range(8)]
    await asyncio.gather(*(subject.apply() for subject in (*poisoned, *others)))
    await asyncio.gather(*(subject.settles() for subject in (*poisoned, *others)))
    stage.proxy.fault = lambda asked: 500 if asked.writes and any(each.concerns(asked) for each in poisoned) else 0
    for subject in poisoned:
        await subject.apply(template={"labels": {"poisoned": "yes"}})
    await eventually(lambda: all(subject.writes()[-1].at > time.monotonic() - 10 for subject in poisoned))
    took = []
    for turn in range(6):
        for subject in others:
            since, began = len(stage.proxy.asked), time.monotonic()
            await subject.apply(template={"labels": {"turn": f"t{turn}"}})
            await eventually(lambda s=subject, n=since: s.writes(n))  # type: ignore[misc]
            took.append(subject.writes(since)[0].at - began)
    print(
        f"first write after a change beside poisoned ones: p50 {sorted(took)[48] * 1e3:.0f} ms, max {max(took):.2f} s"
    )
    assert sorted(took)[len(took) * 9 // 10] < 3.0  # a busy machine keeps some waiting
    stage.heal()
    await rest(*poisoned, *others)


async def until_condition(subject: Subject, type: str, status: str) -> None:
    """Returns when it has that status."""
    async with asyncio.timeout(SETTLED):
        while not (await subject.condition(type)).startswith(status):  # noqa: ASYNC110 - another process says so
            await asyncio.sleep(0.05)


async def put(judge: Oracle, obj: Object) -> bool:
    """Whether the API server took an object from somebody."""
    key = ObjectKey.of(obj)
    where = path(key.api_version, key.kind, key.namespace, key.name)
    try:
        await judge.api.request("PUT", where, body=obj, query={"fieldManager": "somebody"})
    except ApiError:
        return False
    return True


async def scale(judge: Oracle, subject: Subject, replicas: int) -> None:
    """What a HorizontalPodAutoscaler does."""
    key = subject.child()
    where = path(key.api_version, key.kind, key.namespace, key.name, "scale")
    found = await judge.api.request("GET", where)
    del found["metadata"]["resourceVersion"]  # whatever controllers wrote meanwhile
    await judge.api.request("PUT", where, body={**found, "spec": {"replicas": replicas}})
