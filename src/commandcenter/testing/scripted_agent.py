#!/usr/bin/env -S python3 -I
"""The scripted agent: a real agent process that does what the task's text says, with no model.

It stands in for a coding agent in tests, the demo and the qualification, and says so in all that
it writes. It reads `$CC_INPUT_FILE` (`cc.input/1`) and `$CC_PROMPT_FILE`, works in the current
folder, prints JSON-line events, and leaves a review in `$CC_RESULT_FILE`. This file needs nothing
but Python 3.9: run it by its path.

A task scripts it with a fenced block, one operation a line; lines that start with `|` are the
content of the operation above them:

    ```scripted-agent
    write src/hello.py
    | print("hello")
    run python3 src/hello.py
    when-feedback append src/hello.py
    | print("louder")
    review revise "src/hello.py:1: Say it louder" then approve
    ```

    write PATH | append PATH       with the content below; folders are made
    lines PATH N                   write a file of N lines
    delete PATH | rename PATH PATH
    run COMMAND                    with `/bin/sh -c`; goes on whatever its exit code
    commit [MESSAGE]               commit everything in the workspace's own git
    ask TEXT                       ask the model at $CC_MODEL_URL, print its answer
    print TEXT | flood BYTES       print a line, or so many bytes
    sleep SECONDS | hang           wait, or never end
    ignore-term                    ignore SIGTERM and SIGINT from here on
    daemon                         leave a process behind that holds the output open
    exit CODE                      end here
    result                         leave the content below as the result file
    crash                          end by SIGKILL
    rank smallest|largest|containing WORD
                                   for judges: rank the candidates by their diffs
    review DECISION ["WORDS"] [then DECISION ["WORDS"]]...
                                   for reviewers: the decision of round 1, 2, ...; the last one
                                   stays. `approve`, `revise`, `reject`, `prose` (says LGTM),
                                   `garbage` (breaks the schema), `crash`, `hang`. WORDS are the
                                   issue, after `FILE:LINE: ` if it has a place.

Before any operation: `only-on-attempt N`, `only-on-round N`, `when-feedback`, `unless-feedback`,
`only-on-lane N`, `only-with PROFILE`, and `only-as ROLE` (`judge`, `route`, `plan`, `manage`), that
every operation needs which is not for who works. Without a script it makes the files that the task
declares, and changes one file of each folder; a reviewer without one approves, a judge ranks the
smallest first, a router takes the first profile, a planner plans one task, and a manager has the
first of its team work once.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

SCRIPTED_AGENT = Path(__file__).resolve()
"""This file, for profiles: `shell` with this as a program and its name as the command."""

_FENCE = re.compile(r"^[ \t]*```scripted-agent[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.S | re.M)
_ROLE = re.compile(r"(?:^|\s)only-as (\w+)")
_PLACE = re.compile(r"(?P<file>[^\s:]+):(?P<line>\d+): (?P<problem>.+)", re.S)
_DECISIONS = ("approve", "revise", "reject", "prose", "garbage", "crash", "hang")
_CONDITIONS = (
    *("only-on-attempt", "only-on-round", "only-on-lane", "only-with", "only-as"),
    *("when-feedback", "unless-feedback"),
)


class Task(NamedTuple):
    """What the orchestrator asks."""

    role: str
    title: str
    text: str
    """Instructions, which may hold a script."""
    files: list[dict[str, str]]
    attempt: int
    round: int
    feedback: str
    diff: str
    lane: int
    profile: str
    options: list[str]
    changes: dict[str, str]


class Operation(NamedTuple):
    """One line of a script, with the content below it."""

    name: str
    rest: str
    content: str
    holds: bool
    """Whether its conditions are met here."""
    role: str = "work"
    """Whose operation it is."""

    @property
    def words(self) -> list[str]:
        """Return the arguments as a shell would part them."""
        return shlex.split(self.rest)


class ScriptError(Exception):
    """The script is wrong: said aloud, exit code 2."""


def main() -> int:
    """Do the task; return the exit code."""
    try:
        task = _task()
        script = tuple(_operations(task))
        _perform(task, script)
    except ScriptError as error:
        print(f"scripted agent: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _perform(task: Task, script: tuple[Operation, ...]) -> None:
    mine = tuple(operation for operation in script if operation.role == task.role)
    if task.role == "review":
        _review(task, script)
    elif task.role == "work" or mine:
        _work(task, mine)
    else:
        _leave(json.dumps(_ANSWERS[task.role](task)))


def _task() -> Task:
    given = _json_file(os.environ.get("CC_INPUT_FILE", ""))
    task = given.get("task", {})
    prompt = os.environ.get("CC_PROMPT_FILE", "")
    fallback = Path(prompt).read_text("utf-8") if prompt and Path(prompt).is_file() else ""
    return Task(
        role=given.get("role") or os.environ.get("CC_ROLE", "work"),
        title=task.get("title", "a task"),
        text=task.get("instructions") or fallback,
        files=task.get("files", []),
        attempt=given.get("attempt", 1),
        round=given.get("round", 1),
        feedback=given.get("feedback", ""),
        diff=given.get("diff", ""),
        lane=given.get("lane", 1),
        profile=given.get("profile", ""),
        options=given.get("options", []),
        changes=given.get("changes", {}),
    )


def _json_file(path: str) -> dict[str, Any]:
    if not path or not Path(path).is_file():
        return {}
    given = json.loads(Path(path).read_text("utf-8"))
    return given if isinstance(given, dict) else {}


def _operations(task: Task) -> Iterator[Operation]:
    """Give the operations of all blocks, in order."""
    for block in _FENCE.findall(task.text):
        for line, content in _lines(block):
            bare, holds = _conditions(line, task)
            name, _, rest = bare.partition(" ")
            role = found[1] if (found := _ROLE.search(line)) else "work"
            yield Operation(name, rest.strip(), content, holds, role)


def _lines(block: str) -> Iterator[tuple[str, str]]:
    """Give each operation's line with its content."""
    parts: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        text = line.strip()
        if text.startswith("|"):
            if not parts:
                raise ScriptError("content stands above the first operation")
            bar = line.index("|")
            parts[-1][1].append(line[bar + 1 :].removeprefix(" "))
        elif text and not text.startswith("#"):
            parts.append((text, []))
    for text, content in parts:
        yield text, "".join(f"{line}\n" for line in content)


