"""Volumes as directories; shields the runner from the fact that nothing can be mounted without privileges.

A process sees a volume where it lies: values of its environment and words of its command that begin with a mount path
are rewritten to the directory.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cortex_operator.cluster.port import Object

from cortex_cli.local.environment import ContainerConfigError, Lookup, decoded
from cortex_cli.local.launch import write_private


async def mount(pod: Object, root: Path, lookup: Lookup) -> dict[str, Path]:
    """Makes the directories of the pod's volumes; mount path -> directory. Raises ContainerConfigError."""
    namespace = pod["metadata"]["namespace"]
    mounts = pod["spec"]["containers"][0].get("volumeMounts", [])
    wanted = {m["name"] for m in mounts}
    places: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes", []):
        if volume["name"] in wanted:
            places[volume["name"]] = await _place(volume, namespace, pod_directory(pod, root), root, lookup)
    missing = wanted - places.keys()
    if missing:
        raise ContainerConfigError(f"volumes that are mounted and not defined: {', '.join(sorted(missing))}")
    return {m["mountPath"]: places[m["name"]] / m.get("subPath", "") for m in mounts}


def rewrite(value: str, mounts: dict[str, Path]) -> str:
    """The value with a mount path at its beginning replaced by the directory."""
    for path in sorted(mounts, key=len, reverse=True):
        if value == path or value.startswith(path.rstrip("/") + "/"):
            return str(mounts[path]) + value[len(path.rstrip("/")) :]
    return value


def pod_directory(pod: Object, root: Path) -> Path:
    """Where the volumes of one pod lie, which go with it."""
    meta = pod["metadata"]
    return root / "pods" / str(meta["namespace"]) / str(meta["name"])


def remove(pod: Object, root: Path) -> None:
    """Removes the volumes that go with the pod."""
    shutil.rmtree(pod_directory(pod, root), ignore_errors=True)


async def _place(volume: Object, namespace: str, own: Path, root: Path, lookup: Lookup) -> Path:
    if "persistentVolumeClaim" in volume:
        place = root / "claims" / namespace / str(volume["persistentVolumeClaim"]["claimName"])
    else:
        place = own / str(volume["name"])
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for field, kind, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
        if field in volume:
            await _fill(place, kind, namespace, volume[field][key], volume[field], lookup)
    return place


async def _fill(place: Path, kind: str, namespace: str, name: str, source: Object, lookup: Lookup) -> None:
    obj = await lookup(kind, namespace, name)
    if obj is None and not source.get("optional"):
        raise ContainerConfigError(
            f"{kind} {namespace}/{name} is not there; add it: cortex up -f FILE with that {kind}"
        )
    data = decoded(obj) if obj else {}
    wanted = _items(data, source, f"{kind} {namespace}/{name}") if "items" in source else data
    _replace(place, wanted)


def _replace(place: Path, wanted: dict[str, str]) -> None:
    """As kubelet does for pods that run: files change and go, one that is the same is left alone."""
    for name, text in wanted.items():
        file = place / name
        if not file.is_file() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(file, text)
    names = {Path(name).parts[0] for name in wanted}
    for found in place.iterdir():
        if found.name not in names and found.is_file():
            found.unlink()


def _items(data: dict[str, str], source: Object, holder: str) -> dict[str, str]:
    items = source["items"]
    missing = [item["key"] for item in items if item["key"] not in data]
    if missing and not source.get("optional"):
        raise ContainerConfigError(f"{holder} has no key {missing[0]!r}; add it: cortex up -f FILE with it")
    return {item["path"]: data[item["key"]] for item in items if item["key"] in data}
