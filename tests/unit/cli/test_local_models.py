"""Locally a claim is a folder, and the containers of an index look for models there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from builders import a_cortex_index
from cortex_cli.local import volumes
from cortex_cli.local.environment import container_environment
from cortex_operator.manifests import ReleaseSettings, index_objects, ingest_job

RELEASE = ReleaseSettings("registry.invalid/search:1", "registry.invalid/graph:1")
VOLUME = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "models"}}


async def test_a_claim_is_a_folder_that_both_kinds_of_pods_are_led_to(tmp_path: Path) -> None:
    index = a_cortex_index(spec={"storage": {"models": VOLUME}})
    objects = [*index_objects(index, RELEASE), ingest_job(index, "0" * 10, RELEASE)]
    maps = {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == "ConfigMap"}

    async def lookup(kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        secret = {"kind": "Secret", "stringData": {"dsn": "postgresql://a", "url": "redis://a"}}
        return maps.get(name) if kind == "ConfigMap" else secret

    templates = [obj["spec"]["template"] for obj in objects if obj["kind"] in ("Deployment", "Job")]
    for number, template in enumerate(templates):
        pod = {**template, "metadata": {"name": f"p{number}", "namespace": "default"}}
        mounts = await volumes.mount(pod, tmp_path, lookup)
        rewrite = partial(volumes.rewrite, mounts=mounts)
        env = await container_environment(pod, tmp_path / "catalogue.json", lookup, rewrite)
        folder = Path(env["CORTEX_MODELS_DIRECTORY"])
        assert folder == tmp_path / "claims" / "default" / "models"
    assert len(templates) == 2