def _conditions(line: str, task: Task) -> tuple[str, bool]:
    """Return the line without its conditions, and whether all of them hold."""
    word, _, rest = line.partition(" ")
    if word not in _CONDITIONS:
        return line, True
    if word.startswith("only-"):
        wanted, _, rest = rest.partition(" ")
        holds = wanted == _here(word, task)
    else:
        holds = bool(task.feedback) == (word == "when-feedback")
    bare, others_hold = _conditions(rest.strip(), task)
    return bare, holds and others_hold


def _here(condition: str, task: Task) -> str:
    """Return what a condition that names something is about, as it is here."""
    found = {
        "only-on-attempt": task.attempt,
        "only-on-round": task.round,
        "only-on-lane": task.lane,
        "only-with": task.profile,
        "only-as": task.role,
    }
    return str(found[condition])


def _work(task: Task, script: tuple[Operation, ...]) -> None:
    _say("text", text=f"The scripted agent works on: {task.title}")
    scripted = [operation for operation in script if operation.name != "review"]
    if not scripted:
        for file in task.files:
            _declared(task, file)
    for operation in scripted:
        if operation.holds:
            _do(task, operation)
    _say("result", text="The scripted agent is done.")


def _do(task: Task, operation: Operation) -> None:
    if operation.name == "rank":
        _leave(json.dumps(_ranked(task, operation.words)))
        return
    if operation.name not in _OPERATIONS:
        raise ScriptError(f"there is no operation `{operation.name}`")
    _say("tool", tool=operation.name, text=operation.rest)
    try:
        ok, text = _OPERATIONS[operation.name](operation), ""
    except (OSError, ValueError) as error:
        ok, text = False, str(error)
    _say("tool_result", tool=operation.name, ok=ok, text=text)


def _write(operation: Operation) -> bool:
    _put(operation.words[0], operation.content)
    return True


def _append(operation: Operation) -> bool:
    path = Path(operation.words[0])
    _put(str(path), (path.read_text("utf-8") if path.exists() else "") + operation.content)
    return True


def _many_lines(operation: Operation) -> bool:
    path, number = operation.words
    _put(path, "".join(f"# line {line} of {number}\n" for line in range(1, int(number) + 1)))
    return True


def _delete(operation: Operation) -> bool:
    Path(operation.words[0]).unlink()
    return True


def _rename(operation: Operation) -> bool:
    old, new = operation.words
    Path(new).parent.mkdir(parents=True, exist_ok=True)
    Path(old).rename(new)
    return True


def _run(operation: Operation) -> bool:
    return subprocess.run(["/bin/sh", "-c", operation.rest], check=False).returncode == 0


def _commit(operation: Operation) -> bool:
    who = ["-c", "user.name=Scripted Agent", "-c", "user.email=scripted-agent@localhost"]
    message = operation.rest or "Work of the scripted agent"
    added = subprocess.run(["git", "add", "-A"], check=False)
    done = subprocess.run(["git", *who, "commit", "-q", "-m", message], check=False)
    return added.returncode == done.returncode == 0


