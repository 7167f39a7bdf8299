"""The image whose only process keeps a pod's namespaces; made here so that no compiler and no registry is needed."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import struct
import tarfile
from pathlib import Path
from typing import Any, Final

from cortex_testbed.errors import BedError

IMAGE: Final = "localhost/cortex-pause:1"
_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56
_MACHINES: Final[dict[str, tuple[str, int, str]]] = {
    # pause() in a loop: mov eax, 34; syscall; jmp
    "x86_64": ("amd64", 62, "b8220000000f05ebf7"),
    # ppoll(0, 0, 0, 0) in a loop: mov x0..x3, 0; mov x8, 73; svc 0; b
    "aarch64": ("arm64", 183, "000080d2010080d2020080d2030080d2280980d2010000d4faffff17"),
}
"""Machine -> name in an image, number in ELF, code. SIGKILL, which containerd sends, is how it ends."""


def write(path: Path) -> None:
    """Writes it as a docker-archive. Raises BedError on another machine than x86_64 and aarch64."""
    machine = platform.machine()
    if machine not in _MACHINES:
        raise BedError(f"the node runs on {' and '.join(_MACHINES)}, this machine is {machine}")
    name, number, code = _MACHINES[machine]
    layer = _tar({"pause": program(number, bytes.fromhex(code))}, mode=0o755)
    digest = hashlib.sha256(layer).hexdigest()
    config = _json(
        {
            "architecture": name,
            "os": "linux",
            "config": {"Entrypoint": ["/pause"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    )
    content = {f"{hashlib.sha256(config).hexdigest()}.json": config, f"{digest}/layer.tar": layer}
    manifest = [{"Config": next(iter(content)), "RepoTags": [IMAGE], "Layers": [f"{digest}/layer.tar"]}]
    path.write_bytes(_tar({**content, "manifest.json": _json(manifest)}, mode=0o644))


def program(machine: int, code: bytes) -> bytes:
    """An ELF executable of one segment that holds the code."""
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()
