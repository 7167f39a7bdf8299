"""The API server takes the release: restricted Pod Security, rights that are granted and those that are not."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl
from cortex_testbed.paths import BIN
from helm_chart import TRIAL, helm, installed, objects

Install = Callable[..., None]
GROUP = "cortex.datapunk.io"


@pytest.fixture
def install(api_server: Path, namespace: str) -> Iterator[Install]:
    """Installs a release in the test's namespace, whose CRDs are there already; uninstalls it afterwards."""

    with ExitStack() as releases:
        yield lambda *words, **values: releases.enter_context(installed(api_server, namespace, *words, values=values))


def review(kubectl: Kubectl, user: str, asked: list[dict[str, str]]) -> list[bool]:
    """Whether `user` may do each, by the API server's own authorizer."""
    head = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    items = [{**head, "spec": {"user": user, "groups": groups(user), "resourceAttributes": one}} for one in asked]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    said = kubectl("create", "--output=jsonpath={.status.allowed} ", "--filename=-", stdin=text)
    return [word == "true" for word in said.split()]


def until_decided(kubectl: Kubectl, user: str, asked: list[dict[str, str]], wanted: list[bool]) -> None:
    """Returns when the authorizer decides so; it hears of rights a moment after they are made."""
    deadline = time.monotonic() + 60
    while (found := review(kubectl, user, asked)) != wanted:
        assert time.monotonic() < deadline, list(zip(asked, found, wanted, strict=True))
        time.sleep(0.1)


def groups(user: str) -> list[str]:
    account = user.startswith("system:serviceaccount:")
    return ["system:authenticated", *(["system:serviceaccounts"] if account else [])]


def may(verb: str, group: str, resource: str, namespace: str = "", name: str = "") -> dict[str, str]:
    resource, _, subresource = resource.partition("/")
    about = {"group": group, "resource": resource, "subresource": subresource, "namespace": namespace, "name": name}
    return {"verb": verb, **about}


def pods(api_server: Path, namespace: str) -> dict[str, dict[str, Any]]:
    """The release's pod templates as Pods, by the name of their owner; a claim, which its controller would put in, as
    an empty volume."""
    manifest = helm("get", "manifest", "cortex", f"--namespace={namespace}", kubeconfig=api_server).stdout
    found: dict[str, dict[str, Any]] = {}
    for owner in objects(manifest):
        if template := owner.get("spec", {}).get("template"):
            name = owner["metadata"]["name"]
            if "volumeClaimTemplates" in owner["spec"]:
                template["spec"]["volumes"].append({"name": "data", "emptyDir": {}})
            metadata = {**template["metadata"], "name": name}
            found[name] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    return found


def refused(kubectl: Kubectl, namespace: str, pod: dict[str, Any]) -> str:
    """What the API server says against the pod; empty when it takes it."""
    try:
        kubectl("create", "--dry-run=server", f"--namespace={namespace}", "--filename=-", stdin=json.dumps(pod))
    except BedError as error:
        return str(error)
    return ""


def test_every_pod_passes_the_restricted_standard(
    api_server: Path, kubectl: Kubectl, namespace: str, install: Install
) -> None:
    install("--values", TRIAL)
    found = pods(api_server, namespace)

    assert sorted(found) == [f"datapunk-cortex-{role}" for role in ("api", "lake", "operator", "state")]
    for pod in found.values():
        assert refused(kubectl, namespace, pod) == ""
        loose = copy.deepcopy(pod)
        del loose["spec"]["containers"][0]["securityContext"]["capabilities"]
        assert "violates PodSecurity" in refused(kubectl, namespace, loose)


def test_controllers_make_the_pods(kubectl: Kubectl, namespace: str, install: Install) -> None:
    off = {"persistence": {"enabled": False}}
    install("--values", TRIAL, trial={"lake": off, "state": off})

    for component in ("operator", "gateway", "lake", "state"):
        selector = f"--selector=app.kubernetes.io/instance=cortex,app.kubernetes.io/component={component}"
        kubectl("wait", "--for=create", "pod", selector, f"--namespace={namespace}", "--timeout=55s")


