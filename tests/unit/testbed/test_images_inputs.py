"""What goes into images, and what must not stay in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cortex_testbed import images, images_inputs
from cortex_testbed.errors import BedError
from cortex_testbed.paths import ROOT

LAYERS = ("kinds", "kube", "runtime", "embedding", *images.ROLES)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small repository that the digest is taken of."""
    for folder in images_inputs.CONTEXT:
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "images" / "lake", tmp_path / "images" / "lake")
    monkeypatch.setattr(images_inputs, "ROOT", tmp_path)
    return tmp_path


def test_dockerignore_lets_through_what_the_digest_is_of() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert sorted(line.removeprefix("!") for line in lines if line.startswith("!")) == sorted(images_inputs.CONTEXT)
    assert "*" in lines


def test_another_file_content_or_mode_is_another_digest(tree: Path) -> None:
    digests = [images_inputs.digest()]
    file = tree / "workloads" / "a.py"
    for change in (
        lambda: file.touch(),
        lambda: file.write_text("x"),
        lambda: file.chmod(0o755),
        lambda: file.unlink(),
    ):
        change()
        digests.append(images_inputs.digest())
    assert digests[-1] == digests[0]
    assert len(set(digests)) == len(digests) - 1
    assert images_inputs.digest("another base") not in digests


@pytest.mark.parametrize("name", ["workloads/__pycache__/a.cpython-311.pyc", "requirements/dev.txt", "proto/a.proto"])
def test_what_no_image_has_changes_no_digest(tree: Path, name: str) -> None:
    before = images_inputs.digest()
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text("x")
    assert images_inputs.digest() == before


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """pip with no settings but those of the test."""
    for name in ("PIP_CERT", "PIP_FIND_LINKS", "PIP_DEFAULT_TIMEOUT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return monkeypatch


def test_no_settings_of_pip_are_no_secrets(pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert images_inputs.write_secrets(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_pips_settings_become_secrets_that_mean_the_same_inside_a_build(
    pip: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip.setenv("PIP_INDEX_URL", "https://me:secret@index.example/simple")
    pip.setenv("PIP_CERT", "/some/where/ca.pem")
    pip.setenv("PIP_FIND_LINKS", "/folder/of/this/machine")
    secrets = images_inputs.write_secrets(tmp_path)
    assert secrets == {"pip.conf": tmp_path / "pip.conf", "ca.crt": Path("/some/where/ca.pem")}
    assert secrets["pip.conf"].read_text().splitlines() == [
        "[global]",
        "cert = /run/secrets/ca.crt",
        "index-url = https://me:secret@index.example/simple",
    ]
    assert secrets["pip.conf"].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("layer", LAYERS)
def test_requirements_have_the_pins_of_development_and_a_hash_each(layer: str) -> None:
    pins = _pins("dev")
    for name, version in (found := _pins(layer)).items():
        assert pins.get(name, version) == version
    text = (ROOT / "requirements" / f"{layer}.txt").read_text()
    assert found
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text


def test_layers_that_build_on_each_other_agree() -> None:
    seen: dict[str, str] = {}
    for layer in LAYERS:
        for name, version in _pins(layer).items():
            assert seen.setdefault(name, version) == version


def test_the_containerfile_names_no_index_and_every_role() -> None:
    text = (ROOT / "images" / "Containerfile").read_text()
    assert "://" not in text
    assert all(f"\nFROM {stage} AS {role}\n" in text for role in images.ROLES for stage in _stages(text, role))


def test_scripts_are_executable_and_well_formed() -> None:
    for name in ("install", "lake", "state"):
        path = ROOT / "images" / name
        assert path.stat().st_mode & 0o111
        assert subprocess.run(["sh", "-n", path], check=False).returncode == 0


def test_a_role_that_there_is_not_is_named() -> None:
    with pytest.raises(BedError, match="there is no image serach: use operator, gateway"):
        images.build("serach")


def _pins(layer: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{layer}.txt").read_text().splitlines()
    pairs = (line.split(" ")[0].split("==") for line in lines if "==" in line)
    return {pair[0]: pair[1] for pair in pairs}


def _stages(text: str, role: str) -> list[str]:
    found = [line.split()[1] for line in text.splitlines() if line.startswith("FROM ") and line.endswith(f" AS {role}")]
    assert len(found) == 1, role
    return found
