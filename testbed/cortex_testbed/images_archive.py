"""Several images as one archive in which each layer lies once; shields the rest from the docker archive format."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cortex_testbed.images_tools import Buildah

_MANIFEST: Final = "manifest.json"


def write(tool: Buildah, images: Sequence[str], archive: Path) -> None:
    """Writes the images to a docker archive, uncompressed: it is read once, on this machine."""
    part, new = archive.with_suffix(".part"), archive.with_suffix(".new")
    manifests: list[dict[str, Any]] = []
    written: set[str] = set()
    with tarfile.open(new, "w") as file:
        for image in images:
            part.unlink(missing_ok=True)
            tool.push(image, f"docker-archive:{part}:{image}")
            with tarfile.open(part) as pushed:
                manifests += _copy(pushed, file, written)
        _add(file, _MANIFEST, json.dumps(manifests).encode())
    part.unlink()
    new.replace(archive)


def _copy(pushed: tarfile.TarFile, file: tarfile.TarFile, written: set[str]) -> list[dict[str, Any]]:
    """Copies configurations and layers that are not there yet; the images' manifests."""
    manifests: list[dict[str, Any]] = json.load(_content(pushed, _MANIFEST))
    for name in (name for manifest in manifests for name in (manifest["Config"], *manifest["Layers"])):
        if name not in written:
            file.addfile(pushed.getmember(name), _content(pushed, name))
            written.add(name)
    return manifests


def _content(archive: tarfile.TarFile, name: str) -> io.BufferedReader:
    content = archive.extractfile(name)
    if content is None:
        raise ValueError(f"{name} is not a file in {archive.name!r}")
    return content  # type: ignore[return-value]


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
