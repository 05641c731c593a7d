"""The ten scenarios that an installation is qualified by, in every mode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from commandcenter.testing.desk import Ended
from commandcenter.testing.scene import Sample, batch, plan, task

_End = tuple[str, str]
_MERGED: _End = ("completed", "merged")
_START: Mapping[str, int] = MappingProxyType({"README.md": 1, "numbers.txt": 3})


@dataclass(frozen=True)
class Scenario:
    """One plan, and how it has to end on a fresh `Sample`."""

    title: str
    plan: str
    ends: Mapping[str, _End]
    """How each task ends, and why."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """How many lines the files have that the target has in the end, besides those it had."""
    order: tuple[str, ...] = ()
    """Tasks of which each begins when the one before has ended."""
    together: tuple[str, ...] = ()
    """Tasks that are at work at one time, each with a voice of its own."""
    ran: Mapping[str, str] = field(default_factory=dict)
    """What the only check of a task printed, in part."""

    async def faults(self, ended: Ended, sample: Sample) -> Sequence[str]:
        """Return what is wrong with how it ended, also what its judge found; empty is good."""
        return [
            *ended.faults.splitlines(),
            *self._wrong_ends(ended),
            *await self._wrong_files(sample),
            *self._wrong_order(ended),
            *self._mixed_up(ended),
            *self._not_run(ended),
        ]

    def _wrong_ends(self, ended: Ended) -> Iterator[str]:
        if (found := ended.ends()) != self.ends:
            yield f"its tasks ended as {found}, not as {dict(self.ends)}"

    async def _wrong_files(self, sample: Sample) -> Sequence[str]:
        there = await sample.paths()
        found = {path: len((await sample.read(path)).splitlines()) for path in there}
        wanted = {**_START, **self.lines}
        return [f"the target has {found}, not {wanted}"] if found != wanted else []

    def _wrong_order(self, ended: Ended) -> Iterator[str]:
        for before, after in zip(self.order, self.order[1:], strict=False):
            if ended.tasks[before]["completed_at"] > ended.tasks[after]["started_at"]:
                yield f"task {after} began before task {before} had ended"

    def _mixed_up(self, ended: Ended) -> Iterator[str]:
        began = [e["seq"] for e in ended.events if e["data"].get("phase") == "working"]
        captured = [e["seq"] for e in ended.events if e["kind"] == "task.captured"]
        if self.together and max(began, default=0) > min(captured, default=0):
            yield "its tasks were not at work at one time"
        for own in self.together:
            voices = set(re.findall(r"the voice of [\d.]+", str(ended.data("agent", own))))
            if voices != {f"the voice of {own}"}:
                yield f"in the log of task {own} is {voices or 'nothing'}"

    def _not_run(self, ended: Ended) -> Iterator[str]:
        for own, words in self.ran.items():
            said = [
                each["words"]
                for data in ended.data("task.checked", own)
                for each in data["receipts"]
            ]
            if not any(words in each for each in said):
                yield f"no check of task {own} said {words!r}, but {said}"


def _one_file() -> Scenario:
    hello = task(
        "1.1",
        "Greet",
        files=["hello.py"],
        script='write hello.py\n| print("hello")',
        checks=["python3 hello.py"],
    )
    return Scenario("a simple file", plan(batch(1, hello)), {"1.1": _MERGED}, {"hello.py": 1})


def _two_in_order() -> Scenario:
    first = task("1.1", "Module", files=["word.py"], script="write word.py\n| WORD = 'hello'")
    second = task(
        "1.2",
        "Use it",
        files=["use.py"],
        script="run test -f word.py\nwrite use.py\n| from word import WORD",
        checks=["python3 use.py"],
    )
    return Scenario(
        "two tasks, the second on the first",
        plan(batch(1, first, second)),
        {"1.1": _MERGED, "1.2": _MERGED},
        {"word.py": 1, "use.py": 1},
        order=("1.1", "1.2"),
    )


def _one_command() -> Scenario:
    who = task(
        "1.1",
        "Who is at work",
        files=["who.txt"],
        script="run id -u > who.txt",
        checks=["test $(cat who.txt) -ne 0", "test $(cat who.txt) -eq $(id -u)"],
    )
    return Scenario(
        "a task that sees its surroundings", plan(batch(1, who)), {"1.1": _MERGED}, {"who.txt": 1}
    )


def _three_at_once() -> Scenario:
    names = ("one", "two", "three")
    tasks = [
        task(
            f"1.{number}",
            f"File {name}",
            files=[f"{name}.txt"],
            script=f"print the voice of 1.{number}\nsleep 3\nwrite {name}.txt\n| {name}\n"
            f"print the voice of 1.{number}",
            checks=[f"grep {name} {name}.txt"],
        )
        for number, name in enumerate(names, 1)
    ]
    every = ("1.1", "1.2", "1.3")
    return Scenario(
        "three tasks at one time",
        plan(batch(1, *tasks, mode="parallel")),
        dict.fromkeys(every, _MERGED),
        {f"{name}.txt": 1 for name in names},
        together=every,
    )


def _test_file() -> Scenario:
    adder = task(
        "1.1",
        "Add numbers",
        files=["Create: adder.py", "Test: test_adder.py"],
        script="""
