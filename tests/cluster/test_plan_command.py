"""`cortex plan` before a real API server: what it names is what a real operator then changes, and it writes nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from builders import a_cortex_index_manifest, a_cortex_workflow_manifest
from cortex_kinds.base import API_VERSION
from cortex_kube.client import Api
from cortex_operator.cluster import Object, ObjectKey
from cortex_operator.cluster.kubernetes import KubernetesCluster
from cortex_operator.preview.changes import field_changes
from cortex_testbed.kubectl import Kubectl
from fault_proxy import FaultProxy
from objects import a_secret, until
from operators import IMAGES, SMALL_PODS, OperatorProcess

AUTOSCALING = {"minReplicas": 2, "maxReplicas": 4, "metrics": [{"type": "CPU", "target": "70"}]}
GPU = {"count": 2, "products": ["NVIDIA-L4"]}
OWNED = (
    "deployments,services,serviceaccounts,configmaps,poddisruptionbudgets,horizontalpodautoscalers,jobs,"
    "networkpolicies.networking.k8s.io"
)
Objects = dict[tuple[str, str], Object]
"""By kind and name."""
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({"spec__replicas": 2}, {"spec__replicas": 2}),
    "metadata": ({}, {"metadata__labels": {"team": "a"}}),
    "scale": ({"spec__replicas": 1}, {"spec__replicas": 3}),
    "image": ({}, {"spec__image": "registry.invalid/own:2"}),
    "env": ({"spec__env": [{"name": "A", "value": "1"}]}, {"spec__env": [{"name": "B", "value": "2"}]}),
    "gpu": ({}, {"spec__gpu": GPU}),
    "gpu-off": ({"spec__gpu": GPU}, {}),
    "autoscaling": ({"spec__replicas": 2}, {"spec__autoscaling": AUTOSCALING}),
    "manual": ({"spec__autoscaling": AUTOSCALING}, {"spec__replicas": 2}),
    "suspend": ({"spec__replicas": 2}, {"spec__replicas": 2, "spec__suspend": True}),
    "resume": ({"spec__replicas": 2, "spec__suspend": True}, {"spec__replicas": 2}),
    "resources": ({}, {"spec__resources": {"limits": {"memory": "128Mi"}}}),
}
REVISIONS = {
    "CortexIndex": ({}, {"spec__chunking__splitLength": 4}),
    "CortexWorkflow": ({}, {"spec__limits": {"steps": 20}}),
}
BUILDERS = {"CortexIndex": a_cortex_index_manifest, "CortexWorkflow": a_cortex_workflow_manifest}


def cortex_plan(kubeconfig: Path, *words: str | Path, stdin: str = "") -> tuple[int, str, str]:
    """The command: exit code, stdout, stderr."""
    return cortex(kubeconfig, "plan", *map(str, words), stdin=stdin)


def cortex(kubeconfig: Path, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """A command: exit code, stdout, stderr."""
    command = [sys.executable, "-m", "cortex_cli.main", *words, "--kubeconfig", str(kubeconfig)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


class Bed:
    """A namespace with the Secrets, a real operator and a Deployment that stands for it, as the chart makes one."""

    def __init__(self, api: Api, kubectl: Kubectl, namespace: str, folder: Path) -> None:
        self.cluster, self.kubectl, self.namespace, self._folder = KubernetesCluster(api), kubectl, namespace, folder

    async def prepare(self) -> None:
        for name, data in (("cortex-lake", {"dsn": "postgresql://h/d"}), ("cortex-state", {"url": "redis://h"})):
            await self.cluster.apply(a_secret(name, self.namespace, **data))
        await self.cluster.apply(self._operator())

    def _operator(self) -> Object:
        labels = {"app.kubernetes.io/part-of": "datapunk-cortex", "app.kubernetes.io/component": "operator"}
        variables = {**IMAGES, **SMALL_PODS, "CORTEX_WATCH_NAMESPACES": json.dumps([self.namespace])}
        env = [{"name": name, "value": value} for name, value in variables.items()]
        container = {"name": "operator", "image": "registry.invalid/operator:1", "env": env}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "operator", "namespace": self.namespace, "labels": labels},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }

    def manifest(self, kind: str, name: str, overrides: dict[str, Any]) -> Object:
        return BUILDERS[kind](metadata__namespace=self.namespace, metadata__name=name, **overrides)

    def written(self, name: str, manifests: list[Object]) -> Path:
        path = self._folder / name
        path.mkdir()
        for number, manifest in enumerate(manifests):
            (path / f"{number:02}.yaml").write_text(json.dumps(manifest))
        return path

    def apply(self, folder: Path) -> None:
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(folder))

    async def until_observed(self, manifests: list[Object]) -> None:
        for each in manifests:
            key = ObjectKey(API_VERSION, each["kind"], self.namespace, each["metadata"]["name"])
            await until(self.cluster, key, lambda obj: _settled(obj), 60)

    def objects(self) -> Objects:
        """What operators made, by kind and name."""
        labels = "app.kubernetes.io/managed-by=cortex-operator"
        found = self.kubectl.get(OWNED, f"--namespace={self.namespace}", "-l", labels, "--show-managed-fields")
        return {(obj["kind"], obj["metadata"]["name"]): obj for obj in found["items"]}

    async def until_quiet(self, holds: Callable[[Objects], bool] = lambda _: True, seconds: float = 30.0) -> Objects:
        """The objects, once the operator wrote nothing for a while; where it is not done yet although it rests it has
        `seconds` to come to what `holds`."""
        before, end = self.objects(), time.monotonic() + seconds
        while time.monotonic() < end + seconds:
            await asyncio.sleep(1.0)
            now = self.objects()
            if _marks(now) == _marks(before) and (holds(now) or time.monotonic() > end):
                return now
            before = now
        raise AssertionError("the operator does not come to rest")


def _settled(resource: Object) -> bool:
    return bool(resource.get("status", {}).get("observedGeneration") == resource["metadata"]["generation"])


def _ours(obj: Object) -> Any:
    """What the operator set of the object."""
    entries = obj["metadata"].get("managedFields") or ()
    return next((each["fieldsV1"] for each in entries if each["manager"] == "cortex-operator"), None)


def _marks(objects: Objects) -> dict[tuple[str, str], Any]:
    return {key: (obj["metadata"]["uid"], obj.get("spec"), obj.get("data"), _ours(obj)) for key, obj in objects.items()}


def differing(before: Objects, after: Objects) -> dict[tuple[str, str], str]:
    """What the operator did to each object that is not as it was."""
    made = {key: "Create" for key in after.keys() - before.keys()}
    gone = {key: "Delete" for key in before.keys() - after.keys()}
    both = [key for key in before.keys() & after.keys() if _differs(before[key], after[key])]
    return {**made, **gone, **dict.fromkeys(both, "Change")}


def _differs(before: Object, after: Object) -> bool:
    return bool(field_changes(before, after)) or _ours(before) != _ours(after)


def by_plan(document: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(each["kind"], each["name"]): each["action"] for plan in document["resources"] for each in plan["objects"]}


@pytest.fixture
async def bed(api_server: Path, kubectl: Kubectl, namespace: str, tmp_path: Path) -> AsyncIterator[Bed]:
    async with await Api.connect(kubeconfig=api_server) as api:
        found = Bed(api, kubectl, namespace, tmp_path)
        await found.prepare()
        yield found


async def planned(bed: Bed, folder: Path, proxy: FaultProxy) -> tuple[int, dict[str, Any]]:
    """The exit code and the document; nothing that was asked could have changed anything."""
    asked = len(proxy.asked)
    words = ("-f", folder, "-o", "json", "--operator-namespace", bed.namespace)
    code, out, err = await asyncio.to_thread(cortex_plan, proxy.kubeconfig, *words)
    assert code in (0, 2), err
    requests = proxy.asked[asked:]
    assert any(request.method == "PATCH" for request in requests)
    for request in requests:
        assert request.method == "GET" or "dryRun=All" in request.query, request
    return code, json.loads(out)


async def test_what_a_plan_names_is_what_the_operator_changes(api_server: Path, bed: Bed, tmp_path: Path) -> None:
    """Both kinds, a table of changes at once: each its own resource."""
    rows = {f"{name}-{kind[6].lower()}": (kind, *change) for kind in BUILDERS for name, change in CHANGES.items()}
    rows |= {f"revision-{kind[6].lower()}": (kind, *REVISIONS[kind]) for kind in BUILDERS}
    before = [bed.manifest(kind, name, old) for name, (kind, old, _) in rows.items()]
    after = [bed.manifest(kind, name, new) for name, (kind, _, new) in rows.items()]
    after += [bed.manifest(kind, f"create-{kind[6].lower()}", {"spec__replicas": 2}) for kind in BUILDERS]
    old, new = bed.written("old", before), bed.written("new", after)
    operator = OperatorProcess(api_server, tmp_path / "operator.log", bed.namespace)
    try:
        async with FaultProxy(tmp_path).before(api_server) as proxy:
            bed.apply(old)
            await bed.until_observed(before)
            was = await bed.until_quiet()
            assert (await planned(bed, old, proxy))[0] == 0

            code, document = await planned(bed, new, proxy)

            bed.apply(new)
            await bed.until_observed(after)
            wanted = by_plan(document)
            assert wanted == differing(was, await bed.until_quiet(lambda now: wanted == differing(was, now)))
            assert code == 2
            actions = {plan["name"]: plan["action"] for plan in document["resources"]}
            assert {name for name, action in actions.items() if action == "None"} == {"nothing-i", "nothing-w"}
            assert {name for name, action in actions.items() if action == "Create"} == {"create-i", "create-w"}
            revisions = {plan["name"] for plan in document["resources"] if plan["revision"]}
            assert {"revision-i", "revision-w", "create-i", "create-w"} <= revisions
            assert (await planned(bed, new, proxy))[0] == 0
    finally:
        operator.kill()


async def test_an_operator_whose_settings_nobody_can_read_changes_nothing_without_a_change(
    api_server: Path, bed: Bed, tmp_path: Path, pools: dict[str, list[str]]
) -> None:
    """It runs from source, and is set up unlike a release called "cortex"."""
    manifests = [bed.manifest(kind, f"plain-{kind[6].lower()}", {}) for kind in BUILDERS]
    manifests.append(bed.manifest("CortexIndex", "refused", {"spec__gpu": {"count": 1, "pool": "research"}}))
    new = bed.manifest("CortexIndex", "new", {"spec__gpu": {"count": 1, "pool": "research"}})
    folder, more = bed.written("old", manifests), bed.written("new", [new])
    told = {"gateway": {"app": "mine"}, "monitoring_namespaces": ["a", "b"], "extra_egress": [{"ports": [{"port": 1}]}]}
    operator = OperatorProcess(api_server, tmp_path / "operator.log", bed.namespace, CORTEX_ISOLATION=json.dumps(told))
    try:
        bed.apply(folder)
        await bed.until_observed(manifests)
        await bed.until_quiet()
        nowhere = ("--operator-namespace", "nowhere-at-all")

        code, out, err = await asyncio.to_thread(cortex_plan, api_server, "-f", folder, *nowhere)

        assert (code, err) == (0, ""), out
        assert "Nothing to do: 3 resources unchanged. 1 missing, 1 blocked: see above." in out
        assert "blocked: UnknownGPUPool: spec.gpu.pool is research, which is no pool of this release" in out
        assert "the operator's settings cannot be read: there is no operator in namespace nowhere-at-all" in out

        code, out, err = await asyncio.to_thread(cortex_plan, api_server, "-f", more, *nowhere)

        assert code == 2, err
        assert "    + Deployment new-search" in out
        why = "the release's GPU pools are not known, so neither is which nodes pool research has"
        assert f"    placement: fits unknown: {why}" in out
    finally:
        operator.kill()


async def test_who_may_not_read_secrets_is_told_of_no_drift(
    api_server: Path, bed: Bed, kubectl: Kubectl, tmp_path: Path
) -> None:
    manifests = [bed.manifest(kind, f"plain-{kind[6].lower()}", {}) for kind in BUILDERS]
    folder, mine = bed.written("old", manifests), as_reviewer(kubectl, bed.namespace, tmp_path)
    operator = OperatorProcess(api_server, tmp_path / "operator.log", bed.namespace)
    try:
        bed.apply(folder)
        await bed.until_observed(manifests)
        await bed.until_quiet()

        code, out, err = await asyncio.to_thread(cortex_plan, mine, "-f", folder)

        assert (code, err) == (0, ""), out
    finally:
        operator.kill()


def rights(namespace: str) -> list[Object]:
    """Of a ServiceAccount `reviewer`, who may look at all but Secrets, in this namespace alone."""
    meta, group = {"name": "reviewer", "namespace": namespace}, "rbac.authorization.k8s.io"
    groups = {
        ("cortex.datapunk.io", "apps", "batch", "policy", "autoscaling", "networking.k8s.io"): ["*"],
        ("",): ["services", "serviceaccounts", "configmaps", "pods"],
    }
    verbs = ["get", "list"]
    rules = [{"apiGroups": [*names], "resources": resources, "verbs": verbs} for names, resources in groups.items()]
    role = {"apiGroup": group, "kind": "Role", "name": "reviewer"}
    subject = {"kind": "ServiceAccount", **meta}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": rules},
        {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": meta, "roleRef": role, "subjects": [subject]},
    ]


def as_reviewer(kubectl: Kubectl, namespace: str, folder: Path) -> Path:
    kubectl.apply(rights(namespace))
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    token = kubectl("create", "token", "reviewer", f"--namespace={namespace}").strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / "reviewer.kubeconfig"
    path.write_text(json.dumps(config))
    return path


async def test_what_a_user_may_not_read_is_said(bed: Bed, kubectl: Kubectl, tmp_path: Path) -> None:
    manifest = bed.manifest("CortexIndex", "papers", {"spec__gpu": GPU})
    folder, mine = bed.written("new", [manifest]), as_reviewer(kubectl, bed.namespace, tmp_path)

    code, out, err = await asyncio.to_thread(cortex_plan, mine, "-f", folder, "-o", "json")

    assert code == 2, err
    document = json.loads(out)
    (plan,) = document["resources"]
    assert {each["action"] for each in plan["objects"]} == {"Create"}
    assert plan["missing"] == []
    assert plan["placement"]["fits"] == "Unknown"
    assert plan["placement"]["message"] == "Nodes cannot be listed: you may not list nodes in all namespaces (RBAC)"
    notes = "\n".join(document["notes"])
    assert f"you may not patch cortexindexes.cortex.datapunk.io in namespace {bed.namespace} (RBAC)" in notes
    assert "the operator's settings cannot be read: you may not list deployments.apps in namespace" in notes
    (unread,) = [note for note in document["notes"] if note.startswith("you may not read")]
    assert f"Secret in namespace {bed.namespace}" in unread
    assert "Node in all namespaces" in unread
    assert "grant it to the operator" not in out


async def test_credentials_that_are_not_known_are_no_missing_right(bed: Bed, kubectl: Kubectl, tmp_path: Path) -> None:
    folder, mine = bed.written("new", [bed.manifest("CortexIndex", "papers", {})]), tmp_path / "stranger.kubeconfig"
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    mine.write_text(json.dumps({**config, "users": [{**each, "user": {"token": "old"}} for each in config["users"]]}))

    for words in (["plan", "-f", str(folder)], ["gpus"], ["orphans"]):
        code, out, err = await asyncio.to_thread(cortex, mine, *words)
        assert (code, out) == (1, "")
        assert err == (
            "error: the API server does not know the credentials of this kubeconfig (401): log in anew, or choose "
            "others (--kubeconfig, --context)\n"
        )


async def test_who_may_only_look_is_told_of_a_namespace_that_is_not_there(
    bed: Bed, kubectl: Kubectl, tmp_path: Path
) -> None:
    mine, name = as_reviewer(kubectl, bed.namespace, tmp_path), f"{bed.namespace}-viewer"
    kinds = "cortexindexes.cortex.datapunk.io,namespaces"
    kubectl("create", "clusterrole", name, "--verb=get,list", f"--resource={kinds}")
    subject = f"--serviceaccount={bed.namespace}:reviewer"
    kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", subject)
    elsewhere = bed.written("elsewhere", [a_cortex_index_manifest(metadata__namespace="nowhere-at-all")])
    try:
        code, out, err = await asyncio.to_thread(cortex_plan, mine, "-f", elsewhere)
    finally:
        kubectl("delete", f"clusterrolebinding/{name}", f"clusterrole/{name}")

    assert (code, out) == (1, "")
    assert "there is no namespace nowhere-at-all: create it (kubectl create namespace nowhere-at-all)" in err


async def test_a_plan_reads_as_a_reviewer_wants_it(bed: Bed, api_server: Path, pools: dict[str, list[str]]) -> None:
    workflow = bed.manifest("CortexWorkflow", "helpdesk", {})
    index = bed.manifest("CortexIndex", "papers", {"spec__gpu": {"count": 1, "products": ["NVIDIA-B200"]}})
    folder = bed.written("new", [workflow, index])

    words = ("-f", folder, "--operator-namespace", bed.namespace)
    code, out, _ = await asyncio.to_thread(cortex_plan, api_server, *words)

    assert code == 2
    text = out.splitlines()
    assert text[0] == f"+ CortexWorkflow {bed.namespace}/helpdesk: created"
    assert "    + Deployment papers-search" in text
    assert "    pods: 0 -> 1" in text
    assert "    GPUs: 0 -> 1 nvidia.com/gpu (+1)" in text
    assert any(line.startswith("    placement: no room now: asks for 1 nvidia.com/gpu") for line in text)
    assert any(line.startswith("    revision: ") and ", the first build" in line for line in text)
    assert text[-1].startswith("Plan: 2 created; objects: 12 created; pods: 0 -> 2, 0 replaced; +1 nvidia.com/gpu.")


async def test_what_kubectl_applied_without_server_side_is_taken_away_like_it_does(
    bed: Bed, api_server: Path, tmp_path: Path
) -> None:
    first = bed.written("first", [bed.manifest("CortexIndex", "papers", {"spec__replicas": 2})])
    second = bed.manifest("CortexIndex", "papers", {})
    bed.kubectl("apply", "-f", str(first))

    words = ("-f", "-", "-o", "json", "--operator-namespace", bed.namespace)
    _, out, _ = await asyncio.to_thread(lambda: cortex_plan(api_server, *words, stdin=json.dumps(second)))

    (plan,) = json.loads(out)["resources"]
    assert plan["fields"] == [{"path": "spec.replicas", "before": 2, "after": None}]


async def test_mistakes_end_with_1_and_what_validate_says(bed: Bed, api_server: Path) -> None:
    wrong = bed.written("wrong", [bed.manifest("CortexIndex", "papers", {"spec__replica": 2})])
    elsewhere = bed.written("elsewhere", [a_cortex_index_manifest(metadata__namespace="nowhere-at-all")])

    code, out, err = await asyncio.to_thread(cortex_plan, api_server, "-f", wrong)
    assert (code, out) == (1, "")
    assert "spec.replica" in err
    assert "did you mean replicas?" in err

    code, _, err = await asyncio.to_thread(cortex_plan, api_server, "-f", elsewhere)
    assert code == 1
    assert "there is no namespace nowhere-at-all: create it (kubectl create namespace nowhere-at-all)" in err

    code, _, err = await asyncio.to_thread(cortex_plan, api_server, "-f", elsewhere, "-n", bed.namespace)
    assert (code, "is in namespace nowhere-at-all, but -n says" in err) == (1, True)
    assert (await asyncio.to_thread(cortex_plan, api_server, "--no-such-option"))[0] == 1
