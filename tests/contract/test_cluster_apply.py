from __future__ import annotations

from typing import Any

import pytest
from cortex_operator.cluster import ApplyResult, Cluster, Conflict, Invalid, NotFound, Object, ObjectKey
from objects import Place


async def container(cluster: Cluster, place: Place, name: str = "main") -> dict[str, Any]:
    found = (await cluster.get(place.web))["spec"]["template"]["spec"]["containers"]
    return next(c for c in found if c["name"] == name)


async def test_a_new_object_gets_uid_version_generation_and_time(cluster: Cluster, place: Place) -> None:
    assert await cluster.apply(place.deployment()) is ApplyResult.CREATED
    meta = (await cluster.get(place.web))["metadata"]
    assert meta["generation"] == 1
    assert meta["uid"]
    assert meta["resourceVersion"]
    assert meta["creationTimestamp"].endswith("Z")


async def test_the_same_again_writes_nothing(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.config_map(a="1"))
    before = await cluster.get(place.settings)
    assert await cluster.apply(place.config_map(a="1")) is ApplyResult.UNCHANGED
    assert await cluster.get(place.settings) == before


async def test_a_change_of_the_spec_counts_a_generation_and_a_change_of_labels_does_not(
    cluster: Cluster, place: Place
) -> None:
    await cluster.apply(place.deployment(replicas=1))
    labelled = place.deployment(replicas=1)
    labelled["metadata"]["labels"] = {"team": "a"}
    assert await cluster.apply(labelled) is ApplyResult.CHANGED
    assert (await cluster.get(place.web))["metadata"]["generation"] == 1
    labelled["spec"]["replicas"] = 2
    assert await cluster.apply(labelled) is ApplyResult.CHANGED
    meta = (await cluster.get(place.web))["metadata"]
    assert meta["generation"] == 2
    assert meta["labels"] == {"team": "a"}


async def test_a_field_that_its_manager_leaves_out_goes(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.config_map(a="1", b="2"))
    await cluster.apply(place.config_map(a="1"))
    assert (await cluster.get(place.settings))["data"] == {"a": "1"}


async def test_a_field_that_two_managers_own_stays_until_both_leave_it_out(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.config_map(a="1", b="2"), field_manager="one")
    await cluster.apply(place.config_map(b="2"), field_manager="two")
    await cluster.apply(place.config_map(a="1"), field_manager="one")
    assert (await cluster.get(place.settings))["data"] == {"a": "1", "b": "2"}
    await cluster.apply(place.config_map(c="3"), field_manager="two")
    assert (await cluster.get(place.settings))["data"] == {"a": "1", "c": "3"}


async def test_the_fields_of_others_are_left_alone(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.deployment())
    await cluster.apply(_only_replicas(place, 7), field_manager="autoscaler")
    assert await cluster.apply(place.deployment()) is ApplyResult.UNCHANGED
    assert (await cluster.get(place.web))["spec"]["replicas"] == 7


async def test_with_force_the_field_changes_hands(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.deployment(replicas=1), field_manager="one")
    await cluster.apply(_only_replicas(place, 5), field_manager="two", force=True)
    assert (await cluster.get(place.web))["spec"]["replicas"] == 5
    await cluster.apply(place.deployment(), field_manager="one")
    assert (await cluster.get(place.web))["spec"]["replicas"] == 5


async def test_who_lost_a_field_by_force_does_not_keep_it_alive(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.deployment(minReadySeconds=1), field_manager="one")
    taken = _only_replicas(place, 5)
    taken["spec"]["minReadySeconds"] = 9
    await cluster.apply(taken, field_manager="two", force=True)
    await cluster.apply(_only_replicas(place, 5), field_manager="two")
    assert (await cluster.get(place.web))["spec"].get("minReadySeconds", 0) == 0


