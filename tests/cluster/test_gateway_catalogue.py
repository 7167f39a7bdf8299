"""The gateway's catalogue on a real API server: what changes is seen at once, what may not be read is named."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from cortex_kube.client import Api, Conflict, Forbidden, Invalid, NotFound
from cortex_kube.resources import path
from cortex_workloads.runtime.catalogue import INDEX, WORKFLOW, Endpoint
from cortex_workloads.runtime.catalogue_kubernetes import KubernetesCatalogue, State
from cortex_workloads.runtime.errors import NotFound as NoSuch
from cortex_workloads.runtime.errors import Unavailable

CORTEX = "cortex.datapunk.io/v1alpha1"
RBAC = "rbac.authorization.k8s.io/v1"
APPLY = "application/apply-patch+yaml"
RULES = [
    {
        "apiGroups": ["cortex.datapunk.io", "discovery.k8s.io"],
        "resources": ["cortexindexes", "cortexworkflows", "endpointslices"],
        "verbs": ["get", "list", "watch"],
    }
]


def an_index(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": CORTEX, "kind": INDEX, "metadata": {"name": name}, "spec": spec}


def a_slice(name: str, service: str, address: str, part_of: str = "datapunk-cortex") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service, "app.kubernetes.io/part-of": part_of}
    endpoint = {"addresses": [address], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "p"}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 50052}],
        "endpoints": [endpoint],
    }


class Place:
    """A namespace of the cluster, and the admin in it."""

    def __init__(self, admin: Api, kubeconfig: Path, namespace: str) -> None:
        self.admin, self.namespace = admin, namespace
        config = yaml.safe_load(kubeconfig.read_text())
        for user in config["users"]:
            user["user"] = "USER"
        self._kubeconfig = json.dumps(config).replace('"USER"', "USER")

    async def apply(
        self, item: dict[str, Any], subresource: str | None = None, manager: str = "test"
    ) -> dict[str, Any]:
        where = path(item["apiVersion"], item["kind"], self.namespace, item["metadata"]["name"], subresource)
        query = {"fieldManager": manager}
        return await self.admin.request("PATCH", where, query=query, body=item, content_type=APPLY)

    async def delete(self, item: dict[str, Any]) -> None:
        where = path(item["apiVersion"], item["kind"], self.namespace, item["metadata"]["name"])
        await self.admin.request("DELETE", where)

    async def account(self, name: str, directory: Path, rules: list[dict[str, Any]]) -> Path:
        """A kubeconfig of a new ServiceAccount with these rights in the namespace."""
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        await self.apply(account)
        await self.grant(name, rules)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        where = path("v1", "ServiceAccount", self.namespace, name, "token")
        token = (await self.admin.request("POST", where, body=asked))["status"]["token"]
        file = directory / f"{name}.kubeconfig"
        file.write_text(self._kubeconfig.replace("USER", json.dumps({"token": token})))
        return file

    async def grant(self, account: str, rules: list[dict[str, Any]]) -> None:
        metadata = {"name": account}
        await self.apply({"apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": rules})
        subject = {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account}
        await self.apply(
            {"apiVersion": RBAC, "kind": "RoleBinding", "metadata": metadata, "subjects": [subject], "roleRef": role}
        )


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


@pytest.fixture
async def place(stack: AsyncExitStack, api_server: Path, namespace: str) -> Place:
    admin = await stack.enter_async_context(await Api.connect(kubeconfig=api_server))
    return Place(admin, api_server, namespace)


@pytest.fixture
async def catalogue(stack: AsyncExitStack, place: Place) -> KubernetesCatalogue:
    made = await stack.enter_async_context(KubernetesCatalogue(place.admin, (place.namespace,)))
    await until(made, lambda state: state.ok)
    return made


async def until(catalogue: KubernetesCatalogue, wanted: Callable[[State], bool], seconds: float = 60) -> State:
    async with asyncio.timeout(seconds):
        async for state in catalogue.states():
            if wanted(state):
                return state
    raise AssertionError("states ended")


async def seen(catalogue: KubernetesCatalogue, what: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await catalogue.changed(catalogue.version)


async def test_resources_are_seen_as_they_come_change_and_go(place: Place, catalogue: KubernetesCatalogue) -> None:
    papers = an_index("papers")
    await place.apply(papers)
    await seen(catalogue, lambda: bool(catalogue.list(INDEX)))
    found = catalogue.get(INDEX, place.namespace, "papers")
    assert found.ready is None
    assert "managedFields" not in found.manifest["metadata"]
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    await place.apply({**papers, "status": {"conditions": [condition]}}, "status", "operator")
    await seen(catalogue, lambda: catalogue.get(INDEX, place.namespace, "papers").ready is not None)
    await place.delete(papers)
    await seen(catalogue, lambda: not catalogue.list(INDEX))
    assert catalogue.list(WORKFLOW) == []


async def test_what_is_there_already_is_in_the_first_list(place: Place, stack: AsyncExitStack) -> None:
    for name in ("a", "b", "c"):
        await place.apply(an_index(name))
    made = await stack.enter_async_context(KubernetesCatalogue(place.admin, (place.namespace,)))
    await until(made, lambda state: state.ok)
    assert [resource.name for resource in made.list(INDEX)] == ["a", "b", "c"]


async def test_ready_pods_come_from_the_slices_of_our_services(place: Place, catalogue: KubernetesCatalogue) -> None:
    service = "papers-search-headless"
    await place.apply(a_slice("foreign", service, "10.1.1.9", part_of="something-else"))
    first, second = a_slice("one", service, "10.1.1.1"), a_slice("two", service, "10.1.1.2")
    for item in (first, second):
        await place.apply(item)
    addresses = lambda: {e.address for e in catalogue.endpoints(service, place.namespace)}  # noqa: E731
    await seen(catalogue, lambda: addresses() == {"10.1.1.1", "10.1.1.2"})
    assert Endpoint("10.1.1.1", {"grpc": 50052}, "p") in catalogue.endpoints(service, place.namespace)
    await place.apply({**first, "endpoints": [{"addresses": ["10.1.1.1"], "conditions": {"ready": False}}]})
    await seen(catalogue, lambda: addresses() == {"10.1.1.2"})
    await place.delete(second)
    await seen(catalogue, lambda: not addresses())


async def test_a_slice_made_by_the_cluster_has_the_labels_of_its_service(
    place: Place, catalogue: KubernetesCatalogue
) -> None:
    """Without selector labels on the slices nothing would be found: the controller copies those of the Service."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "papers-search-headless", "labels": {"app.kubernetes.io/part-of": "datapunk-cortex"}},
        "spec": {"clusterIP": "None", "selector": {"app": "x"}, "ports": [{"name": "grpc", "port": 50052}]},
    }
    await place.apply(service)
    await seen(catalogue, lambda: "papers-search-headless" in {name for _, name in catalogue._snapshot.slices})


