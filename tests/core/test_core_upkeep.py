"""What may be reclaimed: each ruling, with its reason. And uncaptured work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from commandcenter.core.attempt import Attempt, uncaptured
from commandcenter.core.ledger import Standing
from commandcenter.core.upkeep import (
    DAY_MS,
    SUBMITTING_MS,
    is_container,
    of_branch,
    of_capture,
    of_image,
    of_logs,
    of_objects,
    of_salvage,
)
from commandcenter.core.workspace import WorkspaceKey, folder_name


@pytest.mark.parametrize(
    ("whose", "run_ended", "result", "landed", "free"),
    [
        (Standing.OURS, True, False, True, True),
        (Standing.OURS, True, False, False, True),
        (Standing.OURS, True, True, True, True),
        (Standing.OURS, True, True, False, False),
        (Standing.OURS, False, False, True, False),
        (Standing.FREE, False, False, False, False),
        (Standing.FREE, True, False, False, True),
        (Standing.FOREIGN, True, False, True, False),
        (Standing.FOREIGN, None, True, True, False),
        (Standing.OURS, None, True, True, True),
        (Standing.OURS, None, True, False, False),
    ],
)
def test_a_branch_goes_only_when_it_is_ours_and_held_elsewhere(
    whose: Standing, run_ended: bool | None, result: bool, landed: bool, free: bool
) -> None:
    age = SUBMITTING_MS
    ruling = of_branch(whose, run_ended=run_ended, result=result, landed=landed, age_ms=age)
    assert ruling.free is free


def test_the_branch_of_a_run_that_is_being_submitted_stays() -> None:
    ruling = of_branch(
        Standing.OURS, run_ended=None, result=True, landed=True, age_ms=SUBMITTING_MS - 1
    )
    assert not ruling.free


@pytest.mark.parametrize(
    ("known", "run_ended", "landed", "free"),
    [
        (True, True, True, True),
        (True, True, False, False),
        (True, True, None, False),
        (True, False, True, False),
        (False, True, True, False),
    ],
)
def test_a_capture_goes_only_when_the_target_is_known_to_hold_it(
    known: bool, run_ended: bool, landed: bool | None, free: bool
) -> None:
    assert of_capture(known=known, run_ended=run_ended, landed=landed).free is free


@pytest.mark.parametrize(
    ("folder", "landed", "age_days", "free"),
    [
        (False, True, 30, True),
        (False, True, 29, False),
        (False, False, 999, False),
        (False, None, 999, False),
        (True, True, 999, False),
    ],
)
def test_salvage_goes_by_itself_only_when_the_target_holds_it(
    folder: bool, landed: bool | None, age_days: int, free: bool
) -> None:
    ruling = of_salvage(folder=folder, landed=landed, age_ms=age_days * DAY_MS, kept_days=30)
    assert ruling.free is free


def test_a_clock_that_jumps_back_frees_nothing() -> None:
    assert not of_logs(ended_ms=10 * DAY_MS, now_ms=DAY_MS, kept_days=0).free
    assert not of_salvage(folder=False, landed=True, age_ms=-1, kept_days=0).free


@pytest.mark.parametrize(
    ("runs", "borrowers", "free"), [(0, 0, True), (1, 0, False), (0, 1, False)]
)
def test_objects_go_only_when_nobody_can_need_them(runs: int, borrowers: int, free: bool) -> None:
    assert of_objects(runs=runs, borrowers=borrowers).free is free


FIRST = Attempt(1, base="b", head="h")


@pytest.mark.parametrize(
    ("tries", "generation", "number"),
    [
        ((FIRST,), 1, None),
        ((FIRST, replace(FIRST, number=2, head="")), 1, 2),
        ((replace(FIRST, head=""), replace(FIRST, number=2)), 1, None),
        ((replace(FIRST, head=""), replace(FIRST, number=2, generation=2)), 1, 1),
        ((replace(FIRST, head="", base=""),), 1, None),
        ((FIRST,), 2, None),
    ],
)
def test_work_is_uncaptured_when_the_last_try_of_its_workspace_was_not(
    tries: tuple[Attempt, ...], generation: int, number: int | None
) -> None:
    found = uncaptured(tries, generation)
    assert (found.number if found else None) == number


@pytest.mark.parametrize("task", ["1.1", "a/b", "ä", "a/1/work"])
def test_a_key_is_read_back_as_it_was_written(task: str) -> None:
    key = WorkspaceKey("exec_1", task, 3, "check-abc-1")
    assert WorkspaceKey.parse(str(key)) == key


@pytest.mark.parametrize("text", ["", "exec_1", "exec_1/1.1", "exec_1/1.1/x/work", "/1.1/1/work"])
def test_other_text_is_no_key(text: str) -> None:
    assert WorkspaceKey.parse(text) is None


def test_folders_of_different_keys_differ() -> None:
    assert folder_name("a/1/1/work") != folder_name("a/1/2/work")


@pytest.mark.parametrize("path", ["vaults", "vaults/x", "workspaces/bases/x", "salvage/a/b"])
def test_folders_that_hold_several_things_are_looked_into(path: str) -> None:
    assert is_container(PurePosixPath(path))


@pytest.mark.parametrize("path", ["logs/x", "workspaces/ws/x", "vaults/x/y", "workspaces/fixed"])
def test_folders_that_are_one_thing_are_not(path: str) -> None:
    assert not is_container(PurePosixPath(path))


@pytest.mark.parametrize(
    ("current", "running", "age_days", "free"),
    [
        (False, 0, 30, True),
        (False, 0, 29, False),
        (False, 1, 30, False),
        (True, 0, 30, False),
    ],
)
def test_an_image_goes_when_nothing_runs_and_it_was_long_not_used(
    current: bool, running: int, age_days: int, free: bool
) -> None:
    now = 1000 * DAY_MS
    ruling = of_image(
        current=current,
        running=running,
        used_ms=now - age_days * DAY_MS,
        now_ms=now,
        kept_days=30,
    )
    assert ruling.free is free
