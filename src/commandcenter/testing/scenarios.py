"""The ten scenarios that an installation is qualified by, in every mode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from commandcenter.testing import scene
from commandcenter.testing.desk import Ended
from commandcenter.testing.judge import Criterion, Violation
from commandcenter.testing.scene import Sample, batch, plan

_End = tuple[str, str]
_MERGED: _End = ("completed", "merged")


@dataclass(frozen=True)
class Scenario:
    """One plan, and how it has to end on a repository with a README.md."""

    title: str
    plan: str
    ends: Mapping[str, _End]
    """How each task ends, and why."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """How many lines the files have in the end that the target has besides, or in another form."""
    order: tuple[str, ...] = ()
    """Tasks of which each begins when the one before has ended."""
    together: tuple[str, ...] = ()
    """Tasks that are at work at one time, each with a voice of its own."""
    ran: Mapping[str, str] = field(default_factory=dict)
    """What the only check of a task printed, in part."""
    scripted: bool = True
    """The agents do what the plan has for them line by line; others may write more."""

    async def faults(self, ended: Ended, sample: Sample) -> Sequence[Violation]:
        """Return what is wrong with how it ended, also what its judge found; nothing is good."""
        return [
            *ended.violations,
            *(Violation(Criterion.OUTCOME, words) for words in self._wrong_outcome(ended)),
            *(Violation(Criterion.MERGE, words) for words in await self._wrong_files(sample)),
        ]

    def _wrong_outcome(self, ended: Ended) -> Iterator[str]:
        if (found := ended.ends()) != self.ends:
            yield f"its tasks ended as {found}, not as {dict(self.ends)}"
            return
        yield from self._wrong_order(ended)
        yield from self._not_run(ended)
        if self.scripted:
            yield from self._mixed_up(ended)

    async def _wrong_files(self, sample: Sample) -> Iterator[str]:
        target = f"refs/heads/{sample.branch}"
        changed = (await sample.ask("diff", "--name-only", "-z", sample.start, target)).split("\0")
        there = await sample.paths()
        found = {
            path: len((await sample.read(path)).splitlines()) if path in there else 0
            for path in sorted({*filter(None, changed), *self.lines})
        }
        return iter(() if self._fit(found) else [f"the target has {found}, not {dict(self.lines)}"])

    def _fit(self, found: Mapping[str, int]) -> bool:
        if self.scripted:
            return found == self.lines
        return found.keys() == self.lines.keys() and all(
            found[path] >= least for path, least in self.lines.items()
        )

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


@dataclass(frozen=True)
class _Writer:
    """Writes the tasks: with a script for the scripted agent, or in words alone for any other."""

    scripted: bool

    def task(
        self,
        identity: str,
        title: str,
        text: str,
        *,
        files: Sequence[str],
        script: str = "",
        checks: Sequence[str] = (),
    ) -> str:
        own = script if self.scripted else ""
        return scene.task(identity, title, text=text, files=files, script=own, checks=checks)

    def scenario(self, title: str, text: str, ends: Mapping[str, _End], **more: Any) -> Scenario:
        return Scenario(title, text, ends, scripted=self.scripted, **more)


def _one_file(write: _Writer) -> Scenario:
    hello = write.task(
        "1.1",
        "Greet",
        "Write a Python program `hello.py` that prints the word hello.",
        files=["hello.py"],
        script='write hello.py\n| print("hello")',
        checks=["python3 hello.py | grep -i hello"],
    )
    return write.scenario(
        "a simple file", plan(batch(1, hello)), {"1.1": _MERGED}, lines={"hello.py": 1}
    )


def _two_in_order(write: _Writer) -> Scenario:
    first = write.task(
        "1.1",
        "Module",
        "Write a Python module `word.py` that sets `WORD` to the text hello.",
        files=["word.py"],
        script="write word.py\n| WORD = 'hello'",
        checks=["python3 -c 'import word; assert word.WORD'"],
    )
    second = write.task(
        "1.2",
        "Use it",
        "Write a Python program `use.py` that imports `WORD` from the module `word`, which is "
        "there already.",
        files=["use.py"],
        script="run test -f word.py\nwrite use.py\n| from word import WORD",
        checks=["python3 use.py"],
    )
    return write.scenario(
        "two tasks, the second on the first",
        plan(batch(1, first, second)),
        {"1.1": _MERGED, "1.2": _MERGED},
        lines={"word.py": 1, "use.py": 1},
        order=("1.1", "1.2"),
    )


def _one_command(write: _Writer) -> Scenario:
    who = write.task(
        "1.1",
        "Who is at work",
        "Write the number that `id -u` prints for you into `who.txt`.",
        files=["who.txt"],
        script="run id -u > who.txt",
        checks=["test $(cat who.txt) -ne 0", "test $(cat who.txt) -eq $(id -u)"],
    )
    return write.scenario(
        "a task that sees its surroundings",
        plan(batch(1, who)),
        {"1.1": _MERGED},
        lines={"who.txt": 1},
    )


def _three_at_once(write: _Writer) -> Scenario:
    names = ("one", "two", "three")
    tasks = [
        write.task(
            f"1.{number}",
            f"File {name}",
            f"Write the word {name} into `{name}.txt`.",
            files=[f"{name}.txt"],
            script=f"print the voice of 1.{number}\nsleep 3\nwrite {name}.txt\n| {name}\n"
            f"print the voice of 1.{number}",
            checks=[f"grep {name} {name}.txt"],
        )
        for number, name in enumerate(names, 1)
    ]
    every = ("1.1", "1.2", "1.3")
    return write.scenario(
        "three tasks at one time",
        plan(batch(1, *tasks, mode="parallel")),
        dict.fromkeys(every, _MERGED),
        lines={f"{name}.txt": 1 for name in names},
        together=every,
    )


def _test_file(write: _Writer) -> Scenario:
    adder = write.task(
        "1.1",
        "Add numbers",
        "Write a Python module `adder.py` with a function `add` of two numbers, and for it one "
        "test by `unittest` in `test_adder.py`.",
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
    return write.scenario(
        "a task with a test",
        plan(batch(1, adder)),
        {"1.1": _MERGED},
        lines={"adder.py": 2, "test_adder.py": 4},
        ran={"1.1": "Ran 1 test"},
    )


_HOPELESS = "Write the word half into `broken.txt`. Whatever you do, the check of this task fails."


def _broken(write: _Writer, identity: str, script: str) -> tuple[str, _End]:
    """Return a task that cannot work, and how it ends."""
    files = ["broken.txt"]
    if write.scripted:
        text = write.task(identity, "Broken", "Fail.", files=files, script=script)
        return text, ("failed", "agent")
    text = write.task(identity, "Broken", _HOPELESS, files=files, checks=["false"])
    return text, ("failed", "checks")


def _error(write: _Writer) -> Scenario:
    broken, end = _broken(write, "1.1", "write broken.txt\n| half\nexit 3")
    return write.scenario("an agent that fails", plan(batch(1, broken)), {"1.1": end})


def _mixed(write: _Writer) -> Scenario:
    fine = write.task("1.1", "Fine", "Write a word into `fine.txt`.", files=["fine.txt"])
    broken, end = _broken(write, "1.2", "exit 3")
    return write.scenario(
        "one task that works and one that fails",
        plan(batch(1, fine, broken, mode="parallel")),
        {"1.1": _MERGED, "1.2": end},
        lines={"fine.txt": 1},
    )


def _done_already(write: _Writer) -> Scenario:
    there = write.task(
        "1.1",
        "There",
        "There has to be a `README.md`. If there is one, change nothing.",
        files=["README.md"],
        script="print it is",
        checks=["test -f README.md"],
    )
    return write.scenario(
        "a task that is done already", plan(batch(1, there)), {"1.1": ("completed", "already-done")}
    )


def _large_file(write: _Writer) -> Scenario:
    long = write.task(
        "1.1",
        "A long file",
        "Write a file `long.py` of at least 501 lines, for example by a small shell loop.",
        files=["long.py"],
        script="lines long.py 2500",
        checks=["test $(wc -l < long.py) -gt 500"],
    )
    lines = 2500 if write.scripted else 501
    return write.scenario(
        "a file of many lines", plan(batch(1, long)), {"1.1": _MERGED}, lines={"long.py": lines}
    )


def _several_files(write: _Writer) -> Scenario:
    several = write.task(
        "1.1",
        "Several files",
        "Write a Python module `src/a.py` that sets `A` to 1, another `src/deep/b.py` that sets "
        "`B` to 2, and add the line `More.` at the end of `README.md`.",
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
    return write.scenario(
        "several files in one pull request",
        plan(batch(1, several)),
        {"1.1": _MERGED},
        lines={"src/a.py": 1, "src/deep/b.py": 1, "README.md": 2},
    )


def scenarios(*, scripted: bool) -> Mapping[int, Scenario]:
    """Return the ten, by their numbers: for the scripted agent, or in words for any other."""
    write = _Writer(scripted)
    every = (
        *(_one_file, _two_in_order, _one_command, _three_at_once, _test_file),
        *(_error, _mixed, _done_already, _large_file, _several_files),
    )
    return MappingProxyType({number: make(write) for number, make in enumerate(every, 1)})