async def test_one_namespace_is_enough_with_rights_in_that_one(
    place: Place, stack: AsyncExitStack, tmp_path: Path
) -> None:
    kubeconfig = await place.account("gateway", tmp_path, RULES)
    api = await stack.enter_async_context(await Api.connect(kubeconfig=kubeconfig))
    made = await stack.enter_async_context(KubernetesCatalogue(api, (place.namespace,)))
    await until(made, lambda state: state.ok)
    await place.apply(an_index("papers"))
    await seen(made, lambda: bool(made.list(INDEX)))


async def test_missing_rights_are_named_and_tried_again(place: Place, stack: AsyncExitStack, tmp_path: Path) -> None:
    some = [{**RULES[0], "resources": ["cortexworkflows"]}]
    kubeconfig = await place.account("gateway", tmp_path, some)
    api = await stack.enter_async_context(await Api.connect(kubeconfig=kubeconfig))
    made = await stack.enter_async_context(KubernetesCatalogue(api, (place.namespace,)))
    lacking = "cortexindexes.cortex.datapunk.io, endpointslices.discovery.k8s.io"
    # The API server's answers may come one by one, and its authorizer hear of the rights a moment later.
    state = await until(made, lambda state: state.reason == "Forbidden" and f" {lacking}:" in state.message)
    assert f"system:serviceaccount:{place.namespace}:gateway" in state.message
    assert "cortexworkflows" not in state.message
    await place.grant("gateway", RULES)
    await until(made, lambda state: state.ok)


