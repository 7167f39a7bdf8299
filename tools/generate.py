"""Makes what is generated and committed: the protocol's Python code, the CRDs, their copies in the chart and the
reference pages.

`--check` writes nothing: it names each file that is not current, and the command that makes it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cortex_kinds.crd import KINDS, crd_yaml
from reference import pages

ROOT = Path(__file__).parents[1]
PROTO = ROOT / "proto"
CRDS = (ROOT / "crds", ROOT / "charts" / "datapunk-cortex" / "files" / "crds")
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def protocol() -> dict[Path, str]:
    """The Python modules and stubs of the .proto files, by their place in the repository."""
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    plugins = ("python_out=", "grpc_python_out=", "mypy_out=quiet:", "mypy_grpc_out=quiet:")
    # The two mypy plugins are commands beside the interpreter.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *(f"--{p}{out}" for p in plugins), *sources]
        subprocess.run(command, cwd=PROTO, env=environment, check=True)
        return {
            PROTO / path.relative_to(out): path.read_text(encoding="utf-8")
            for path in sorted(Path(out).rglob("*"))
            if path.is_file()
        }


def wanted() -> dict[Path, str]:
    """Every generated file and its content."""
    crds = {directory / kind.file: crd_yaml(kind) for directory in CRDS for kind in KINDS}
    reference = {ROOT / "docs" / "reference" / name: text for name, text in pages().items()}
    return {**protocol(), **crds, **reference}


def stale(files: dict[Path, str]) -> list[Path]:
    """Files that are missing, differ, or are generated code or CRDs that nothing generates any more."""
    different = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    places = [*((PROTO, pattern) for pattern in GENERATED), *((directory, "*.yaml") for directory in CRDS)]
    leftover = [path for place, pattern in places for path in place.rglob(pattern) if path not in files]
    return sorted([*different, *leftover])


def main() -> int:
    """Writes the files, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is not current")
    check = parser.parse_args().check
    files = wanted()
    for path in (changed := stale(files)):
        if check:
            print(f"{path.relative_to(ROOT)} is not current: run `make generate` and commit what it changes")
        elif path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
        else:
            path.unlink()
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
