"""The log of a qualification: a Markdown file to which every run is added, with what it found."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from commandcenter.core.errors import InputError
from commandcenter.testing.qualification.rounds import Trial

TITLE = "# Qualification log"
_INTRODUCTION = """\
Written by `commandcenter qualify`, and by nobody else. A run is one of the ten scenarios; the whole
round that it is part of is judged from outside: the status API against git, the hub and the
processes of the machine, and what is left behind. A run that fails sets the count of consecutive
passes to 0.
"""
_RUNS = "## Runs"
_RUN = re.compile(
    r"^### Run #(?P<number>\d+) - .*\n- \*\*Mode:\*\* (?P<mode>.*)\n(?:- .*\n)*?"
    r"- \*\*Result:\*\* (?P<result>PASS|FAIL)$",
    re.MULTILINE,
)
_HEADING = re.compile(r"^### Run", re.MULTILINE)
_NOTES_MAX = 2_000


@dataclass(frozen=True)
class Past:
    """What a log says of one run."""

    number: int
    mode: str
    passed: bool


def append(path: Path, trials: Sequence[Trial], machine: str) -> int:
    """Add runs to a log, made if there is none; return how many have passed in a row by now.

    Args:
        path: of the file.
        trials: in the order that they are to have.
        machine: what they ran on, for a file that is new.

    Raises:
        InputError: there is another file of this name, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            before = path.read_text() if path.exists() else _empty(machine)
            past = read(before)
            if not before.startswith(f"{TITLE}\n") or _RUNS not in before:
                raise InputError(f"{path} is not a qualification log.", hint="name another --log")
            entries = [_entry(number, each) for number, each in enumerate(trials, len(past) + 1)]
            runs = [*past, *(Past(0, each.mode, each.passed) for each in trials)]
            _replace(path, _counted("".join([before.rstrip("\n"), "\n", *entries]), runs))
            return in_a_row(runs)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error


def read(text: str) -> list[Past]:
    """Return the runs that a log tells of.

    Raises:
        InputError: it has one that cannot be read.
    """
    found = [
        Past(int(each["number"]), each["mode"], each["result"] == "PASS")
        for each in _RUN.finditer(text)
    ]
    if [each.number for each in found] != list(range(1, len(_HEADING.findall(text)) + 1)):
        raise InputError("The runs of this qualification log cannot all be read.")
    return found


def in_a_row(runs: Sequence[Past]) -> int:
    """Return how many runs have passed since the last one that failed."""
    failed = [number for number, each in enumerate(runs, 1) if not each.passed]
    return len(runs) - (failed[-1] if failed else 0)


def _empty(machine: str) -> str:
    listed = "\n".join(f"    {line}" for line in machine.splitlines())
    return f"{TITLE}\n\n{_INTRODUCTION}\nThe machine of the first run:\n\n{listed}\n\n{_RUNS}\n"


def _counted(text: str, runs: Sequence[Past]) -> str:
    """Return a log with the counts of all its runs at its head."""
    head, _, below = text.partition(_RUNS)
    head = re.sub(r"^\*\*Consecutive passes:.*?\n\n(?:\|.*\n)+\n", "", head, flags=re.M | re.S)
    return f"{head}{_table(runs)}\n{_RUNS}{below}"


def _table(runs: Sequence[Past]) -> str:
    lines = [f"**Consecutive passes: {in_a_row(runs)}**", ""]
    lines += ["| mode | runs | passed | consecutive passes |", "|---|---|---|---|"]
    for mode in sorted({each.mode for each in runs}):
        own = [each for each in runs if each.mode == mode]
        passed = sum(each.passed for each in own)
        lines.append(f"| {mode} | {len(own)} | {passed} | {in_a_row(own)} |")
    return "\n".join(lines) + "\n"


def _entry(number: int, trial: Trial) -> str:
    when = datetime.fromtimestamp(trial.began_s, UTC)
    minutes, seconds = divmod(round(trial.seconds), 60)
    pulls = ", ".join(f"#{each}" for each in trial.pull_requests) or "none"
    found = [f"{each}" for each in trial.violations]
    notes = _one_line("; ".join([*trial.notes, *found]))[:_NOTES_MAX] or "none"
    return (
        f"\n### Run #{number} - {when:%Y-%m-%d %H:%M}\n"
        f"- **Mode:** {trial.mode}\n"
        f"- **Scenario:** {trial.number}, {_one_line(trial.title)}\n"
        f"- **Duration:** {minutes}m {seconds}s\n"
        f"- **Result:** {'PASS' if trial.passed else 'FAIL'}\n"
        f"- **PR:** {pulls}\n"
        f"- **Notes:** {notes}\n"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other qualifications from the same log meanwhile."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.replace(path)