async def test_who_may_list_but_not_watch_is_told_and_not_ready_to_be_trusted(
    place: Place, stack: AsyncExitStack, tmp_path: Path
) -> None:
    kubeconfig = await place.account("gateway", tmp_path, [{**RULES[0], "verbs": ["get", "list"]}])
    api = await stack.enter_async_context(await Api.connect(kubeconfig=kubeconfig))
    made = await stack.enter_async_context(KubernetesCatalogue(api, (place.namespace,)))
    await until(made, lambda state: state.reason == "Forbidden" and "cannot watch resource" in state.message)


async def test_a_namespace_that_may_not_be_looked_into_takes_nothing_from_the_others(
    place: Place, stack: AsyncExitStack, tmp_path: Path
) -> None:
    gone = f"{place.namespace}-gone"
    await place.apply(an_index("papers"))
    kubeconfig = await place.account("gateway", tmp_path, RULES)
    api = await stack.enter_async_context(await Api.connect(kubeconfig=kubeconfig))
    made = await stack.enter_async_context(KubernetesCatalogue(api, (gone, place.namespace)))
    state = await until(made, lambda state: state.enough)
    assert (state.ok, state.reason) == (False, "Forbidden")
    assert gone in state.message
    assert made.get(INDEX, place.namespace, "papers").name == "papers"
    with pytest.raises(Unavailable, match="may not look into") as unknown:
        made.get(INDEX, gone, "papers")
    assert unknown.value.reason == "NamespaceForbidden"
    with pytest.raises(NoSuch, match="there is no"):
        made.get(INDEX, place.namespace, "paper")


async def test_the_servers_own_words_are_in_the_errors(place: Place, stack: AsyncExitStack, tmp_path: Path) -> None:
    where = path(CORTEX, INDEX, place.namespace, "papers")
    with pytest.raises(NotFound, match=r'cortexindexes.cortex.datapunk.io "papers" not found') as missing:
        await place.admin.request("GET", where)
    assert (missing.value.status, missing.value.reason) == (404, "NotFound")
    with pytest.raises(Invalid, match="replicas"):
        await place.apply(an_index("papers", replicas=-1))
    with pytest.raises(Invalid, match="field not declared in schema"):
        await place.apply(an_index("papers", nope=1))
    await place.apply(an_index("papers", replicas=1))
    with pytest.raises(Conflict, match='conflict with "test"') as conflict:
        await place.apply(an_index("papers", replicas=2), manager="other")
    assert conflict.value.details["causes"][0]["field"] == ".spec.replicas"
    kubeconfig = await place.account("nobody", tmp_path, [])
    nobody = await stack.enter_async_context(await Api.connect(kubeconfig=kubeconfig))
    with pytest.raises(Forbidden, match='cannot get resource "cortexindexes"'):
        await nobody.request("GET", where)


async def test_a_list_in_pages_is_the_whole_list(place: Place) -> None:
    for number in range(5):
        await place.apply(an_index(f"index-{number}"))
    items, version = await place.admin.list(path(CORTEX, INDEX, place.namespace), page=2)
    assert [item["metadata"]["name"] for item in items] == [f"index-{number}" for number in range(5)]
    assert {(item["apiVersion"], item["kind"]) for item in items} == {(CORTEX, INDEX)}
    assert int(version) > 0


async def test_a_watch_ends_by_its_time(place: Place) -> None:
    collection = path(CORTEX, INDEX, place.namespace)
    _, version = await place.admin.list(collection)
    begun = time.monotonic()
    events = [event async for event in place.admin.watch(collection, resource_version=version, timeout=1)]
    assert time.monotonic() - begun < 60
    assert all(event["type"] == "BOOKMARK" for event in events)
