from __future__ import annotations

from typing import Any

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_operator.cluster import ApplyResult, Cluster, Conflict, Invalid, NotFound, Object, ObjectKey
from objects import a_config_map, a_deployment

WEB = ObjectKey("apps/v1", "Deployment", "default", "web")
SETTINGS = ObjectKey("v1", "ConfigMap", "default", "settings")


async def container(cluster: Cluster, name: str = "main") -> dict[str, Any]:
    found = (await cluster.get(WEB))["spec"]["template"]["spec"]["containers"]
    return next(c for c in found if c["name"] == name)


async def test_a_new_object_gets_uid_version_generation_and_time(cluster: Cluster) -> None:
    assert await cluster.apply(a_deployment()) is ApplyResult.CREATED
    meta = (await cluster.get(WEB))["metadata"]
    assert meta["generation"] == 1
    assert meta["uid"]
    assert meta["resourceVersion"]
    assert meta["creationTimestamp"].endswith("Z")


async def test_the_same_again_writes_nothing(cluster: Cluster) -> None:
    await cluster.apply(a_deployment())
    before = await cluster.get(WEB)
    assert await cluster.apply(a_deployment()) is ApplyResult.UNCHANGED
    assert await cluster.get(WEB) == before


async def test_a_change_of_the_spec_counts_a_generation_and_a_change_of_labels_does_not(cluster: Cluster) -> None:
    await cluster.apply(a_deployment(replicas=1))
    labelled = a_deployment(replicas=1)
    labelled["metadata"]["labels"] = {"team": "a"}
    assert await cluster.apply(labelled) is ApplyResult.CHANGED
    assert (await cluster.get(WEB))["metadata"]["generation"] == 1
    labelled["spec"]["replicas"] = 2
    assert await cluster.apply(labelled) is ApplyResult.CHANGED
    meta = (await cluster.get(WEB))["metadata"]
    assert meta["generation"] == 2
    assert meta["labels"] == {"team": "a"}


async def test_a_field_that_its_manager_leaves_out_goes(cluster: Cluster) -> None:
    await cluster.apply(a_config_map(a="1", b="2"))
    await cluster.apply(a_config_map(a="1"))
    assert (await cluster.get(SETTINGS))["data"] == {"a": "1"}


async def test_a_field_that_two_managers_own_stays_until_both_leave_it_out(cluster: Cluster) -> None:
    await cluster.apply(a_config_map(a="1", b="2"), field_manager="one")
    await cluster.apply(a_config_map(b="2"), field_manager="two")
    await cluster.apply(a_config_map(a="1"), field_manager="one")
    assert (await cluster.get(SETTINGS))["data"] == {"a": "1", "b": "2"}
    await cluster.apply(a_config_map(c="3"), field_manager="two")
    assert (await cluster.get(SETTINGS))["data"] == {"a": "1", "c": "3"}


async def test_the_fields_of_others_are_left_alone(cluster: Cluster) -> None:
    await cluster.apply(a_deployment())
    await cluster.apply(_only_replicas(7), field_manager="autoscaler")
    assert await cluster.apply(a_deployment()) is ApplyResult.UNCHANGED
    assert (await cluster.get(WEB))["spec"]["replicas"] == 7


async def test_with_force_the_field_changes_hands(cluster: Cluster) -> None:
    await cluster.apply(a_deployment(replicas=1), field_manager="one")
    await cluster.apply(_only_replicas(5), field_manager="two", force=True)
    assert (await cluster.get(WEB))["spec"]["replicas"] == 5
    await cluster.apply(a_deployment(), field_manager="one")
    assert (await cluster.get(WEB))["spec"]["replicas"] == 5


async def test_who_lost_a_field_by_force_does_not_keep_it_alive(cluster: Cluster) -> None:
    await cluster.apply(a_deployment(minReadySeconds=1), field_manager="one")
    taken = _only_replicas(5)
    taken["spec"]["minReadySeconds"] = 9
    await cluster.apply(taken, field_manager="two", force=True)
    await cluster.apply(_only_replicas(5), field_manager="two")
    assert (await cluster.get(WEB))["spec"].get("minReadySeconds", 0) == 0


async def test_without_force_a_conflict_names_the_manager_and_the_field_and_changes_nothing(cluster: Cluster) -> None:
    await cluster.apply(a_deployment(replicas=1), field_manager="one")
    before = await cluster.get(WEB)
    with pytest.raises(Conflict, match=r"one.*spec\.replicas"):
        await cluster.apply(_only_replicas(5), field_manager="two", force=False)
    assert await cluster.get(WEB) == before
    assert await cluster.apply(_only_replicas(1), field_manager="two", force=False) is ApplyResult.UNCHANGED


