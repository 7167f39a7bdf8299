"""The data directory: a folder of the user's own is neither used, changed nor deleted."""

from pathlib import Path

import pytest
from cortex_cli.commands.down import _delete
from cortex_cli.local.launch import LaunchError, data_directory


def test_a_folder_of_the_users_own_is_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    tmp_path.chmod(0o755)
    with pytest.raises(LaunchError, match="not empty and holds no local cluster"):
        data_directory(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_new_an_empty_and_a_used_folder_are_taken(tmp_path: Path) -> None:
    assert data_directory(tmp_path / "a" / "new").is_dir()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert data_directory(empty) == empty
    (empty / "processes").mkdir()
    (empty / "note.txt").touch()
    assert data_directory(empty) == empty


def test_only_what_a_cluster_made_is_deleted(tmp_path: Path) -> None:
    directory = data_directory(tmp_path / "data")
    (directory / "postgres").mkdir()
    (directory / "lock").touch()
    (directory / "thesis.txt").write_text("precious")
    assert _delete(directory) == ["thesis.txt"]
    assert [entry.name for entry in directory.iterdir()] == ["thesis.txt"]
    (directory / "thesis.txt").unlink()
    assert _delete(directory) == []
    assert not directory.exists()