write adder.py
| def add(a, b):
|     return a + b
write test_adder.py
| import unittest, adder
| class Adding(unittest.TestCase):
|     def test_sum(self):
|         self.assertEqual(adder.add(1, 2), 3)
""",
        checks=["python3 -m unittest -v test_adder"],
    )
    return Scenario(
        "a task with a test",
        plan(batch(1, adder)),
        {"1.1": _MERGED},
        {"adder.py": 2, "test_adder.py": 4},
        ran={"1.1": "Ran 1 test"},
    )


def _error() -> Scenario:
    broken = task("1.1", "Broken", files=["broken.txt"], script="write broken.txt\n| half\nexit 3")
    return Scenario("an agent that fails", plan(batch(1, broken)), {"1.1": ("failed", "agent")})


def _mixed() -> Scenario:
    fine = task("1.1", "Fine", files=["fine.txt"])
    broken = task("1.2", "Broken", files=["broken.txt"], script="exit 3")
    return Scenario(
        "one task that works and one that fails",
        plan(batch(1, fine, broken, mode="parallel")),
        {"1.1": _MERGED, "1.2": ("failed", "agent")},
        {"fine.txt": 1},
    )


def _done_already() -> Scenario:
    there = task(
        "1.1", "There", files=["README.md"], script="print it is", checks=["test -f README.md"]
    )
    return Scenario(
        "a task that is done already",
        plan(batch(1, there)),
        {"1.1": ("completed", "already-done")},
    )


def _large_file() -> Scenario:
    long = task("1.1", "A long file", files=["long.py"], script="lines long.py 2500")
    return Scenario(
        "a file of many lines", plan(batch(1, long)), {"1.1": _MERGED}, {"long.py": 2500}
    )


def _several_files() -> Scenario:
    several = task(
        "1.1",
        "Several files",
        files=["src/a.py", "src/deep/b.py", "Modify: README.md"],
        script="""
write src/a.py
| A = 1
write src/deep/b.py
| B = 2
append README.md
| More.
""",
    )
    return Scenario(
        "several files in one pull request",
        plan(batch(1, several)),
        {"1.1": _MERGED},
        {"src/a.py": 1, "src/deep/b.py": 1, "README.md": 2},
    )


SCENARIOS: Mapping[int, Scenario] = MappingProxyType(
    dict(
        enumerate(
            (
                *(_one_file(), _two_in_order(), _one_command(), _three_at_once(), _test_file()),
                *(_error(), _mixed(), _done_already(), _large_file(), _several_files()),
            ),
            1,
        )
    )
)
"""By their numbers in the qualification."""