def test_a_cluster_wide_release_serves_all_namespaces(kubectl: Kubectl, namespace: str, install: Install) -> None:
    install()
    operator, gateway = (f"system:serviceaccount:{namespace}:datapunk-cortex-{name}" for name in ("operator", "api"))
    granted = [
        may("watch", GROUP, "cortexindexes"),
        may("patch", GROUP, "cortexindexes", "default"),
        may("patch", GROUP, "cortexworkflows/status", "default"),
        may("patch", "apps", "deployments", "default"),
        may("delete", "batch", "jobs", "default"),
        may("get", "", "secrets", "default"),
        may("list", "", "nodes"),
        may("get", "", "namespaces", "default", "default"),
        may("update", "coordination.k8s.io", "leases", namespace, "datapunk-cortex-operator"),
        may("create", "coordination.k8s.io", "leases", namespace),
    ]
    denied = [
        may("update", "coordination.k8s.io", "leases", namespace, "another"),
        may("list", "coordination.k8s.io", "leases", namespace),
        may("update", "coordination.k8s.io", "leases", "default"),
        may("update", GROUP, "cortexindexes", "default"),
        may("delete", GROUP, "cortexindexes", "default"),
        may("patch", "", "secrets", "default"),
        may("list", "", "secrets", "default"),
        may("delete", "", "pods", "default"),
        may("update", "", "nodes"),
        may("create", "rbac.authorization.k8s.io", "clusterroles"),
    ]

    until_decided(kubectl, operator, granted + denied, [True] * len(granted) + [False] * len(denied))
    asked = [
        may("watch", GROUP, "cortexindexes"),
        may("watch", "discovery.k8s.io", "endpointslices"),
        may("get", "", "secrets", "default"),
        may("patch", GROUP, "cortexindexes/status", "default"),
        may("create", "apps", "deployments", namespace),
    ]
    until_decided(kubectl, gateway, asked, [True, True, False, False, False])


def test_a_namespaced_release_serves_its_namespaces_alone(kubectl: Kubectl, namespace: str, install: Install) -> None:
    install(watchNamespaces=[namespace])
    operator, gateway = (f"system:serviceaccount:{namespace}:datapunk-cortex-{name}" for name in ("operator", "api"))
    rights = [("watch", GROUP, "cortexindexes"), ("patch", "apps", "deployments"), ("get", "", "secrets")]

    until_decided(kubectl, operator, [may(*right, namespace) for right in rights], [True] * 3)
    assert review(kubectl, operator, [may(*right, "default") for right in rights]) == [False] * 3
    assert review(kubectl, operator, [may("list", "", "nodes"), may("watch", GROUP, "cortexindexes")]) == [False] * 2
    asked = [may("watch", GROUP, "cortexindexes", n) for n in (namespace, "default")]
    until_decided(kubectl, gateway, asked, [True, False])
    acting = [f"--as={operator}", *(f"--as-group={group}" for group in groups(operator))]
    assert kubectl.get("namespace", namespace, *acting)["metadata"]["labels"]  # for spec.access.allowedNamespaces
    roles = kubectl.get("clusterroles,clusterrolebindings")["items"]
    assert [o["metadata"]["name"] for o in roles if o["metadata"]["name"].startswith(f"{namespace}:")] == []


def test_who_may_view_or_edit_in_a_namespace_may_do_so_with_the_two_kinds(
    kubectl: Kubectl, namespace: str, install: Install
) -> None:
    install()
    for role in ("view", "edit"):
        kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}er", f"--namespace={namespace}")
    asked = [
        may("get", GROUP, "cortexindexes", namespace),
        may("create", GROUP, "cortexworkflows", namespace),
        may("patch", GROUP, "cortexindexes/status", namespace),
    ]
    wanted = {"viewer": [True, False, False], "editer": [True, True, False]}
    deadline = time.monotonic() + 60
    while (found := {user: review(kubectl, user, asked) for user in wanted}) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)  # a controller adds the rules to the built-in roles

    assert found == wanted


def test_the_printed_commands_make_the_secrets_that_the_chart_makes(
    api_server: Path, kubectl: Kubectl, namespace: str, install: Install
) -> None:
    where = f"--namespace={namespace}"
    install("--values", TRIAL, resourceNamespaces=[namespace])
    made = {name: kubectl.get("secret", name, where)["data"] for name in ("cortex-lake", "cortex-state")}
    kubectl("delete", "secret", *made, where)
    notes = helm("get", "notes", "cortex", where, kubeconfig=api_server).stdout
    commands = re.findall(r"^ +kubectl -n NAMESPACE create secret (?:.*\\\n)*.*", notes, re.MULTILINE)

    env = {**os.environ, "KUBECONFIG": str(api_server), "PATH": f"{BIN}:{os.environ['PATH']}"}
    for command in commands:
        subprocess.run(["bash", "-euc", command.replace("NAMESPACE", namespace)], env=env, check=True)

    assert {name: kubectl.get("secret", name, where)["data"] for name in made} == made


@pytest.mark.parametrize("case", ["default", "trial", "production", "namespaced"])
def test_strict_validation_finds_no_unknown_field(kubectl: Kubectl, namespace: str, case: str) -> None:
    golden = (Path(__file__).parents[1] / f"unit/chart/golden/{case}.yaml").read_text()
    for name in ("cortex-system", "team-a", "team-b", "default"):
        golden = golden.replace(f"namespace: {name}\n", f"namespace: {namespace}\n")

    kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-", stdin=golden)
