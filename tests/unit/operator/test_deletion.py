from __future__ import annotations

import json
from typing import Any

import pytest
from builders import a_cortex_index
from cortex_kinds.revision import index_definition
from cortex_operator.cluster import Conflict, Forbidden, MemoryCluster, Object, ObjectKey, Unavailable
from cortex_operator.manifests import index_objects
from deletions import RELEASE, Deletions
from objects import a_config_map

FINALIZER = "cortex.datapunk.io/data-cleanup"
PAPERS = "CortexIndex/default/papers"


@pytest.fixture
def of() -> Deletions:
    return Deletions(MemoryCluster(), "default", "cortex-system")


async def without_secrets(of: Deletions) -> None:
    for name in ("cortex-lake", "cortex-state"):
        await of.cluster.delete(ObjectKey("v1", "Secret", of.key.namespace, name))


async def let_go_by_hand(of: Deletions, *others: str) -> None:
    found = await of.find()
    assert found is not None
    await of.cluster.set_finalizers(found, others)


async def deployment(of: Deletions) -> Object | None:
    """That of the index that is there now; those of the one before were collected."""
    found = await of.cluster.list("apps/v1", "Deployment", namespace=of.key.namespace)
    return found[0] if found else None


async def test_the_policy_sets_and_removes_the_finalizer_and_leaves_that_of_others(of: Deletions) -> None:
    await of.apply("Retain")
    await of.pass_()
    assert await of.finalizers() == []
    found = await of.find()
    assert found is not None
    await of.cluster.set_finalizers(found, ["example.com/theirs"])

    await of.apply("Delete")
    await of.pass_()
    await of.pass_()
    assert await of.finalizers() == ["example.com/theirs", FINALIZER]
    await of.apply("Retain")
    await of.pass_()
    assert await of.finalizers() == ["example.com/theirs"]


