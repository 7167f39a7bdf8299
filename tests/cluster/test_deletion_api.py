"""Deletions before a real API server. Pods of Jobs succeed here, without having run: where a Job is not to, a quota
keeps its pods away, and the test says how it ends."""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cortex_kube.client import Api
from cortex_operator.cluster import Conflict, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from deletions import Deletions
from objects import until, until_gone
from operators import OperatorProcess

FINALIZER = "cortex.datapunk.io/data-cleanup"


@pytest.fixture
def own(kubectl: Kubectl) -> Iterator[str]:
    """The operator's namespace, which enforces the restricted Pod Security Standard."""
    name = f"test-{secrets.token_hex(6)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}])
    kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=30s")
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def of(api_server: Path, namespace: str, own: str) -> AsyncIterator[Deletions]:
    async with await Api.connect(kubeconfig=api_server) as api:
        yield Deletions(KubernetesCluster(api), namespace, own)


async def cleaning(of: Deletions) -> None:
    """Passes until the Job is there: pods of fake nodes take a moment to end."""
    async with asyncio.timeout(60):
        while await of.job() is None:
            await eventually(of)
            await asyncio.sleep(0.1)


async def eventually(of: Deletions, seconds: float = 0) -> float | None:
    """A pass; again when the controllers wrote meanwhile."""
    while True:
        try:
            return await of.pass_(seconds)
        except Conflict:
            seconds = 0


async def test_the_policy_sets_and_removes_the_finalizer(of: Deletions, kubectl: Kubectl) -> None:
    await of.set_up()
    assert await of.finalizers() == [FINALIZER]
    where = f"--namespace={of.key.namespace}"
    kubectl("patch", "cxi", "papers", where, "--type=merge", '--patch={"spec":{"deletionPolicy":"Retain"}}')
    await eventually(of)
    assert await of.finalizers() == []
    with pytest.raises(BedError, match="Unsupported value"):
        kubectl("patch", "cxi", "papers", where, "--type=merge", '--patch={"spec":{"deletionPolicy":"Drop"}}')
    kubectl("delete", "cxi", "papers", where, "--timeout=30s")


@pytest.fixture
def no_pods(kubectl: Kubectl, own: str) -> None:
    """Jobs of the operator's namespace stay as they are."""
    about = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": own}}
    kubectl.apply([{**about, "spec": {"hard": {"pods": "0"}}}])
    kubectl("wait", "--for=jsonpath={.status.hard.pods}=0", "resourcequota/none", f"--namespace={own}", "--timeout=30s")


async def test_a_job_whose_pod_is_admitted_drops_the_data_and_nothing_is_left(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    async with asyncio.timeout(90):
        while await of.find() is not None:
            await eventually(of)
            await asyncio.sleep(0.1)
    assert await of.orphans() == []
    for api_version, kind in (("batch/v1", "Job"), ("v1", "Pod"), ("v1", "Secret")):
        async with asyncio.timeout(90):
            while await of.cluster.list(api_version, kind, namespace=of.own):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.1)


@pytest.mark.usefixtures("no_pods")
async def test_what_it_waits_for_stands_in_the_status_and_no_value_of_a_secret(of: Deletions, kubectl: Kubectl) -> None:
    await of.set_up()
    await of.delete()
    await cleaning(of)
    assert await of.secret() == {"dsn": "postgresql://lake/d", "url": "redis://s"}
    said = kubectl("describe", "cxi", "papers", f"--namespace={of.key.namespace}")
    assert "it is being deleted: Job" in said
    assert "it goes at" in said
    assert "postgresql://" not in said
    await of.job_ends("Complete")
    await eventually(of)
    assert await of.find() is None


