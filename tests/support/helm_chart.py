"""The chart as helm renders it; shields tests from helm's command line and from finding an object in its output."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from cortex_testbed import binaries
from cortex_testbed.paths import BIN

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts/datapunk-cortex"
TRIAL: Final = CHART / "values-trial.yaml"
Object = dict[str, Any]


def helm(
    *words: str | Path, values: Mapping[str, Any] | None = None, kubeconfig: Path | str = os.devnull
) -> subprocess.CompletedProcess[str]:
    """helm on a cluster, or on none; `values` come after the value files among the words."""
    assert not binaries.missing(["helm"]), "these tests need helm: `make binaries` (minutes, once)"
    command = [BIN / "helm", *words, *(["--values", "-"] if values else [])]
    text = yaml.safe_dump(dict(values)) if values else None
    # Never the cluster that the person who runs the tests has.
    env = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    return subprocess.run(list(map(str, command)), input=text, env=env, capture_output=True, text=True, check=False)


def render(*words: str | Path, values: Mapping[str, Any] | None = None, release: str = "cortex") -> str:
    """`helm template` into the namespace cortex-system; fails with helm's message."""
    done = helm("template", release, CHART, "--namespace", "cortex-system", *words, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(*words: str | Path, values: Mapping[str, Any] | None = None) -> str:
    """What `helm template` says against these values; fails when it takes them."""
    done = helm("template", "cortex", CHART, *words, values=values)
    assert done.returncode != 0, "helm took the values"
    return done.stderr


def notes(*words: str | Path, values: Mapping[str, Any] | None = None) -> str:
    """What `helm install` prints for people."""
    done = helm("install", "cortex", CHART, "--namespace", "cortex-system", "--dry-run=client", *words, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:\n")[2]


def objects(text: str) -> list[Object]:
    """The objects of a rendered chart."""
    return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]


def pick(found: Iterable[Object], kind: str, name: str, namespace: str = "cortex-system") -> Object:
    """The object; fails when it is not there."""
    there = {(o["kind"], o["metadata"]["name"], o["metadata"].get("namespace", namespace)): o for o in found}
    assert (kind, name, namespace) in there, f"{kind} {namespace}/{name} is not among {sorted(there)}"
    return there[kind, name, namespace]


def containers(found: Iterable[Object]) -> dict[str, Object]:
    """Every container of the release's own pods, by its name."""
    pods = [o["spec"]["template"]["spec"] for o in found if o["kind"] in ("Deployment", "StatefulSet")]
    return {container["name"]: container for pod in pods for container in pod["containers"]}


@contextmanager
def installed(
    kubeconfig: Path, namespace: str, *words: str | Path, values: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """A release "cortex" in the namespace while the context is open; the CRDs are there already."""
    where = f"--namespace={namespace}"
    done = helm(
        "install", "cortex", CHART, where, "--set=crds.enabled=false", *words, values=values, kubeconfig=kubeconfig
    )
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        helm("uninstall", "cortex", where, kubeconfig=kubeconfig)
