"""What explains a failure, gathered in one folder: logs of all components, objects, events, conditions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from cortex_testbed.bed import Bed
from cortex_testbed.errors import BedError
from cortex_testbed.kubectl import Kubectl

GROUP: Final = "cortex.datapunk.io"
KINDS: Final = (
    "all,nodes,configmaps,endpointslices,events,ingresses,jobs,namespaces,networkpolicies,persistentvolumeclaims,"
    "poddisruptionbudgets,resourcequotas,roles,rolebindings,serviceaccounts"
)
"""No Secrets."""
SECONDS: Final = 20.0


def collect(bed: Bed, folder: Path) -> None:
    """Writes pods.txt, events.txt, conditions.txt, objects.yaml and logs/ (those of pods by namespace and name). What
    cannot be had is said in its file."""
    folder.mkdir(parents=True, exist_ok=True)
    everywhere = "--all-namespaces"
    _write(bed.kubectl, folder / "pods.txt", "get", "pods", everywhere, "--output=wide")
    _write(bed.kubectl, folder / "events.txt", "get", "events", everywhere, "--sort-by=.metadata.creationTimestamp")
    _write(bed.kubectl, folder / "objects.yaml", "get", KINDS, everywhere, "--output=yaml")
    _write_conditions(bed.kubectl, folder)
    _copy_logs(bed, folder / "logs")


def _write(kubectl: Kubectl, path: Path, *words: str) -> str:
    try:
        said = kubectl(*words, timeout=SECONDS)
    except BedError as error:
        said = f"{error}\n"
    path.write_text(said)
    return said


def _write_conditions(kubectl: Kubectl, folder: Path) -> None:
    kinds = _write(kubectl, folder / "kinds.txt", "api-resources", f"--api-group={GROUP}", "--output=name").split()
    (folder / "kinds.txt").unlink()
    if not kinds or not all(kind.endswith(f".{GROUP}") for kind in kinds):
        return
    text = _write(kubectl, folder / "resources.json", "get", ",".join(kinds), "--all-namespaces", "--output=json")
    try:
        items: list[dict[str, Any]] = json.loads(text)["items"]
    except (ValueError, KeyError):
        return
    (folder / "conditions.txt").write_text("\n".join(map(_conditions, items)))


def _conditions(item: dict[str, Any]) -> str:
    meta, status = item["metadata"], item.get("status", {})
    lines = [f"{item['kind']} {meta['namespace']}/{meta['name']} generation {meta.get('generation')}"]
    for one in status.get("conditions", []):
        lines.append(f"  {one['type']}={one['status']} {one.get('reason', '')}: {one.get('message', '')}")
    return "\n".join([*lines, ""])


def _copy_logs(bed: Bed, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for source in bed.logs:
        if source.is_dir():
            shutil.copytree(source, folder / source.parent.name, ignore_dangling_symlinks=True)
        elif source.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder)