def _ask(operation: Operation) -> bool:
    """Ask the model as a client would that knows no key."""
    body = {
        "model": os.environ.get("CC_MODEL") or "scripted",
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": operation.rest}],
    }
    request = urllib.request.Request(  # noqa: S310 - the URL is the orchestrator's
        os.environ["CC_MODEL_URL"] + "/v1/messages",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "x-api-key": "none"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        content = json.load(answer)["content"]
    _say("text", text="".join(block.get("text", "") for block in content))
    return True


def _print(operation: Operation) -> bool:
    print(operation.rest, flush=True)  # noqa: T201
    return True


def _flood(operation: Operation) -> bool:
    left, line = int(operation.words[0]), b"flood " * 170 + b"\n"
    while left > 0:
        left -= os.write(1, line if left > len(line) else line[-left:])
    return True


def _sleep(operation: Operation) -> bool:
    time.sleep(float(operation.words[0]))
    return True


def _hang(_: Operation) -> bool:
    while True:
        signal.pause()


def _ignore_term(_: Operation) -> bool:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return True


def _daemon(_: Operation) -> bool:
    sleeper = [sys.executable, "-I", "-c", "import signal; signal.pause()"]
    child = subprocess.Popen(sleeper, start_new_session=True)
    _say("text", text=f"daemon {child.pid}")
    return True


def _exit(operation: Operation) -> NoReturn:
    raise SystemExit(int(operation.words[0]))


def _crash(_: Operation) -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    return False


def _result(operation: Operation) -> bool:
    _leave(operation.content)
    return True


_OPERATIONS: dict[str, Callable[[Operation], bool]] = {
    "append": _append,
    "ask": _ask,
    "commit": _commit,
    "crash": _crash,
    "daemon": _daemon,
    "delete": _delete,
    "exit": _exit,
    "flood": _flood,
    "hang": _hang,
    "ignore-term": _ignore_term,
    "lines": _many_lines,
    "print": _print,
    "rename": _rename,
    "result": _result,
    "run": _run,
    "sleep": _sleep,
    "write": _write,
}


def _declared(task: Task, file: dict[str, str]) -> None:
    """Make one declared file what the task wants of it, plausibly and the same every time."""
    path = _first_below(Path(file["path"]))
    _say("tool", tool=file.get("op", "create"), text=str(path))
    if file.get("op") == "delete":
        path.unlink(missing_ok=True)
    elif path.exists():
        _changed(task, path)
    else:
        _put(str(path), _content(task, path))
    _say("tool_result", tool=file.get("op", "create"), ok=True)


def _first_below(path: Path) -> Path:
    """Return a file as it is; of a folder the first file, or one to be made where it has none."""
    if not path.is_dir():
        return path
    return min((each for each in path.rglob("*") if each.is_file()), default=path / "made.txt")


def _changed(task: Task, path: Path) -> None:
    """Add the task's note to a file, once a round. JSON has no comments: it is left as it is."""
    mark, end = _comment(path)
    after = f", after feedback in round {task.round}" if task.feedback else ""
    note = f"{mark}{task.title} (scripted agent{after}){end}\n"
    content = path.read_text("utf-8")
    if path.suffix != ".json" and note not in content:
        parting = "" if not content or content.endswith("\n") else "\n"
        path.write_text(content + parting + note, "utf-8")


def _content(task: Task, path: Path) -> str:
    note = f"{task.title} (scripted agent)"
    if path.suffix == ".json":
        return json.dumps({"made_by": "scripted agent", "task": task.title}, indent=2) + "\n"
    if path.suffix == ".md":
        return f"# {task.title}\n\n<!-- {note} -->\n"
    mark, end = _comment(path)
    heading = f"{mark}{note}{end}\n"
    if path.suffix != ".py":
        return heading
    name = re.sub(r"\W", "_", path.stem)
    if name.startswith("test_") or name.endswith("_test"):
        return heading + _test(task, path, name.removeprefix("test_"))
    return (
        f'{heading}\n\ndef {name if name.isidentifier() else "main"}() -> str:\n    return "ok"\n'
    )


def _test(task: Task, path: Path, name: str) -> str:
    """Return a test that fails when a file is missing that the task declares beside it."""
    declared = [each["path"] for each in task.files if each.get("op") != "delete"]
    up = len(path.parts) - 1
    return (
        "from pathlib import Path\n\n\n"
        f"def test_{name}() -> None:\n"
        f"    root = Path(__file__).parents[{up}]\n"
        f"    missing = [name for name in {declared!r} if not (root / name).is_file()]\n"
        "    assert missing == []\n"
    )


def _comment(path: Path) -> tuple[str, str]:
    """Return what opens and closes a one-line comment in this kind of file."""
    if path.suffix in (".js", ".ts", ".tsx", ".jsx", ".go", ".rs", ".c", ".h", ".java", ".swift"):
        return "// ", ""
    if path.suffix == ".css":
        return "/* ", " */"
    if path.suffix in (".html", ".xml", ".md"):
        return "<!-- ", " -->"
    return ("", "") if path.suffix == ".txt" else ("# ", "")


def _review(task: Task, script: tuple[Operation, ...]) -> None:
    _say("text", text=f"The scripted agent reviews: {task.title}")
    asked = [operation for operation in script if operation.name == "review" and operation.holds]
    rounds = _rounds(asked[-1]) if asked else [("approve", "")]
    decision, words = rounds[min(task.round, len(rounds)) - 1]
    if decision == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if decision == "hang":
        _hang(asked[-1])
    if decision == "prose":
        _say("result", text=words or "LGTM, ship it!")
    elif decision == "garbage":
        _leave('{"decision": "maybe", "issues": "none"}')
    else:
        _leave(json.dumps(_verdict(task, decision, words)))
        _say("result", text=f"The scripted agent says: {decision}.")


def _ranked(task: Task, words: list[str]) -> dict[str, Any]:
    """Return a `cc.choice/1` over the changes that are shown."""
    by, wanted = words[0], " ".join(words[1:])
    keys: dict[str, Callable[[str], int]] = {
        "smallest": lambda label: len(task.changes[label]),
        "largest": lambda label: -len(task.changes[label]),
        "containing": lambda label: wanted not in task.changes[label],
    }
    ranking = sorted(task.options, key=keys[by])
    return {
        "schema": "cc.choice/1",
        "ranking": ranking,
        "scores": {label: 10 - n for n, label in enumerate(ranking)},
        "disqualified": [],
        "reason": f"The scripted judge ranks by: {' '.join(words)}.",
    }


def _routed(task: Task) -> dict[str, Any]:
    return {"schema": "cc.route/1", "profile": task.options[0], "reason": "It is the first one."}


def _planned(task: Task) -> dict[str, Any]:
    files = [each["path"] for each in task.files]
    one = {"id": "1", "title": task.title, "instructions": task.title, "depends_on": []}
    return {
        "schema": "cc.subplan/1",
        "tasks": [{**one, "files": files, "verification": []}],
        "rationale": "The scripted planner leaves it whole.",
    }


def _managed(task: Task) -> dict[str, Any]:
    """Have somebody work in the first round, and be satisfied afterwards."""
    first = task.round == 1
    said = {"answer": first, "reason": "It is the first round." if first else "It was done."}
    return {
        "schema": "cc.ledger/1",
        "facts": {"given": [task.title], "lookup": [], "derive": [], "guess": []},
        "plan": ["Do it."],
        "satisfied": {**said, "answer": not first},
        "in_loop": {"answer": False, "reason": "Nothing was asked twice."},
        "progress": {"answer": True, "reason": "It goes on."},
        "next": {"profile": task.options[0], "instruction": "Do the task.", "reason": "The first."},
    }


_ANSWERS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "judge": lambda task: _ranked(task, ["smallest"]),
    "manage": _managed,
    "plan": _planned,
    "route": _routed,
}
"""What is answered without a script for the role."""


