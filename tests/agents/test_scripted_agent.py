"""The scripted agent as what it is: a process in a folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from commandcenter.core.forge import Decision, Issue, Review
from commandcenter.core.verdict import InvalidVerdict, parse_verdict
from commandcenter.testing.model_server import ModelServer
from commandcenter.testing.scripted_agent import SCRIPTED_AGENT

DIFF = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1,2 @@\n-old\n+new\n+newer\n"


@dataclass(frozen=True)
class Ran:
    exit_code: int
    events: tuple[Mapping[str, Any], ...]
    stdout: bytes
    stderr: str
    result: Any


@dataclass
class Room:
    """A workspace with a channel, as the scripted agent finds it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def start(self, script: str = "", **given: object) -> subprocess.Popen[bytes]:
        text = f"Say hello.\n\n```scripted-agent\n{script}```\n" if script else "Say hello."
        task = {"id": "1.1", "title": "Say hello", "instructions": text}
        task["files"] = given.pop("files", [])  # type: ignore[assignment]
        channel = self.folder / "cc"
        for folder in (self.work, channel):
            folder.mkdir(exist_ok=True)
        asked = {"schema": "cc.input/1", "task": task, "role": "work", **given}
        (channel / "input.json").write_text(json.dumps(asked))
        return subprocess.Popen(
            [sys.executable, "-I", str(SCRIPTED_AGENT)],
            cwd=self.work,
            env={
                "PATH": os.environ["PATH"],
                "CC_INPUT_FILE": str(channel / "input.json"),
                "CC_RESULT_FILE": str(channel / "result.json"),
                **self.environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, script: str = "", **given: object) -> Ran:
        with self.start(script, **given) as process:
            stdout, stderr = process.communicate(timeout=60)
        result = self.folder / "cc" / "result.json"
        return Ran(
            exit_code=process.returncode,
            events=tuple(json.loads(line) for line in stdout.splitlines() if line[:1] == b"{"),
            stdout=stdout,
            stderr=stderr.decode(),
            result=json.loads(result.read_text()) if result.exists() else None,
        )

    def reviewed(self, script: str = "", *, round: int = 1) -> Review | InvalidVerdict:  # noqa: A002
        ran = self.run(script, role="review", round=round, diff=DIFF)
        return parse_verdict(ran.result, commit="c0ffee", reviewer="scripted")

    def files(self) -> dict[str, str]:
        found = (path for path in self.work.rglob("*") if path.is_file())
        return {str(path.relative_to(self.work)): path.read_text() for path in found}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_a_script_writes_appends_renames_and_deletes(room: Room) -> None:
    ran = room.run(
        "write a/b.txt\n| one\n|\n|   indented\nappend a/b.txt\n| last\n"
        "write 'with space.txt'\n| x\nrename 'with space.txt' c/d.txt\n"
        "# a comment\nwrite gone\ndelete gone\nlines big.py 3\n"
    )

    assert ran.exit_code == 0
    assert room.files() == {
        "a/b.txt": "one\n\n  indented\nlast\n",
        "c/d.txt": "x\n",
        "big.py": "# line 1 of 3\n# line 2 of 3\n# line 3 of 3\n",
    }


def test_every_operation_is_an_event_with_its_outcome(room: Room) -> None:
    ran = room.run("run true\nrun exit 3\ndelete nothing\nprint plain words\n")

    outcomes = [event["ok"] for event in ran.events if event["type"] == "tool_result"]
    assert outcomes == [True, False, False, True]
    assert ran.events[-1] == {"type": "result", "text": "The scripted agent is done."}
    assert b"plain words\n" in ran.stdout


def test_it_can_fail_at_first_and_succeed_later(room: Room) -> None:
    script = "only-on-attempt 1 exit 7\nwrite a.txt\n| good\n"

    first, second = room.run(script, attempt=1), room.run(script, attempt=2)

    assert (first.exit_code, second.exit_code) == (7, 0)
    assert room.files() == {"a.txt": "good\n"}


def test_it_can_heed_feedback(room: Room) -> None:
    script = (
        "unless-feedback write a.txt\n| hello\n"
        "when-feedback only-on-round 2 write a.txt\n| HELLO\n"
        "only-on-round 3 exit 9\n"
    )

    room.run(script)
    before = room.files()
    room.run(script, feedback="Louder!", round=2)

    assert before == {"a.txt": "hello\n"}
    assert room.files() == {"a.txt": "HELLO\n"}


def test_it_commits_in_the_workspaces_own_repository(room: Room) -> None:
    room.work.mkdir()
    subprocess.run(["git", "init", "-q", str(room.work)], check=True)

    room.run("write a.txt\n| x\ncommit Say it\n")

    log = subprocess.run(
        ["git", "-C", str(room.work), "log", "--format=%an %s"], capture_output=True, check=True
    )
    assert log.stdout == b"Scripted Agent Say it\n"


def test_a_flood_is_as_long_as_asked(room: Room) -> None:
    ran = room.run("flood 300000\nexit 0\n")

    flood = [line for line in ran.stdout.split(b"\n") if b"flood" in line and line[:1] != b"{"]
    assert sum(len(line) + 1 for line in flood) == 300_000


def test_hang_and_ignore_term_leave_only_the_hard_way(room: Room) -> None:
    with ended(room.start("ignore-term\nhang\n")) as process:
        assert process.stdout is not None
        while b'"hang"' not in process.stdout.readline():
            pass
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)


