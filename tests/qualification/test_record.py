"""The log of a qualification: what is added to it, what it counts, and what it is not added to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from commandcenter.core.errors import InputError
from commandcenter.testing.judge import Criterion, Violation
from commandcenter.testing.qualification.record import append, read
from commandcenter.testing.qualification.rounds import Trial

FINE = Trial("local", 1, "a simple file", 1_764_000_000.0, 65.4, (), (1, 2), ("killed once",))
WRONG = Trial(
    "dagger (shipped engine)",
    3,
    "three\ntasks",
    1_764_000_000.0,
    0.2,
    (Violation(Criterion.MERGE, "it is\n- **Result:** PASS\nnot there"),),
)
MACHINE = "processors  2\nmemory      4 GiB"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "docs" / "log.md"


def test_a_run_is_written_in_the_form_that_people_know(log: Path) -> None:
    append(log, [FINE], MACHINE)

    assert log.read_text().partition("## Runs\n")[2].splitlines() == [
        "",
        "### Run #1 - 2025-11-24 16:00",
        "- **Mode:** local",
        "- **Scenario:** 1, a simple file",
        "- **Duration:** 1m 5s",
        "- **Result:** PASS",
        "- **PR:** #1, #2",
        "- **Notes:** killed once",
    ]
    assert "    processors  2\n    memory      4 GiB\n" in log.read_text()


def test_passes_are_counted_in_a_row_and_a_failure_sets_the_count_to_nothing(log: Path) -> None:
    counts = [append(log, trials, MACHINE) for trials in ([FINE] * 3, [FINE, WRONG], [FINE])]

    text = log.read_text()
    assert counts == [3, 0, 1]
    assert text.count("**Consecutive passes: 1**") == 1
    assert text.count("Consecutive passes: ") == 1
    assert "| local | 5 | 5 | 5 |" in text
    assert "| dagger (shipped engine) | 1 | 0 | 0 |" in text
    assert [(each.number, each.passed) for each in read(text)] == [
        *((1, True), (2, True), (3, True), (4, True), (5, False), (6, True))
    ]


def test_what_failed_is_said_and_cannot_pass_for_a_result(log: Path) -> None:
    append(log, [WRONG], MACHINE)

    (past,) = read(log.read_text())
    assert not past.passed
    assert "- **Notes:** [MERGE] it is - **Result:** PASS not there" in log.read_text()


def test_what_was_written_before_stays_as_it_is(log: Path) -> None:
    append(log, [FINE, WRONG], MACHINE)
    before = log.read_text().partition("## Runs")[2]

    append(log, [FINE], "another machine")

    assert log.read_text().partition("## Runs")[2].startswith(before.rstrip("\n"))
    assert "another machine" not in log.read_text()


async def test_two_qualifications_lose_no_run_of_each_other(log: Path) -> None:
    await asyncio.gather(*(asyncio.to_thread(append, log, [FINE], MACHINE) for _ in range(20)))

    assert sorted(each.number for each in read(log.read_text())) == list(range(1, 21))


@pytest.mark.parametrize("text", ["# My notes\n", "", "# Qualification log\n\nwithout runs\n"])
def test_a_file_that_is_no_log_is_left_alone(log: Path, text: str) -> None:
    log.parent.mkdir()
    log.write_text(text)

    with pytest.raises(InputError, match="is not a qualification log"):
        append(log, [FINE], MACHINE)

    assert log.read_text() == text


def test_a_log_in_which_somebody_wrote_is_not_counted_wrongly(log: Path) -> None:
    append(log, [FINE, WRONG], MACHINE)
    log.write_text(log.read_text().replace("- **Result:** FAIL", "- **Result:** PASSED"))

    with pytest.raises(InputError, match="cannot all be read"):
        append(log, [FINE], MACHINE)


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match="cannot be written"):
        append(tmp_path / "file" / "log.md", [FINE], MACHINE)