async def test_without_force_a_conflict_names_the_manager_and_the_field_and_changes_nothing(
    cluster: Cluster, place: Place
) -> None:
    await cluster.apply(place.deployment(replicas=1), field_manager="one")
    with pytest.raises(Conflict, match=r"one.*spec\.replicas"):
        await cluster.apply(_only_replicas(place, 5), field_manager="two", force=False)
    after = await cluster.get(place.web)
    assert (after["metadata"]["generation"], after["spec"]["replicas"]) == (1, 1)
    # The same value is no conflict: both own the field from now on, which is a change.
    assert await cluster.apply(_only_replicas(place, 1), field_manager="two", force=False) is ApplyResult.CHANGED
    assert await cluster.apply(_only_replicas(place, 1), field_manager="two", force=False) is ApplyResult.UNCHANGED


@pytest.mark.parametrize(
    ("field", "mine", "theirs"),
    [
        ("env", {"name": "A", "value": "1"}, {"name": "B", "value": "2"}),
        ("ports", {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}),
        ("volumeMounts", {"mountPath": "/a", "name": "v"}, {"mountPath": "/b", "name": "v"}),
    ],
)
async def test_managers_own_items_of_a_list_by_their_merge_key(
    cluster: Cluster, place: Place, field: str, mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    await cluster.apply(_with_list(place, field, [mine], volumes))
    await cluster.apply(_with_list(place, field, [theirs], volumes), field_manager="sidecar")
    assert (await container(cluster, place))[field] == [mine, theirs]
    assert await cluster.apply(_with_list(place, field, [mine], volumes)) is ApplyResult.UNCHANGED
    await cluster.apply(_with_list(place, field, [], volumes))
    assert (await container(cluster, place))[field] == [theirs]


async def test_two_managers_that_apply_in_turn_do_not_reorder_a_list(cluster: Cluster, place: Place) -> None:
    for _ in range(2):
        await cluster.apply(_with_list(place, "env", [{"name": "A", "value": "1"}]), field_manager="one")
        await cluster.apply(_with_list(place, "env", [{"name": "B", "value": "1"}]), field_manager="two")
    await cluster.apply(_with_list(place, "env", [{"name": "A", "value": "1"}]), field_manager="one")
    assert [item["name"] for item in (await container(cluster, place))["env"]] == ["A", "B"]


async def test_a_container_that_its_manager_leaves_out_goes_as_a_whole(cluster: Cluster, place: Place) -> None:
    two = [{"name": "main", "image": "registry.invalid/web:1"}, {"name": "proxy", "image": "registry.invalid/p:1"}]
    await cluster.apply(place.deployment(containers=two))
    await cluster.apply(place.deployment())
    assert [c["name"] for c in (await cluster.get(place.web))["spec"]["template"]["spec"]["containers"]] == ["main"]


async def test_a_list_without_merge_keys_is_replaced_as_a_whole(cluster: Cluster, place: Place) -> None:
    def with_command(*command: str) -> Object:
        return place.deployment(
            containers=[{"name": "main", "image": "registry.invalid/web:1", "command": list(command)}]
        )

    await cluster.apply(with_command("a", "b"))
    await cluster.apply(with_command("c"))
    assert (await container(cluster, place))["command"] == ["c"]


async def test_two_items_with_one_merge_key_are_refused(cluster: Cluster, place: Place) -> None:
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    with pytest.raises(Invalid, match="A"):
        await cluster.apply(_with_list(place, "env", twice))


async def test_uid_and_resource_version_are_preconditions(cluster: Cluster, place: Place) -> None:
    await cluster.apply(place.config_map(a="1"))
    for name in ("uid", "resourceVersion"):
        stale = place.config_map(a="2")
        stale["metadata"][name] = "99999"
        with pytest.raises(Conflict):
            await cluster.apply(stale)
    fresh = place.config_map(a="2")
    fresh["metadata"]["resourceVersion"] = (await cluster.get(place.settings))["metadata"]["resourceVersion"]
    assert await cluster.apply(fresh) is ApplyResult.CHANGED


async def test_what_was_read_or_given_may_be_changed_without_changing_what_is_stored(
    cluster: Cluster, place: Place
) -> None:
    given = place.config_map(a="1")
    await cluster.apply(given)
    given["data"]["a"] = "changed"
    (await cluster.get(place.settings))["data"]["a"] = "changed"
    listed = await cluster.list("v1", "ConfigMap", namespace=place.namespace)
    next(obj for obj in listed if ObjectKey.of(obj) == place.settings)["data"]["a"] = "changed"
    assert (await cluster.get(place.settings))["data"] == {"a": "1"}


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "dot.", "x" * 254, ""])
async def test_a_name_that_kubernetes_does_not_take_is_refused(cluster: Cluster, place: Place, name: str) -> None:
    with pytest.raises(Invalid):
        await cluster.apply(place.config_map(name))


