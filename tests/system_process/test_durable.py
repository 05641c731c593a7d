"""The tools of durability where no power is cut: what they leave, and what they let pass.

That it is on the disk is shown in `tests/durability/test_power_of_vault.py`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from commandcenter.system import durable


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"old")
    durable.write(path, b"new", mode=0o644)

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_replaced_stays_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(OSError, match="directory"):
        durable.write(tmp_path / "folder", b"new")

    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_what_is_no_file_any_more_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("here")

    durable.sync_files(tmp_path, ["link", "pipe", "gone", "file/below", "a/b/gone", "file"])


def test_names_are_synced_up_to_what_was_there_before(tmp_path: Path) -> None:
    made, gone = tmp_path / "a/b/c", tmp_path / "x/y/z"
    gone.parent.mkdir(parents=True)
    before = durable.deepest(made), durable.deepest(gone)
    made.parent.mkdir(parents=True)
    gone.parent.rmdir()

    assert before == (tmp_path, tmp_path / "x/y")
    durable.sync_names(made, before[0])
    durable.sync_names(gone, before[1])


def test_only_folders_to_which_something_was_added_are_synced_again(tmp_path: Path) -> None:
    for name in ("pack", "00", "ff"):
        (tmp_path / name).mkdir()
    before = durable.object_folders(tmp_path)
    (tmp_path / "ff/object").write_text("new")
    (tmp_path / "0a").mkdir()
    after = durable.object_folders(tmp_path)

    assert {path.name for path in before} == {tmp_path.name, "pack", "00", "ff"}
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert changed == {tmp_path.name, "ff", "0a"}
    durable.sync_changed(before, tmp_path)


def test_the_file_system_of_a_folder_is_synced_and_nothing_is_no_folder(tmp_path: Path) -> None:
    durable.sync_file_system(tmp_path)
    durable.sync_tree(tmp_path)

    with pytest.raises(FileNotFoundError):
        durable.sync_file_system(tmp_path / "gone")