@pytest.mark.parametrize(
    ("field", "mine", "theirs"),
    [
        ("env", {"name": "A", "value": "1"}, {"name": "B", "value": "2"}),
        ("ports", {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}),
        ("volumeMounts", {"mountPath": "/a", "name": "v"}, {"mountPath": "/b", "name": "v"}),
    ],
)
async def test_managers_own_items_of_a_list_by_their_merge_key(
    cluster: Cluster, field: str, mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    await cluster.apply(_with_list(field, [mine], volumes))
    await cluster.apply(_with_list(field, [theirs], volumes), field_manager="sidecar")
    assert (await container(cluster))[field] == [mine, theirs]
    assert await cluster.apply(_with_list(field, [mine], volumes)) is ApplyResult.UNCHANGED
    await cluster.apply(_with_list(field, [], volumes))
    assert (await container(cluster))[field] == [theirs]


async def test_two_managers_that_apply_in_turn_do_not_reorder_a_list(cluster: Cluster) -> None:
    for _ in range(2):
        await cluster.apply(_with_list("env", [{"name": "A", "value": "1"}]), field_manager="one")
        await cluster.apply(_with_list("env", [{"name": "B", "value": "1"}]), field_manager="two")
    assert await cluster.apply(_with_list("env", [{"name": "A", "value": "1"}]), field_manager="one") is (
        ApplyResult.UNCHANGED
    )


async def test_a_container_that_its_manager_leaves_out_goes_as_a_whole(cluster: Cluster) -> None:
    two = [{"name": "main", "image": "registry.invalid/web:1"}, {"name": "proxy", "image": "registry.invalid/p:1"}]
    await cluster.apply(a_deployment(containers=two))
    await cluster.apply(a_deployment())
    assert [c["name"] for c in (await cluster.get(WEB))["spec"]["template"]["spec"]["containers"]] == ["main"]


async def test_a_list_without_merge_keys_is_replaced_as_a_whole(cluster: Cluster) -> None:
    def with_command(*command: str) -> Object:
        return a_deployment(containers=[{"name": "main", "image": "registry.invalid/web:1", "command": list(command)}])

    await cluster.apply(with_command("a", "b"))
    await cluster.apply(with_command("c"))
    assert (await container(cluster))["command"] == ["c"]


async def test_two_items_with_one_merge_key_are_refused(cluster: Cluster) -> None:
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    with pytest.raises(Invalid, match="A"):
        await cluster.apply(_with_list("env", twice))


async def test_uid_and_resource_version_are_preconditions(cluster: Cluster) -> None:
    await cluster.apply(a_config_map(a="1"))
    for name in ("uid", "resourceVersion"):
        stale = a_config_map(a="2")
        stale["metadata"][name] = "99999"
        with pytest.raises(Conflict):
            await cluster.apply(stale)
    fresh = a_config_map(a="2")
    fresh["metadata"]["resourceVersion"] = (await cluster.get(SETTINGS))["metadata"]["resourceVersion"]
    assert await cluster.apply(fresh) is ApplyResult.CHANGED


async def test_what_was_read_or_given_may_be_changed_without_changing_what_is_stored(cluster: Cluster) -> None:
    given = a_config_map(a="1")
    await cluster.apply(given)
    given["data"]["a"] = "changed"
    (await cluster.get(SETTINGS))["data"]["a"] = "changed"
    (await cluster.list("v1", "ConfigMap", namespace="default"))[0]["data"]["a"] = "changed"
    assert (await cluster.get(SETTINGS))["data"] == {"a": "1"}


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "dot.", "x" * 254, ""])
async def test_a_name_that_kubernetes_does_not_take_is_refused(cluster: Cluster, name: str) -> None:
    with pytest.raises(Invalid):
        await cluster.apply(a_config_map(name))


async def test_a_job_cannot_change_its_template(cluster: Cluster) -> None:
    job = a_deployment("build", containers=[{"name": "main", "image": "registry.invalid/web:1"}])
    job.update(apiVersion="batch/v1", kind="Job")
    del job["spec"]["selector"]
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    await cluster.apply(job)
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.invalid/web:2"
    with pytest.raises(Invalid, match=r"build.*template"):
        await cluster.apply(job)


async def test_a_cortex_index_with_mistakes_is_refused_with_all_of_them(cluster: Cluster) -> None:
    wrong = a_cortex_index_manifest(spec__chunking__splitLength=0, spec__retrieval__topK=5000, spec__typo=1)
    with pytest.raises(Invalid) as refused:
        await cluster.apply(wrong)
    for part in ("splitLength", "topK", "typo"):
        assert part in str(refused.value)
    with pytest.raises(NotFound):
        await cluster.get(ObjectKey.of(wrong))


async def test_a_cortex_workflow_is_taken_and_its_nodes_are_kept_apart_by_name(cluster: Cluster) -> None:
    manifest = a_cortex_workflow_manifest()
    await cluster.apply(manifest)
    assert (await cluster.get(ObjectKey.of(manifest)))["spec"]["nodes"] == manifest["spec"]["nodes"]
    assert await cluster.apply(manifest) is ApplyResult.UNCHANGED


def _only_replicas(replicas: int) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas},
    }


def _with_list(field: str, items: list[dict[str, Any]], volumes: list[dict[str, Any]] | None = None) -> Object:
    manifest = a_deployment(containers=[{"name": "main", "image": "registry.invalid/web:1", field: items}])
    if volumes:
        manifest["spec"]["template"]["spec"]["volumes"] = volumes
    return manifest
