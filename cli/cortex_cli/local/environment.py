"""A container's environment from its manifest; shields the runner from references and what is missing behind them."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cortex_operator.cluster.port import Object

Lookup = Callable[[str, str, str], Awaitable[Object | None]]
"""(kind, namespace, name) -> the Secret or ConfigMap, or None."""

INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONPATH")


class ContainerConfigError(Exception):
    """The container cannot be made now; the message names what is missing and how to add it."""

    reason = "CreateContainerConfigError"


class PortInUse(ContainerConfigError):
    """A port that the container must have is taken."""

    reason = "PortInUse"


async def container_environment(
    pod: Object, catalogue: Path, lookup: Lookup, rewrite: Callable[[str], str]
) -> dict[str, str]:
    """The whole environment of the pod's container. `rewrite` leads a value of the manifest, or of a ConfigMap, that
    begins with a mount path to where the volume lies. Raises ContainerConfigError."""
    container = pod["spec"]["containers"][0]
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    env |= {"PYTHONUNBUFFERED": "1", "CORTEX_LISTEN_HOST": "127.0.0.1", "CORTEX_CATALOGUE_FILE": str(catalogue)}
    for source in container.get("envFrom", []):
        held = await _all_of(source, pod, lookup)
        env |= {name: rewrite(value) for name, value in held.items()} if "configMapRef" in source else held
    for variable in container.get("env", []):
        value = await _value(variable, pod, lookup)
        if value is not None:
            env[variable["name"]] = value if "valueFrom" in variable else rewrite(value)
    for port in container.get("ports", []):
        if "name" in port:
            env[f"CORTEX_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["containerPort"])
    return env


def container_command(pod: Object, rewrite: Callable[[str], str]) -> tuple[str, ...]:
    """The command, with `python` as the interpreter of this program. Raises ContainerConfigError."""
    container = pod["spec"]["containers"][0]
    command = [*container.get("command", []), *container.get("args", [])]
    if not container.get("command"):
        raise ContainerConfigError(
            f"container {container['name']} has no command: images do not run here, give it a command"
        )
    program = sys.executable if command[0] in ("python", "python3") else rewrite(command[0])
    return (program, *map(rewrite, command[1:]))


async def _all_of(source: Object, pod: Object, lookup: Lookup) -> dict[str, str]:
    for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
        if field in source:
            ref = source[field]
            held = await _data(kind, ref, pod["metadata"]["namespace"], lookup)
            files = _mounted(pod, kind, ref["name"])
            return {source.get("prefix", "") + name: v for name, v in (held or {}).items() if name not in files}
    return {}


def _mounted(pod: Object, kind: str, name: str) -> set[str]:
    """Keys that a volume has as files. A process follows a file while it runs: as a variable that differs, it would
    have to start anew."""
    field, key = ("configMap", "name") if kind == "ConfigMap" else ("secret", "secretName")
    sources = [volume[field] for volume in pod["spec"].get("volumes", []) if field in volume]
    return {item["key"] for source in sources if source[key] == name for item in source.get("items", [])}


async def _value(variable: Object, pod: Object, lookup: Lookup) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if "fieldRef" in source:
        return _field(source["fieldRef"]["fieldPath"], pod)
    for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if field in source:
            return await _key_of(kind, source[field], variable["name"], pod["metadata"]["namespace"], lookup)
    return None  # resourceFieldRef: nothing limits a process here


async def _key_of(kind: str, ref: Object, variable: str, namespace: str, lookup: Lookup) -> str | None:
    held = await _data(kind, ref, namespace, lookup)
    if held is not None and ref["key"] in held:
        return held[ref["key"]]
    if ref.get("optional"):
        return None
    raise ContainerConfigError(
        f"{kind} {namespace}/{ref['name']} has no key {ref['key']!r}, which {variable} is read from; "
        f"add it: cortex up -f FILE with that {kind}"
    )


async def _data(kind: str, ref: Object, namespace: str, lookup: Lookup) -> dict[str, str] | None:
    obj = await lookup(kind, namespace, ref["name"])
    if obj is not None:
        return decoded(obj)
    if ref.get("optional"):
        return None
    raise ContainerConfigError(
        f"{kind} {namespace}/{ref['name']} is not there; add it: cortex up -f FILE with that {kind}"
    )


def decoded(obj: Mapping[str, Any]) -> dict[str, str]:
    """The data of a Secret or ConfigMap as text."""
    data = {str(name): str(value) for name, value in (obj.get("data") or {}).items()}
    if obj["kind"] == "Secret":
        data = {name: base64.b64decode(value).decode() for name, value in data.items()}
    return data | {str(name): str(value) for name, value in (obj.get("stringData") or {}).items()}


def _field(path: str, pod: Object) -> str:
    meta = pod["metadata"]
    known = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta.get("uid", ""),
    }
    known |= {"status.podIP": "127.0.0.1", "status.hostIP": "127.0.0.1", "spec.nodeName": "local"}
    for field in ("labels", "annotations"):
        known |= {f"metadata.{field}['{name}']": value for name, value in (meta.get(field) or {}).items()}
    return str(known.get(path, ""))
