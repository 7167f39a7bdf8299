"""Cases 1, 2, 15, 17 and 18: the operator ends at the worst moment, is not there, is there twice, or comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fault_proxy import Asked
from stage import KINDS, SETTLED, Oracle, Stage, Subject, eventually, rest, seeded

MOST_WRITES = 20
CHANGED: dict[str, Any] = {
    "CortexIndex": {"replicas": 2, "retrieval": {"topK": 3}},
    "CortexWorkflow": {"replicas": 2, "limits": {"steps": 7}, "execution": {"durability": "Exit"}},
}


class _Crash:
    """Kills the operator when it sends the write after the `after`th one to the subject."""

    def __init__(self, stage: Stage, subject: Subject, after: int) -> None:
        self._stage, self._subject, self._left = stage, subject, after
        stage.proxy.fault = self

    def __call__(self, asked: Asked) -> int:
        if not (self._subject.concerns(asked) and asked.writes):
            return 0
        self._left -= 1
        if self._left >= 0:
            return 0
        self._stage.operator.kill()
        return 503


async def crashed(stage: Stage, subject: Subject, after: int, **spec: Any) -> bool:
    """Whether it was killed by then; False: it had no more to write."""
    if not stage.lives:
        await stage.started()
    _Crash(stage, subject, after)
    await subject.apply(**spec)
    settling = asyncio.create_task(subject.settles())
    await eventually(lambda: settling.done() or not stage.operator.lives, SETTLED)
    if settling.done():
        settling.result()
    settling.cancel()
    stage.heal()
    if stage.lives:
        return False
    await stage.started()
    return True


@pytest.mark.parametrize("first", [1, 2], ids=("odd", "even"))
@pytest.mark.parametrize("kind", KINDS)
async def test_case_01_crash_after_write_k_of_a_create(kind: str, first: int, own_stage: Stage, judge: Oracle) -> None:
    """For every k."""
    subjects: list[Subject] = []
    for after in range(first, MOST_WRITES, 2):
        subjects.append(judge.subject(own_stage, kind))
        if not await crashed(own_stage, subjects[-1], after):
            break
    assert len(subjects) > 2
    await rest(*subjects)


@pytest.mark.parametrize("first", [1, 2], ids=("odd", "even"))
@pytest.mark.parametrize("kind", KINDS)
async def test_case_01_crash_after_write_k_of_a_change(kind: str, first: int, own_stage: Stage, judge: Oracle) -> None:
    """For every k; the change makes objects, changes some, and replaces pods."""
    subjects: list[Subject] = []
    await own_stage.started()
    for after in range(first, MOST_WRITES, 2):
        subjects.append(judge.subject(own_stage, kind))
        await subjects[-1].apply()
        await subjects[-1].settles()
        if not await crashed(own_stage, subjects[-1], after, **CHANGED[kind]):
            break
    assert len(subjects) > 1
    await rest(*subjects)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_02_crash_before_the_acknowledgement(kind: str, own_stage: Stage, judge: Oracle) -> None:
    """A write is done, and the operator dies before it hears so: at one write of a create and one of a change."""
    rng = seeded()
    await own_stage.started()
    subject = judge.subject(own_stage, kind)
    for spec, writes in (({}, 5), (CHANGED[kind], 2)):
        left = rng.randint(1, writes)

        def lost(asked: Asked) -> bool:
            nonlocal left
            left -= subject.concerns(asked) and asked.writes
            if left == 0:
                own_stage.operator.kill()
            return left <= 0 and asked.writes

        own_stage.proxy.lost = lost
        await subject.apply(**spec)
        await eventually(lambda: not own_stage.operator.lives)
        own_stage.heal()
        await own_stage.started()
    await rest(subject)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_02_no_acknowledgement_of_any_write(kind: str, stage: Stage, judge: Oracle) -> None:
    """Each write is done, the connection ends, and the operator lives: it asks again."""
    subject = judge.subject(stage, kind)
    told: set[tuple[str, str]] = set()

    def lost(asked: Asked) -> bool:
        first = subject.concerns(asked) and asked.writes and (asked.method, asked.path) not in told
        told.add((asked.method, asked.path))
        return first

    stage.proxy.lost = lost
    await subject.apply()
    await subject.settles()
    told.clear()
    await subject.apply(**CHANGED[kind])
    await rest(subject)
    # At once: the proxy's thread goes on.
    assert len([each for each in tuple(told) if subject.key.name in each[1]]) >= 2


async def test_case_15_split_brain(own_stage: Stage, judge: Oracle) -> None:
    """Two that both believe that they lead, by Leases of their own: they agree, and neither undoes the other's work."""
    await own_stage.started()
    await own_stage.started()
    subjects = [judge.subject(own_stage, kind) for kind in KINDS]
    for spec in ("create", "change"):
        await asyncio.gather(*(s.apply(**(CHANGED[s.key.kind] if spec == "change" else {})) for s in subjects))
        await asyncio.gather(*(subject.settles() for subject in subjects))
    await rest(*subjects)


