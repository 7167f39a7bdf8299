"""The product's images: built when what goes into them has changed, named by its digest, sized, and as one archive.

`python -m cortex_testbed.images [--registry R] [--tag T] [ROLE...]` builds with docker, podman or buildah and prints
sizes.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from cortex_testbed import images_archive, images_base, images_inputs, images_tools
from cortex_testbed.errors import BedError
from cortex_testbed.paths import ROOT

ROLES: Final = ("operator", "gateway", "search", "graph", "lake", "state")
REGISTRY: Final = "localhost"
DIRECTORY: Final = ROOT / ".build" / "images"
LARGEST: Final = 10
_WHOLES: Final = ("/", "/opt/cortex", "/opt/cortex/lib")


@cache
def tag() -> str:
    """The tag of all roles: a digest of what they are made of, the same as long as this process lives."""
    return images_inputs.digest(images_base.digest())


def reference(role: str, registry: str = REGISTRY, tag_: str = "") -> str:
    """The whole name of a role's image."""
    return f"{registry}/datapunk-cortex-{role}:{tag_ or tag()}"


def build(*roles: str, tag_: str = "", say: Callable[[str], None] = print) -> Path:
    """A docker archive for `ctr images import` with the roles' images at least (all without `roles`), see `reference`.

    Made with buildah as root; nothing is done when it is there already, so a `tag_` of your own must be a digest too.
    `say` gets a line with seconds for each step. Raises BedError."""
    wanted, tag_ = _known(roles), tag_ or tag()
    names = {role: reference(role, tag_=tag_) for role in wanted}
    all_of_them = DIRECTORY / f"all-{tag_}.tar"
    archive = DIRECTORY / f"{'-'.join(wanted)}-{tag_}.tar" if roles else all_of_them
    with _alone():
        if all_of_them.exists():
            return all_of_them
        if not archive.exists():
            _make(names, archive, say)
    return archive


def report(tool: images_tools.Tool, image: str) -> str:
    """The image's size and its largest folders, in MiB."""
    sizes = [(int(kib), path) for kib, path in (line.split("\t") for line in tool.du(image).splitlines())]
    parts = {path: kib for kib, path in sizes if path not in _WHOLES and not path.endswith("/site-packages")}
    largest = sorted(parts.items(), key=lambda part: -part[1])[:LARGEST]
    whole = next(kib for kib, path in sizes if path == "/")
    lines = [f"  {kib / 1024:6.1f}  {Path(path).name}" for path, kib in largest]
    return "\n".join([f"{image}: {whole / 1024:.0f} MiB, of which", *lines])


def _known(roles: Sequence[str]) -> Sequence[str]:
    if unknown := [role for role in roles if role not in ROLES]:
        raise BedError(f"there is no image {', '.join(unknown)}: use {', '.join(ROLES)}")
    return [role for role in ROLES if role in roles] or ROLES


def _make(names: Mapping[str, str], archive: Path, say: Callable[[str], None]) -> None:
    tool = images_tools.Buildah(DIRECTORY)
    _build(tool, {role: name for role, name in names.items() if not tool.has(name)}, say)
    begin = time.monotonic()
    _forget_older(archive)
    images_archive.write(tool, list(names.values()), archive)
    say(f"{archive.name}: {archive.stat().st_size // 2**20} MiB in {time.monotonic() - begin:.0f} s")


def _build(tool: images_tools.Tool, names: Mapping[str, str], say: Callable[[str], None]) -> None:
    with tempfile.TemporaryDirectory(prefix="cortex-images-") as directory:
        secrets = images_inputs.write_secrets(Path(directory))
        for role, name in names.items():
            begin = time.monotonic()
            tool.build(role, name, secrets)
            say(f"{name} with {tool.name} in {time.monotonic() - begin:.0f} s")


def _forget_older(archive: Path) -> None:
    kind = archive.name.rpartition("-")[0]
    for old in archive.parent.glob(f"{kind}-*.*"):
        if old.name.rpartition("-")[0] == kind:
            old.unlink()


@contextmanager
def _alone() -> Iterator[None]:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with (DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m cortex_testbed.images", description="Build images, print sizes.")
    parser.add_argument("roles", nargs="*", metavar="ROLE", help=f"of {', '.join(ROLES)}; all when none is named")
    parser.add_argument("--registry", default=REGISTRY, help="what names begin with (default: %(default)s)")
    parser.add_argument("--tag", default="", help="default: a digest of what goes in")
    given = parser.parse_args()
    try:
        tool = images_tools.choose(DIRECTORY)
        tag_ = given.tag or tag()
        names = {role: reference(role, given.registry, tag_) for role in _known(given.roles)}
        with _alone():
            _build(tool, names, print)
            for name in names.values():
                print(report(tool, name))
    except BedError as error:
        sys.exit(f"images: {error}")


if __name__ == "__main__":
    main()