@pytest.mark.usefixtures("no_pods")
async def test_after_the_drop_who_else_holds_it_stands_in_the_status_with_a_command_that_works(
    of: Deletions, kubectl: Kubectl
) -> None:
    await of.set_up()
    found = await of.find()
    assert found is not None
    await of.cluster.set_finalizers(found, [*await of.finalizers(), "example.com/foreign"])
    await of.delete()
    await cleaning(of)
    await of.job_ends("Complete")
    await eventually(of)
    assert await of.finalizers() == ["example.com/foreign"]
    assert await of.condition("DataCleanup") == ("False", "DataDropped", "its data is dropped")
    status, reason, said = await of.condition("Ready")
    assert (status, reason) == ("False", "WaitingForFinalizers")
    command = shlex.split(said.partition(": kubectl ")[2])
    kubectl(*command)
    assert await of.find() is None


@pytest.mark.usefixtures("no_pods")
async def test_a_job_that_fails_and_a_restart_in_the_middle(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await cleaning(of)
    of.restart()
    await eventually(of)
    await of.job_ends("Failed", "the Lake does not answer")
    of.restart()
    await eventually(of)
    assert await of.find() is None
    assert await of.orphans() == [(f"CortexIndex/{of.key.namespace}/papers", "CleanupFailed")]
    assert await of.secret() is None
    await of.apply("Retain")
    await eventually(of)
    assert await of.orphans() == []


@pytest.mark.usefixtures("no_pods")
async def test_a_policy_that_changes_meanwhile_ends_the_job_before_the_resource_goes(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await cleaning(of)
    await of.apply("Retain")
    async with asyncio.timeout(60):
        while await of.find() is not None:
            await eventually(of)
            await asyncio.sleep(0.1)
    assert await of.job() is None
    await eventually(of)
    assert await of.orphans() == [(f"CortexIndex/{of.key.namespace}/papers", "Retained")]
    assert "a part of it may be gone" in await of.record()


@pytest.mark.usefixtures("no_pods")
async def test_its_time_ends_whatever_the_job_does(of: Deletions) -> None:
    await of.set_up()
    await of.delete()
    await cleaning(of)
    await eventually(of, 601)
    assert await of.find() is None
    assert await of.orphans() == [(f"CortexIndex/{of.key.namespace}/papers", "CleanupTimedOut")]


@pytest.fixture
def operator(api_server: Path, tmp_path: Path, namespace: str, own: str) -> Iterator[OperatorProcess]:
    """With rights as the admin's, in two namespaces; its own is the one that is not `namespace`."""
    process = OperatorProcess(api_server, tmp_path / "operator.log", namespace, CORTEX_NAMESPACE=own)
    yield process
    process.kill()


@pytest.mark.usefixtures("no_pods")
async def test_a_namespace_that_is_deleted_ends(of: Deletions, kubectl: Kubectl, operator: OperatorProcess) -> None:
    """Its Secrets go first: the operator remembers what stood in them, and the Job is elsewhere."""
    await of.make_secrets()
    await of.apply("Delete")
    papers = ObjectKey("apps/v1", "Deployment", of.key.namespace, "papers-search")
    await until(of.cluster, papers, lambda _: True, 60)
    kubectl("delete", "namespace", of.key.namespace, "--wait=false")
    async with asyncio.timeout(90):
        while await of.secret() is None:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.1)
    assert await of.secret() == {"dsn": "postgresql://lake/d", "url": "redis://s"}
    await of.job_ends("Complete")
    await until_gone(of.cluster, ObjectKey("v1", "Namespace", "", of.key.namespace), 90)
    assert operator.messages("Traceback") == []


@pytest.mark.usefixtures("no_pods")
async def test_an_operator_that_was_down_finds_what_waits_for_it(
    of: Deletions, api_server: Path, tmp_path: Path, namespace: str, own: str
) -> None:
    await of.set_up()
    # Retain needs no operator, Delete waits for one.
    await of.delete()
    assert await of.find() is not None
    process = OperatorProcess(
        api_server, tmp_path / "operator.log", namespace, CORTEX_NAMESPACE=own, CORTEX_CLEANUP_SECONDS="8"
    )
    try:
        await until_gone(of.cluster, of.index, 60)
        ((name, reason),) = await of.orphans()
        assert name == f"CortexIndex/{namespace}/papers"
        # The Job's own time is over 0.8 s before the operator's; a busy machine may tell of that too late.
        assert reason in ("CleanupFailed", "CleanupTimedOut")
    finally:
        process.kill()
