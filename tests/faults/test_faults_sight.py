"""Cases 3 to 8: the operator sees what was, misses what happens, or the API server is away."""

from __future__ import annotations

import asyncio

import pytest
from fault_proxy import Asked
from stage import KINDS, Oracle, Stage, Subject, eventually, rest

BLIND = "/deployments"


async def watching(stage: Stage, which: str) -> None:
    """Returns when a watch of that collection has begun anew."""
    since = len(stage.proxy.asked)
    await eventually(lambda: any(a.watches and a.path.endswith(which) for a in stage.proxy.asked[since:]))


async def test_case_03_a_restart_from_a_stale_list(own_stage: Stage, judge: Oracle) -> None:
    """An API server that is behind: resources are as they were, and one is shown that is gone."""
    await own_stage.started()
    changed = [judge.subject(own_stage, kind) for kind in KINDS]
    gone = [judge.subject(own_stage, kind) for kind in KINDS]
    await asyncio.gather(*(subject.apply() for subject in (*changed, *gone)))
    await asyncio.gather(*(subject.settles() for subject in (*changed, *gone)))
    own_stage.operator.kill()
    await own_stage.started()  # its lists are the old ones
    old = dict(own_stage.proxy.lists)
    await asyncio.gather(*(subject.apply(replicas=2) for subject in changed))
    await asyncio.gather(*(subject.delete() for subject in gone))
    for subject in gone:
        subject.spec = {}
    await asyncio.gather(*(subject.settles() for subject in changed), *(subject.ends() for subject in gone))
    own_stage.operator.kill()
    own_stage.proxy.old_lists = old
    operator = await own_stage.started()
    assert not any(path.endswith(("/cortexindexes", "/cortexworkflows", BLIND)) for path in own_stage.proxy.old_lists)
    await rest(*changed, *gone)
    assert operator.lives


@pytest.mark.parametrize("kind", KINDS)
async def test_case_04_a_state_that_nobody_observed(kind: str, stage: Stage, judge: Oracle) -> None:
    """Deleted and made again under its name while no watch is open: only the last state is ever seen."""
    subject = judge.subject(stage, kind)
    await subject.apply()
    await subject.settles()
    stage.proxy.fault = lambda asked: 503 if asked.watches and "/leases" not in asked.path else 0
    stage.break_streams()
    await subject.delete()
    await subject.apply(replicas=2)
    stage.heal()
    await rest(subject)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_05_a_missed_delete(kind: str, stage: Stage, judge: Oracle) -> None:
    """Deleted while the watch is away, which then must begin anew (410): no event ever tells of it."""
    subject = judge.subject(stage, kind)
    await subject.apply()
    await subject.settles()
    stage.proxy.fault = lambda asked: 503 if asked.watches and asked.path.endswith(BLIND) else 0
    stage.break_streams()
    await judge.cluster.delete(subject.child())
    told: set[str] = set()

    def too_old(asked: Asked) -> bool:
        first = asked.watches and asked.path.endswith(BLIND) and asked.path not in told
        told.update([asked.path] if first else [])
        return first

    stage.proxy.too_old = too_old
    stage.proxy.fault = lambda _: 0
    await rest(subject)
    await eventually(lambda: told)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_06_a_silent_watch(kind: str, stage: Stage, judge: Oracle) -> None:
    """It is open and says nothing; a watch is opened anew after 4 s here, after 70 s in production."""
    subject = judge.subject(stage, kind)
    await subject.apply()
    await subject.settles()
    stage.proxy.silence = lambda asked: asked.path.endswith(BLIND)
    since = len(stage.proxy.asked)
    await judge.cluster.delete(subject.child())
    await watching(stage, BLIND)
    await eventually(lambda: any(asked.path.endswith(subject.child().name) for asked in subject.writes(since)), 90.0)
    stage.heal()
    await rest(subject)