async def test_the_finalizer_is_there_before_anything_is_made(of: Deletions, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    apply = of.cluster.apply

    async def watched(obj: Object, **options: Any) -> Any:
        if obj["kind"] == "Deployment":
            seen.append(await of.finalizers())
        return await apply(obj, **options)

    monkeypatch.setattr(of.cluster, "apply", watched)
    await of.set_up()
    assert seen
    assert all(found == [FINALIZER] for found in seen)


async def test_a_job_drops_the_data_then_nothing_is_left(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    assert await of.pass_() == 2.0
    assert await of.condition("DataCleanup") == ("True", "CleanupRunning", (await of.condition("DataCleanup"))[2])
    ready = await of.condition("Ready")
    assert ready[:2] == ("False", "DataCleanup")
    assert "logs job/papers-cleanup-" in ready[2]
    assert "at the latest" in ready[2]
    assert await of.secret() == {"dsn": "postgresql://lake/d", "url": "redis://s"}
    assert "postgresql://" not in json.dumps(await of.find())
    deployments = await of.cluster.list("apps/v1", "Deployment", namespace="default")
    assert [d for d in deployments if "deletionTimestamp" not in d["metadata"]] == []

    await of.job_ends("Complete")
    assert await of.pass_() is None
    assert await of.find() is None
    assert await of.job() is None
    assert await of.cluster.list("v1", "Secret", namespace=of.own) == []
    await of.pass_()
    assert await of.orphans() == []


async def test_the_job_is_the_release_s_own_and_within_the_time(of: Deletions) -> None:
    await of.set_up(spec__image="registry.invalid/mine:1", spec__env=[{"name": "LD_PRELOAD", "value": "/tmp/x"}])
    await of.delete()
    await of.pass_()
    job = await of.job()
    assert job is not None
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}
    assert container["image"] == "registry.invalid/search:1"
    assert container["command"] == ["python", "-m", "cortex_workloads.search.drop"]
    assert "LD_PRELOAD" not in env
    assert env["CORTEX_LAKE_DSN"]["secretKeyRef"] == {"name": job["metadata"]["name"], "key": "dsn"}
    assert job["spec"]["activeDeadlineSeconds"] in (539, 540)
    assert float(env["CORTEX_DROP_BEFORE"]) == pytest.approx(of.now.timestamp() + 540, abs=1.1)


async def test_events_tell_the_beginning_once_and_what_is_left(of: Deletions) -> None:
    await of.set_up()
    of.notices.clear()
    await of.delete()
    for _ in range(3):
        await of.pass_(5)
    await of.job_ends("Failed", "the Lake does not answer")
    await of.pass_()
    assert [(n.reason, n.type) for n in of.notices] == [("DataCleanup", "Normal"), ("DataLeft", "Warning")]
    assert "the Lake does not answer" in of.notices[1].note


async def test_pods_end_first_but_are_not_waited_for_for_ever(of: Deletions) -> None:
    await of.set_up()
    labels = {
        "app.kubernetes.io/name": "datapunk-cortex-haystack",
        "app.kubernetes.io/instance": "papers",
        "app.kubernetes.io/component": "search",
    }
    meta = {"name": "papers-search-a", "namespace": "default", "labels": labels}
    await of.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": []}})
    await of.delete()
    await of.pass_()
    assert (await of.condition("DataCleanup"))[1] == "PodsStopping"
    assert "papers-search-a" in (await of.condition("Ready"))[2]
    assert await of.job() is None
    await of.pass_(301)
    assert await of.job() is not None


async def test_a_job_that_fails_leaves_a_record_and_its_log(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    await of.job_ends("Failed", "the Lake does not answer")
    assert await of.pass_() is None
    assert await of.find() is None
    assert await of.orphans() == [(PAPERS, "CleanupFailed")]
    assert await of.job() is not None
    assert await of.secret() is None


async def test_after_its_time_it_goes_whatever_the_job_does(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    of.restart()
    await of.pass_(590)
    assert await of.find() is not None
    assert await of.pass_(11) is None
    assert await of.find() is None
    assert await of.orphans() == [(PAPERS, "CleanupTimedOut")]
    assert await of.job() is None


def once(monkeypatch: pytest.MonkeyPatch, cluster: Any, name: str, error: Exception) -> None:
    """The first call of the method raises the error."""
    method, errors = getattr(cluster, name), [error]

    async def failing(*arguments: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return await method(*arguments, **options)

    monkeypatch.setattr(cluster, name, failing)


async def test_data_that_is_dropped_stays_so_when_somebody_writes_the_resource(
    of: Deletions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    await of.job_ends("Complete")
    once(monkeypatch, of.cluster, "set_finalizers", Conflict("it has been modified"))
    with pytest.raises(Conflict):
        await of.pass_(599)
    assert await of.pass_(10) is None
    assert await of.find() is None
    assert await of.job() is None
    await of.pass_()
    assert await of.orphans() == []


@pytest.mark.parametrize(("end", "left"), [("Complete", []), ("Failed", [(PAPERS, "CleanupFailed")])])
async def test_a_job_that_could_not_be_removed_at_the_end_is_removed_later(
    of: Deletions, monkeypatch: pytest.MonkeyPatch, end: str, left: list[tuple[str, str]]
) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    await of.job_ends(end)
    once(monkeypatch, of.cluster, "delete", Unavailable("no answer"))
    with pytest.raises(Unavailable):
        await of.pass_()
    assert await of.find() is None
    assert await of.secret() is not None
    await of.pass_()
    assert await of.secret() is None
    assert (await of.job() is None) is (end == "Complete")
    assert await of.orphans() == left


async def test_an_operator_that_was_away_for_long_still_tries(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    of.restart()
    await of.pass_(7200)
    assert await of.job() is not None


async def test_secrets_that_go_first_are_remembered_and_not_by_the_next_process(of: Deletions) -> None:
    await of.set_up()
    await without_secrets(of)
    await of.delete()
    await of.pass_()
    assert await of.secret() == {"dsn": "postgresql://lake/d", "url": "redis://s"}
    # The Job of the process before goes on with what it has.
    of.restart()
    await of.pass_()
    assert (await of.condition("DataCleanup"))[1] == "CleanupRunning"
    await of.job_ends("Complete")
    await of.pass_()
    assert await of.find() is None


async def test_without_a_secret_the_message_says_what_to_do_and_the_resource_goes_in_time(of: Deletions) -> None:
    await of.set_up()
    await without_secrets(of)
    await of.delete()
    of.restart()
    await of.pass_()
    assert (await of.condition("DataCleanup"))[1] == "SecretNotFound"
    assert "create it again" in (await of.condition("Ready"))[2]
    await of.make_secrets()
    await of.pass_()
    assert await of.job() is not None


async def test_of_a_namespace_that_goes_nothing_is_waited_for_that_cannot_come(of: Deletions) -> None:
    await of.set_up()
    await without_secrets(of)
    meta = {"name": "default", "finalizers": ["kubernetes"]}
    namespace: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
    await of.cluster.apply(namespace)
    await of.cluster.delete(ObjectKey("v1", "Namespace", "", "default"))
    await of.delete()
    of.restart()
    assert await of.pass_() is None
    assert await of.find() is None
    assert await of.orphans() == [(PAPERS, "SecretNotFound")]


async def test_what_never_had_data_goes_at_once(of: Deletions) -> None:
    await of.apply("Delete")
    await of.pass_()
    await of.delete()
    assert await of.pass_() is None
    assert await of.find() is None
    assert await of.orphans() == []


async def test_what_the_cluster_refuses_is_said_and_bounded(of: Deletions, monkeypatch: pytest.MonkeyPatch) -> None:
    await of.set_up()
    await of.delete()
    apply = of.cluster.apply

    async def refusing(obj: Object, **options: Any) -> Any:
        if obj["metadata"]["namespace"] == of.own:
            raise Forbidden(f"{obj['kind']}: exceeded quota")
        return await apply(obj, **options)

    monkeypatch.setattr(of.cluster, "apply", refusing)
    await of.pass_()
    assert await of.condition("DataCleanup") == ("True", "CleanupRefused", (await of.condition("DataCleanup"))[2])
    assert "exceeded quota" in (await of.condition("Ready"))[2]
    # The record cannot be written either: that holds nobody up.
    assert await of.pass_(601) is None
    assert await of.find() is None


async def test_data_that_is_retained_is_recorded_until_its_resource_is_back(of: Deletions) -> None:
    await of.set_up("Retain")
    await of.delete()
    assert await of.find() is None
    await of.pass_()
    assert await of.orphans() == [(PAPERS, "Retained")]
    of.restart()
    await of.apply("Delete")
    await of.pass_()
    assert await of.orphans() == []


async def test_data_is_dropped_later_by_a_resource_of_the_same_name(of: Deletions) -> None:
    await of.set_up("Retain")
    await of.delete()
    await of.pass_()
    await of.apply("Delete", spec__suspend=True)
    await of.pass_()
    await of.delete()
    await of.pass_()
    await of.job_ends("Complete")
    await of.pass_()
    assert await of.find() is None
    assert await of.orphans() == []


async def test_a_policy_that_changes_before_the_job_keeps_the_data(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await of.apply("Retain")
    await of.pass_()
    assert await of.find() is None
    await of.pass_()
    assert await of.orphans() == [(PAPERS, "Retained")]
    assert "its data stays in the Lake" in await of.record()


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_policy_that_changes_meanwhile_ends_the_job_before_the_resource_goes(
    of: Deletions, restarts: bool
) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    pod = await of.job_pod()
    if restarts:
        of.restart()
    await of.apply("Retain")
    assert await of.pass_() == 2.0
    assert (await of.condition("DataCleanup"))[:2] == ("True", "CleanupStopping")
    assert "is being stopped" in (await of.condition("Ready"))[2]
    if restarts:
        of.restart()
    await of.pod_ends(pod)
    assert await of.pass_() is None
    assert await of.find() is None
    assert await of.job() is None
    assert await of.cluster.list("v1", "Secret", namespace=of.own) == []
    await of.pass_()
    assert await of.orphans() == [(PAPERS, "Retained")]
    assert "a part of it may be gone" in await of.record()


async def test_a_job_that_is_ended_is_not_waited_for_longer_than_it_could_drop(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    await of.job_pod()
    await of.apply("Retain")
    await of.pass_(590)
    assert await of.find() is not None
    await of.pass_(20)
    assert await of.find() is None


async def test_a_finalizer_removed_by_hand_is_recorded(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await let_go_by_hand(of)
    await of.pass_()
    assert await of.orphans() == [(PAPERS, "FinalizerRemoved")]
    assert "its data stays in the Lake" in await of.record()


@pytest.mark.parametrize("others", [[], ["example.com/theirs"]])
async def test_a_finalizer_removed_by_hand_ends_the_job(of: Deletions, others: list[str]) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    await let_go_by_hand(of, *others)
    await of.pass_()
    assert await of.job() is None
    assert await of.cluster.list("v1", "Secret", namespace=of.own) == []
    if others:
        await let_go_by_hand(of)
        await of.pass_()
    assert await of.orphans() == [(PAPERS, "FinalizerRemoved")]
    assert "a part of it may be gone" in await of.record()


@pytest.mark.parametrize("restarts", [False, True])
async def test_nothing_is_made_of_a_namesake_while_a_job_drops_its_data(of: Deletions, restarts: bool) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    pod = await of.job_pod()
    await let_go_by_hand(of)
    if restarts:
        of.restart()
    await of.apply("Retain")
    before = await deployment(of)
    assert await of.pass_() == 2.0
    ready = await of.condition("Ready")
    assert ready[:2] == ("False", "CleanupStopping")
    assert "nothing of it is made yet" in ready[2]
    # It comes by itself: no tool is to call it failed.
    assert (await of.condition("Reconciling"))[0] == "True"
    assert (await of.condition("Stalled"))[0] == ""
    assert await deployment(of) == before
    await of.pod_ends(pod)
    await of.pass_()
    assert await of.job() is None
    assert (await deployment(of)) is not None
    assert (await of.condition("Ready"))[1] != "CleanupStopping"


async def test_the_log_of_a_job_that_failed_outlives_a_namesake(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    await of.job_ends("Failed", "the Lake does not answer")
    of.restart()
    await let_go_by_hand(of)
    await of.apply("Retain")
    await of.pass_()
    assert await deployment(of) is not None
    assert await of.job() is not None
    assert await of.secret() is None


async def test_a_job_that_is_being_deleted_is_replaced_when_the_data_is_to_go_after_all(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await of.pass_()
    pod = await of.job_pod()
    before = await of.job()
    await of.apply("Retain")
    await of.pass_()
    await of.apply("Delete")
    await of.pass_()
    assert (await of.condition("DataCleanup"))[1] == "CleanupStopping"
    await of.pod_ends(pod)
    await of.pass_()
    after = await of.job()
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert (await of.condition("DataCleanup"))[1] == "CleanupRunning"


@pytest.mark.parametrize("with_job", [False, True])
async def test_a_spec_that_cannot_be_read_holds_nobody(
    of: Deletions, monkeypatch: pytest.MonkeyPatch, with_job: bool
) -> None:
    await of.set_up()
    await of.delete()
    get = of.cluster.get

    async def older(key: ObjectKey, **options: Any) -> Object:
        found = await get(key, **options)
        return {**found, "spec": {"colour": "red"}} if key == of.index else found

    if with_job:
        await of.pass_()
        pod = await of.job_pod()
    monkeypatch.setattr(of.cluster, "get", older)
    if with_job:
        assert await of.pass_() == 2.0
        await of.pod_ends(pod)
    await of.pass_()
    monkeypatch.undo()
    assert await of.find() is None
    assert await of.job() is None
    assert await of.orphans() == [(PAPERS, "InvalidSpec")]
    assert ("a part of it may be gone" in await of.record()) is with_job


FOREIGN = "example.com/foreign"


async def is_held(of: Deletions) -> None:
    """A finalizer of somebody else is put on the index, as it is deleted."""
    found = await of.find()
    assert found is not None
    await of.cluster.set_finalizers(found, [*await of.finalizers(), FOREIGN])
    await of.delete()


async def waits_for_others(of: Deletions, *words: str) -> None:
    """The status is about this generation, and says who holds the index, how it can go, and `words`."""
    found = await of.find()
    assert found is not None
    assert found["metadata"]["finalizers"] == [FOREIGN]
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    status, reason, said = await of.condition("Ready")
    assert (status, reason) == ("False", "WaitingForFinalizers")
    for text in (f"it waits for finalizer {FOREIGN}", "kubectl -n default patch cortexindex papers", *words):
        assert text in said


async def test_after_the_drop_the_status_says_who_else_holds_the_resource(of: Deletions) -> None:
    await of.set_up()
    of.notices.clear()
    await is_held(of)
    await of.pass_()
    assert (await of.condition("DataCleanup"))[:2] == ("True", "CleanupRunning")
    await of.job_ends("Complete")
    assert await of.pass_() is None
    await waits_for_others(of, "its data is dropped")
    assert await of.condition("DataCleanup") == ("False", "DataDropped", "its data is dropped")
    found = await of.find()
    assert found is not None
    assert not {"replicas", "revisions", "currentRevision"} & {n for n, value in found["status"].items() if value}
    assert await of.job() is None

    of.restart()
    assert await of.pass_(700) is None
    assert await of.find() == found
    assert [notice.reason for notice in of.notices] == ["DataCleanup", "WaitingForFinalizers"]
    await let_go_by_hand(of)
    await of.pass_()
    assert await of.orphans() == []


async def test_data_that_is_left_is_told_while_others_hold_the_resource(of: Deletions) -> None:
    await of.set_up()
    await is_held(of)
    await of.pass_()
    await of.job_ends("Failed", "the Lake does not answer")
    await of.pass_()
    await waits_for_others(of, "CleanupFailed: ", "the Lake does not answer", "cortex orphans")
    assert (await of.condition("DataCleanup"))[:2] == ("False", "DataLeft")
    of.restart()
    await of.pass_()
    await let_go_by_hand(of)
    await of.pass_()
    assert await of.orphans() == [(PAPERS, "CleanupFailed")]


@pytest.mark.parametrize("end", ["Complete", "Failed"])
async def test_a_cleanup_that_is_over_does_not_begin_again(
    of: Deletions, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    await of.set_up()
    await is_held(of)
    await of.pass_()
    await of.job_ends(end)
    once(monkeypatch, of.cluster, "set_finalizers", Conflict("it has been modified"))
    with pytest.raises(Conflict):
        await of.pass_()
    job = await of.job()
    assert job is not None
    await of.cluster.delete(ObjectKey.of(job))
    of.restart()
    await of.apply("Retain")
    await of.pass_()
    await waits_for_others(of, {"Complete": "its data is dropped", "Failed": "CleanupFailed"}[end])
    assert await of.job() is None


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_retained_one_that_others_hold_says_so(of: Deletions, restarts: bool) -> None:
    await of.set_up("Retain")
    await is_held(of)
    if restarts:
        of.restart()
    assert await of.pass_() is None
    await waits_for_others(of, "deletionPolicy is Retain: its data stays in the Lake")
    assert await of.condition("DataCleanup") == ("", "", "")
    if restarts:
        of.restart()
        await of.pass_()
    await let_go_by_hand(of)
    await of.pass_()
    assert await of.orphans() == [(PAPERS, "Retained")]


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_drop_that_is_called_off_is_told_while_others_hold_the_resource(of: Deletions, by_hand: bool) -> None:
    await of.set_up()
    await is_held(of)
    await of.pass_()
    pod = await of.job_pod()
    if by_hand:
        await let_go_by_hand(of, FOREIGN)
    else:
        await of.apply("Retain")
    assert await of.pass_() == 2.0
    assert (await of.condition("DataCleanup"))[:2] == ("True", "CleanupStopping")
    await of.pod_ends(pod)
    of.restart()
    assert await of.pass_() is None
    why = "its finalizer was removed by hand" if by_hand else "deletionPolicy is Retain"
    await waits_for_others(of, why, "a part of it may be gone")
    assert (await of.condition("DataCleanup"))[:2] == ("False", "DataKept")
    of.restart()
    await of.pass_()
    await waits_for_others(of, why, "a part of it may be gone")


async def test_who_holds_it_is_followed(of: Deletions) -> None:
    await of.set_up("Retain")
    await is_held(of)
    await of.pass_()
    await let_go_by_hand(of, FOREIGN, "example.com/another")
    early = await of.pass_(1)
    assert early is not None
    await of.pass_(early)
    assert f"finalizers {FOREIGN}, example.com/another, " in (await of.condition("Ready"))[2]


def test_retained_resources_are_made_as_before() -> None:
    """The policy is no part of the pods, nor of a revision."""
    kept, dropped = a_cortex_index(), a_cortex_index(spec__deletionPolicy="Delete")
    assert index_objects(kept, RELEASE) == index_objects(dropped, RELEASE)
    assert index_definition(kept.spec) == index_definition(dropped.spec)


async def test_a_foreign_configmap_of_that_name_is_survived(of: Deletions) -> None:
    await of.cluster.apply(a_config_map("datapunk-cortex-orphans", of.own, x="not JSON"), field_manager="somebody")
    await of.set_up("Retain")
    await of.delete()
    await of.pass_()
    found = await of.cluster.get(ObjectKey("v1", "ConfigMap", of.own, "datapunk-cortex-orphans"))
    assert json.loads(found["data"]["CortexIndex.default.papers"])["reason"] == "Retained"
    assert found["data"]["x"] == "not JSON"