async def test_a_job_cannot_change_its_template(cluster: Cluster, place: Place) -> None:
    job = place.deployment("build", containers=[{"name": "main", "image": "registry.invalid/web:1"}])
    job.update(apiVersion="batch/v1", kind="Job")
    del job["spec"]["selector"]
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    await cluster.apply(job)
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.invalid/web:2"
    with pytest.raises(Invalid, match=r"build.*template"):
        await cluster.apply(job)


async def test_a_cortex_index_with_mistakes_is_refused_with_all_of_them(cluster: Cluster, place: Place) -> None:
    wrong = place.index(spec__chunking__splitLength=0, spec__retrieval__topK=5000)
    with pytest.raises(Invalid) as refused:
        await cluster.apply(wrong)
    assert "splitLength" in str(refused.value)
    assert "topK" in str(refused.value)
    with pytest.raises(NotFound):
        await cluster.get(place.papers)


async def test_a_field_that_the_kind_does_not_have_is_refused_by_name(cluster: Cluster, place: Place) -> None:
    for wrong in (place.index(spec__typo=1), place.index(spec__chunking__typo=1)):
        with pytest.raises(Invalid, match="typo"):
            await cluster.apply(wrong)
    with pytest.raises(NotFound):
        await cluster.get(place.papers)


@pytest.mark.parametrize("amount", [2, 2.0, 0, "2.5", "500m"])
async def test_resources_take_whole_numbers_as_a_pod_does(cluster: Cluster, place: Place, amount: object) -> None:
    await cluster.apply(place.index(spec__resources={"limits": {"cpu": amount}}))
    stored = (await cluster.get(place.papers))["spec"]["resources"]["limits"]
    assert stored == {"cpu": amount}


@pytest.mark.parametrize("amount", [-1, 2.5, True, "-1", "2x", [2], 2**53, 2**70])
async def test_resources_take_no_other_number(cluster: Cluster, place: Place, amount: object) -> None:
    with pytest.raises(Invalid, match="cpu"):
        await cluster.apply(place.index(spec__resources={"requests": {"cpu": amount}}))


async def test_a_cortex_workflow_is_taken_and_its_nodes_are_kept_apart_by_name(cluster: Cluster, place: Place) -> None:
    manifest = place.workflow()
    await cluster.apply(manifest)
    key = ObjectKey.of(manifest)
    stored = (await cluster.get(key))["spec"]
    assert [node["name"] for node in stored["nodes"]] == [node["name"] for node in manifest["spec"]["nodes"]]
    assert await cluster.apply(manifest) is ApplyResult.UNCHANGED
    sooner = {"name": "retrieve", "type": "Search", "search": {"index": "papers", "query": "state.question"}}
    theirs = {**manifest, "spec": {**manifest["spec"], "nodes": [{**sooner, "timeout": "3s"}]}}
    await cluster.apply(theirs, field_manager="tuner")
    nodes = {node["name"]: node for node in (await cluster.get(key))["spec"]["nodes"]}
    assert nodes["retrieve"]["timeout"] == "3s"
    assert nodes.keys() == {node["name"] for node in manifest["spec"]["nodes"]}


def _only_replicas(place: Place, replicas: int) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": place.namespace},
        "spec": {"replicas": replicas},
    }


def _with_list(
    place: Place, field: str, items: list[dict[str, Any]], volumes: list[dict[str, Any]] | None = None
) -> Object:
    manifest = place.deployment(containers=[{"name": "main", "image": "registry.invalid/web:1", field: items}])
    if volumes:
        manifest["spec"]["template"]["spec"]["volumes"] = volumes
    return manifest