def test_a_daemon_outlives_the_agent_and_holds_its_output(room: Room) -> None:
    with ended(room.start("daemon\n")) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.wait(timeout=30)
        child = next(int(word) for line in lines for word in [_daemon(line)] if word)
        try:
            assert Path(f"/proc/{child}").exists()
        finally:
            os.kill(child, signal.SIGKILL)


def _daemon(line: bytes) -> str:
    text = str(json.loads(line).get("text", ""))
    return text.removeprefix("daemon ") if text.startswith("daemon ") else ""


async def test_it_can_ask_the_model_without_a_key(room: Room) -> None:
    script = {"no_tools": True, "match": {"prompt": "greeting"}, "turns": [{"text": "Ahoy."}]}
    async with ModelServer([script]) as server:
        room.environment["CC_MODEL_URL"] = server.url
        ran = await asyncio.to_thread(room.run, "ask a greeting\n")

    assert {"type": "text", "text": "Ahoy."} in ran.events
    assert server.requests[0].headers["x-api-key"] == "none"


@pytest.mark.parametrize("script", ["frobnicate x\n", "| content of nothing\n"])
def test_a_wrong_script_is_said_aloud(room: Room, script: str) -> None:
    ran = room.run(script)

    assert ran.exit_code == 2
    assert ran.stderr.startswith("scripted agent: ")


def test_without_a_script_it_makes_what_the_task_declares(room: Room) -> None:
    room.work.mkdir()
    for name in ("old.py", "gone.py"):
        (room.work / name).write_text("x = 1")
    files = [
        {"path": "src/hello.py", "op": "create"},
        {"path": "tests/test_hello.py", "op": "test"},
        {"path": "notes.md", "op": "create"},
        {"path": "package.json", "op": "create"},
        {"path": "old.py", "op": "modify"},
        {"path": "gone.py", "op": "delete"},
    ]

    room.run(files=files)
    first = room.files()
    room.run(files=files)

    assert sorted(first) == sorted(
        ["notes.md", "old.py", *[f["path"] for f in files[:2]], "package.json"]
    )
    assert first["old.py"] == "x = 1\n# Say hello (scripted agent)\n"
    assert json.loads(first["package.json"])["task"] == "Say hello"
    compile(first["tests/test_hello.py"], "test_hello.py", "exec")
    assert "def test_hello() -> None:" in first["tests/test_hello.py"]
    assert room.files() == first


def test_the_test_that_it_makes_fails_without_what_the_task_declares(room: Room) -> None:
    files = [{"path": "src/hello.py"}, {"path": "tests/test_hello.py", "op": "test"}]
    call = "import runpy; runpy.run_path('tests/test_hello.py')['test_hello']()"
    argv = [sys.executable, "-c", call]

    room.run(files=files)
    whole = subprocess.run(argv, cwd=room.work, capture_output=True, check=False)
    (room.work / "src/hello.py").unlink()
    partial = subprocess.run(argv, cwd=room.work, capture_output=True, check=False)

    assert whole.returncode == 0
    assert b"AssertionError" in partial.stderr


def test_without_a_script_feedback_still_makes_a_difference(room: Room) -> None:
    files = [{"path": "a.py", "op": "create"}]

    room.run("review revise then approve\n", files=files)
    before = room.files()
    room.run("review revise then approve\n", files=files, feedback="Louder!", round=2)

    assert before["a.py"] != room.files()["a.py"]


def test_as_a_reviewer_without_a_script_it_approves_and_says_what_it_saw(room: Room) -> None:
    review = room.reviewed()

    assert isinstance(review, Review)
    assert review.decision is Decision.APPROVE
    assert review.summary == "Scripted review of 1 changed files, +2 -1 lines."
    assert room.files() == {}


def test_a_review_goes_by_rounds_and_its_last_decision_stays(room: Room) -> None:
    script = 'write a.txt\n| x\nreview revise "src/a.py:7: Say it then louder" then approve\n'

    first, second, third = (room.reviewed(script, round=n) for n in (1, 2, 3))

    assert isinstance(first, Review)
    assert first.decision is Decision.REVISE
    assert first.issues == (Issue("Say it then louder", file="src/a.py", line=7),)
    assert isinstance(second, Review)
    assert isinstance(third, Review)
    assert (second.decision, third.decision) == (Decision.APPROVE, Decision.APPROVE)
    assert room.files() == {}


@pytest.mark.parametrize("decision", ["prose", "garbage", "crash"])
def test_a_bad_reviewer_gives_no_verdict(room: Room, decision: str) -> None:
    assert isinstance(room.reviewed(f"review {decision}\n"), InvalidVerdict)


def test_it_runs_by_its_path_alone(room: Room, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text("Do it.\n```scripted-agent\nwrite a.txt\n| from the prompt\n```\n")
    with suppress(FileExistsError):
        room.work.mkdir()

    subprocess.run(
        [str(SCRIPTED_AGENT)],
        cwd=room.work,
        env={"PATH": "/usr/bin:/bin", "CC_PROMPT_FILE": str(prompt)},
        check=True,
        capture_output=True,
    )

    assert room.files() == {"a.txt": "from the prompt\n"}
