"""Which images a node keeps from one start to the next."""

from __future__ import annotations

from pathlib import Path

from cortex_testbed.node.archives import Archives


def test_what_was_imported_is_known_until_the_archive_changes(tmp_path: Path) -> None:
    archive = tmp_path / "all.tar"
    archive.write_text("1")
    Archives(tmp_path).add(archive, ["a:1", "b:1"])
    assert Archives(tmp_path).names(archive) == ["a:1", "b:1"]
    archive.write_text("another")
    assert Archives(tmp_path).names(archive) == []


def test_a_start_keeps_what_the_run_before_imported_and_forgets_the_one_before_that(tmp_path: Path) -> None:
    old, new = tmp_path / "old.tar", tmp_path / "new.tar"
    for archive in (old, new):
        archive.write_text("1")
    archives = Archives(tmp_path)
    archives.add(old, ["a:1"])
    assert archives.turn() == {"a:1"}
    archives.add(new, ["a:2"])
    assert archives.turn() == {"a:2"}
    assert archives.turn() == {"a:2"}, "a run without imports changes nothing"
    assert archives.names(old) == []