async def test_case_17_operator_down_at_delete(own_stage: Stage, judge: Oracle) -> None:
    """One is deleted while nobody is there, another one deleted and made again."""
    operator = await own_stage.started()
    gone, again = (judge.subject(own_stage, "CortexIndex"), judge.subject(own_stage, "CortexIndex"))
    other, other_again = (judge.subject(own_stage, "CortexWorkflow"), judge.subject(own_stage, "CortexWorkflow"))
    subjects = (gone, again, other, other_again)
    await asyncio.gather(*(subject.apply() for subject in subjects))
    await asyncio.gather(*(subject.settles() for subject in subjects))
    assert await asyncio.to_thread(operator.stop) == 0
    await asyncio.gather(*(subject.delete() for subject in subjects))
    for subject in (again, other_again):
        await subject.apply(**CHANGED[subject.key.kind])
    for subject in (gone, other):
        subject.spec = {}
    await own_stage.started()
    await rest(*subjects)


async def test_case_18_a_restart_of_the_same_release_writes_nothing_and_keeps_the_pods(
    own_stage: Stage, judge: Oracle
) -> None:
    await own_stage.started()
    subjects = [judge.subject(own_stage, kind) for kind in KINDS]
    await asyncio.gather(*(subject.apply(replicas=2) for subject in subjects))
    async with asyncio.timeout(SETTLED):
        while not await all_run(judge, own_stage, 4):  # noqa: ASYNC110 - others make them, and run them
            await asyncio.sleep(0.1)
    await rest(*subjects)
    before = await pods(judge, own_stage)
    own_stage.operator.kill()
    since = len(own_stage.proxy.asked)
    operator = await own_stage.started()
    await asyncio.to_thread(operator.until_measured, "cortex_operator_passes_total", 2 * len(KINDS), 60.0)
    assert [asked for asked in own_stage.proxy.asked[since:] if asked.writes] == []
    assert await pods(judge, own_stage) == before


async def pods(judge: Oracle, stage: Stage) -> set[str]:
    """The uids of all pods."""
    found = await judge.cluster.list("v1", "Pod", namespace=stage.namespaces[0])
    return {pod["metadata"]["uid"] for pod in found}


async def all_run(judge: Oracle, stage: Stage, number: int) -> bool:
    """Whether there are so many pods, and the Deployments know that all of them are available."""
    found = await judge.cluster.list("apps/v1", "Deployment", namespace=stage.namespaces[0])
    available = sum(deployment.get("status", {}).get("availableReplicas", 0) for deployment in found)
    return len(await pods(judge, stage)) == available == number


@pytest.mark.parametrize("kind", KINDS)
async def test_case_16_delete_during_create(kind: str, stage: Stage, judge: Oracle) -> None:
    """After each of the first writes; the same name works again afterwards."""
    for writes in (1, 3, 5):
        subject = judge.subject(stage, kind)
        since = len(stage.proxy.asked)
        await subject.apply()
        await eventually(lambda s=subject, n=since, k=writes: len(s.writes(n)) >= k)  # type: ignore[misc]
        await subject.delete()
        spec, subject.spec = subject.spec, {}
        await subject.ends()
        if writes == 3:
            subject.spec = spec
            await subject.apply()
        await rest(subject)
