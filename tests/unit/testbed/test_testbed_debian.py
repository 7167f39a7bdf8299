"""Redis from Debian's packages: what is said when they cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest
from cortex_testbed import debian
from cortex_testbed.errors import BedError


def silent(_: str) -> None:
    return


@pytest.mark.parametrize("apt", ["", "#!/bin/sh\necho 'E: Unable to locate package redis-server' >&2\nexit 100\n"])
def test_a_missing_server_fails_with_what_to_install(apt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    if apt:
        (tmp_path / "bin/apt-get").write_text(apt)
        (tmp_path / "bin/apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(debian, "FOLDER", tmp_path / "made")
    with pytest.raises(BedError, match="apt-get install redis-server") as caught:
        debian.redis(silent)
    assert ("Unable to locate package" if apt else "apt-get") in str(caught.value)
    assert not (tmp_path / "made/redis").exists()


def test_one_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis-server").write_text("")
    (tmp_path / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert debian.redis(silent).path == tmp_path / "redis-server"