async def test_case_06_watches_live_on_however_often_they_begin_anew(own_stage: Stage, judge: Oracle) -> None:
    """Each time that they end an object comes or goes: none of them ends for good."""
    await own_stage.started(SCALED_WATCH_SECONDS="1")
    subjects = [judge.subject(own_stage, kind) for kind in KINDS * 8]
    for subject in subjects:
        await subject.apply()
        await asyncio.sleep(0.99)
    paths = {asked.path for asked in own_stage.proxy.asked if asked.watches}
    assert len(paths) > 10
    for path in paths:
        await watching(own_stage, path)
    await rest(*subjects)


@pytest.mark.parametrize("status", [403, 404, 410, 500])
async def test_case_07_a_watch_that_ends_for_good(status: int, own_stage: Stage, judge: Oracle) -> None:
    """The process ends with code 1, and the next one mends what happened meanwhile."""
    operator = await own_stage.started()
    subjects = [judge.subject(own_stage, kind) for kind in KINDS]
    await asyncio.gather(*(subject.apply() for subject in subjects))
    await asyncio.gather(*(subject.settles() for subject in subjects))
    own_stage.proxy.fault = lambda asked: status if asked.path.endswith(BLIND) else 0
    own_stage.break_streams()
    assert await asyncio.to_thread(operator.ends, 100.0) == 1
    await asyncio.gather(*(judge.cluster.delete(subject.child()) for subject in subjects))
    own_stage.heal()
    await own_stage.started()
    await rest(*subjects)


async def test_case_08_an_outage_that_ends_the_term(own_stage: Stage, judge: Oracle) -> None:
    """503 for longer than the Lease lasts: it ends before another one may lead, and the next one goes on."""
    operator = await own_stage.started(CORTEX_LEASE_SECONDS="8")  # a busy machine may keep it from renewing for 4 s
    subjects = [judge.subject(own_stage, kind) for kind in KINDS]
    await asyncio.gather(*(subject.apply() for subject in subjects))
    own_stage.proxy.fault = lambda _: 503
    own_stage.break_streams()
    assert await asyncio.to_thread(operator.ends) == 4
    await asyncio.gather(*(subject.apply(replicas=2) for subject in subjects))
    own_stage.heal()
    await own_stage.started()
    await rest(*subjects)


@pytest.mark.parametrize("kind", KINDS)
async def test_case_08_an_outage_that_is_waited_for(kind: str, stage: Stage, judge: Oracle) -> None:
    subject = judge.subject(stage, kind)
    await subject.apply()
    operator, since = stage.operator, len(stage.proxy.asked)
    stage.proxy.fault = lambda _: 503
    stage.break_streams()
    await subject.apply(replicas=2)
    await eventually(lambda: len(stage.proxy.asked) > since + 25)
    stage.heal()
    await rest(subject)
    assert stage.operator is operator
    assert operator.lives


@pytest.mark.parametrize("kind", KINDS)
async def test_case_08_too_many_requests_with_a_time_to_wait(kind: str, stage: Stage, judge: Oracle) -> None:
    """429 with Retry-After: not sooner than that, and others are not kept waiting."""
    subject, other = judge.subject(stage, kind), judge.subject(stage, kind)
    stage.proxy.retry_after = "2"
    refused = _Refused(subject, 3)
    stage.proxy.fault = refused
    await subject.apply()
    await other.apply()
    await other.settles()
    await eventually(lambda: refused.left <= 0)
    gaps = [after - before for before, after in zip(refused.at, refused.at[1:], strict=False)]
    assert all(gap > 1.9 for gap in gaps), gaps
    await rest(subject, other)


class _Refused:
    """Answers so many of a subject's writes with 429; its Events are written beside them."""

    def __init__(self, subject: Subject, times: int) -> None:
        self._subject, self.left = subject, times
        self.at: list[float] = []

    def __call__(self, asked: Asked) -> int:
        if self.left <= 0 or not (self._subject.concerns(asked) and asked.writes) or "/events/" in asked.path:
            return 0
        self.left -= 1
        self.at.append(asked.at)
        return 429
