"""`commandcenter plan`: what it prints where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from commandcenter.cli.plan import plan
from commandcenter.core.plan import from_json

GUESTBOOK = str(Path(__file__).parent / "samples" / "guestbook.md")
WRONG = "### Task 1.1: A\n\n**Depends on:** Task 1.2\n\n**Verification:** `true`\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(plan, arguments)


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    path = tmp_path / "wrong.md"
    path.write_text(WRONG)
    return str(path)


def test_check_tells_and_counts() -> None:
    result = run("check", GUESTBOOK)
    assert result.exit_code == 0
    assert f"{GUESTBOOK}:67:22: warning[W101]" in result.stderr
    assert result.stdout == f"{GUESTBOOK}: 3 batches, 5 tasks (1 done); 0 errors, 2 warnings\n"


def test_check_of_a_wrong_plan_ends_with_2(wrong: str) -> None:
    result = run("check", wrong)
    assert result.exit_code == 2
    assert f"{wrong}:3:22: error[P004]" in result.stderr
    assert "1 error, 0 warnings" in result.stdout


def test_check_in_json(wrong: str) -> None:
    result = run("check", "--json", wrong)
    found = json.loads(result.stdout)
    assert result.exit_code == 2
    assert (found["ok"], found["tasks"]) == (False, 1)
    assert found["diagnostics"][0]["code"] == "P004"


def test_show_says_who_waits_for_whom_and_what_is_run() -> None:
    result = run("show", GUESTBOOK)
    assert result.exit_code == 0
    assert "batch 2: Pages  [parallel, container]" in result.stdout
    assert "    waits for 1.2 (barrier, line 55)" in result.stdout
    assert "    verify $ pytest -q tests/test_store.py" in result.stdout
    assert "    verify - The table has a primary key" in result.stdout
    assert "task 2.2: Sign the book  [done in the plan]" in result.stdout


def test_show_says_what_goes_first(tmp_path: Path) -> None:
    plan = tmp_path / "plan.md"
    plan.write_text("### Task 1.1: A\n**Priority:** urgent\n\nx\n\n### Task 1.2: B\n\nx\n")
    lines = [line.strip() for line in run("show", str(plan)).stdout.splitlines()]
    assert lines.count("priority high") == 1


def test_show_in_json_is_a_plan_that_can_be_checked(tmp_path: Path) -> None:
    canonical = tmp_path / "plan.json"
    canonical.write_text(run("show", "--json", GUESTBOOK).stdout)
    assert from_json(canonical.read_text()).title == "Guestbook"
    assert run("check", str(canonical)).exit_code == 0


def test_graph_in_layers() -> None:
    lines = run("graph", GUESTBOOK).stdout.splitlines()
    assert lines[:3] == ["layer 1", "  1.1 Create the table", "layer 2"]


def test_graph_for_other_programs() -> None:
    assert (
        '"1.1" -> "1.2" [label="sequence", style=dashed];'
        in run("graph", "--dot", GUESTBOOK).stdout
    )
    assert "  t0 -.->|sequence| t1" in run("graph", "--mermaid", GUESTBOOK).stdout
    assert json.loads(run("graph", "--json", GUESTBOOK).stdout)[0]["why"] == "sequence"


@pytest.mark.parametrize("command", ["show", "graph"])
def test_a_wrong_plan_is_not_shown(command: str, wrong: str) -> None:
    result = run(command, wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error[P004]" in result.stderr


@pytest.mark.parametrize("command", ["check", "show", "graph"])
def test_a_file_that_cannot_be_read_is_one_error_with_a_hint(command: str, tmp_path: Path) -> None:
    binary, empty = tmp_path / "binary.md", tmp_path / "empty.md"
    binary.write_bytes(b"\x7fELF\x00\xff")
    empty.write_bytes(b"")
    for path, said in [
        (tmp_path / "missing.md", "there is no such file"),
        (tmp_path, "this is a folder"),
        (tmp_path / "missing.md" / "x", "there is no such file"),
        (binary / "x", "cannot be read: Not a directory"),
        (binary, "the plan is not text: a NUL byte at byte 4"),
        (empty, "the plan is empty"),
    ]:
        result = run(command, str(path))
        assert result.exit_code == 2
        assert said in result.stderr
        assert "hint: " in result.stderr
        assert "Traceback" not in result.output


def test_an_unknown_dialect_names_those_known() -> None:
    result = run("check", "--format", "kiro", GUESTBOOK)
    assert result.exit_code == 2
    assert "known are canonical, commandcenter" in result.stderr


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "odd.md"
    path.write_text("### Task 1.1: A\x1b[2Jb\n\n**Verification:** `true`\n")
    assert "\x1b" not in run("show", str(path)).output


TOGETHER = """---
commandcenter: 1
defaults: {limits: {budget_usd: 4}}
---
### Task 1.1: A

**Pattern:** vote(3, judge=none)

**Verification:** `true`

### Task 1.2: B

**Agent:** nobody

**Verification:** `true`
"""


@pytest.fixture
def together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    config = tmp_path / "config.toml"
    config.write_text('[roles]\njudge = "claude"\n')
    monkeypatch.setenv("COMMANDCENTER_CONFIG", str(config))
    path = tmp_path / "together.md"
    path.write_text(TOGETHER)
    return str(path)


def test_show_says_who_works_how_and_where_that_was_said(together: str) -> None:
    result = run("show", together, "--set", "1.2.review=none", "--role", "plan=claude")

    assert "    pattern  vote(3, judge=none) (task 1.1, line 7)\n" in result.stdout
    assert "    limits   budget_usd=4 (front matter, line 3)\n" in result.stdout
    assert "    role     plan=claude (command line)\n" in result.stdout
    assert "    role     judge=claude (settings)\n" in result.stdout
    assert "    review   none (command line)\n" in result.stdout
    assert "\nat most 27 agent runs, at most $8 (not counted: " in result.stdout


def test_show_warns_of_a_profile_that_is_not_configured(together: str) -> None:
    assert run("show", together).stderr == (
        "warning: no agent profile is `nobody` (task 1.2, line 13)\n"
    )


def test_who_works_is_shown_as_json_apart_from_the_canonical_plan(together: str) -> None:
    canonical = run("show", together, "--json").stdout
    assigned = json.loads(run("show", together, "--json", "--assigned").stdout)

    assert from_json(canonical).tasks[0].labels["pattern"] == "vote(3, judge=none)"
    first, second = assigned["tasks"]
    assert (first["pattern"], first["origins"]["pattern"]) == (
        "vote(3, judge=none)",
        "task 1.1, line 7",
    )
    assert second["roles"]["work"] == "nobody"
    assert assigned["runs_max"] == first["runs_max"] + second["runs_max"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("1.3.review=none", "no task 1.3"),
        ("1.2.review=by Anna", "1.2.review: `by Anna`, column"),
        ("1.2.review", "write it as KEY=TEXT"),
    ],
)
def test_what_cannot_be_set_is_refused(together: str, option: str, words: str) -> None:
    result = run("show", together, "--set", option)

    assert result.exit_code != 0
    assert words in f"{result.stderr}{result.exception}"