def _rounds(operation: Operation) -> list[tuple[str, str]]:
    """Return decision and words of each round."""
    rounds: list[list[str]] = [[]]
    for word in operation.words:
        if word == "then":
            rounds.append([])
        else:
            rounds[-1].append(word)
    return [_round(words) for words in rounds]


def _round(words: list[str]) -> tuple[str, str]:
    decision = words[0] if words else ""
    if decision not in _DECISIONS:
        raise ScriptError(f"there is no decision `{decision}`")
    return decision, " ".join(words[1:])


def _verdict(task: Task, decision: str, words: str) -> dict[str, Any]:
    """Return a `cc.verdict/1`."""
    added = sum(_is_change(line, "+") for line in task.diff.splitlines())
    removed = sum(_is_change(line, "-") for line in task.diff.splitlines())
    files = task.diff.count("diff --git ")
    issues = [_issue(words or "The script wants another round.")] if decision != "approve" else []
    return {
        "decision": decision,
        "summary": f"Scripted review of {files} changed files, +{added} -{removed} lines.",
        "issues": issues,
    }


def _is_change(line: str, sign: str) -> bool:
    return line.startswith(sign) and not line.startswith(sign * 3)


def _issue(words: str) -> dict[str, Any]:
    issue = {"problem": words, "severity": "major", "must_fix": True, "file": "", "line": 0}
    if place := _PLACE.fullmatch(words):
        issue.update(place.groupdict(), line=int(place["line"]))
    return issue


def _put(path: str, content: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content, "utf-8")


def _leave(content: str) -> None:
    Path(os.environ["CC_RESULT_FILE"]).write_text(content, "utf-8")


def _say(kind: str, **fields: object) -> None:
    print(json.dumps({"type": kind, **fields}), flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
