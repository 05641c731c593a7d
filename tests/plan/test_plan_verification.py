"""Commands and prose are told apart, and what shall fail is never made to pass."""

from __future__ import annotations

import pytest

from commandcenter.core.plan import VerificationKind
from commandcenter.readers import PlanSource, ReadResult, read_plan


def read(body: str, label: str = "Verification") -> ReadResult:
    return read_plan(PlanSource(f"### Task 1.1: A\n\n**{label}:**\n{body}\n"))


def commands(body: str, label: str = "Verification") -> list[str]:
    plan = read(body, label).plan
    assert plan is not None
    return list(plan.tasks[0].commands)


def prose(body: str) -> list[str]:
    plan = read(body).plan
    assert plan is not None
    items = plan.tasks[0].verification
    return [item.text for item in items if item.kind is VerificationKind.PROSE]


@pytest.mark.parametrize(
    ("item", "command"),
    [
        ("`pytest -q`", "pytest -q"),
        ("`pytest`", "pytest"),
        ("`cat a.txt && grep -q x a.txt`", "cat a.txt && grep -q x a.txt"),
        ("``echo `date` ``", "echo `date`"),
        ("Run: `npm test`", "npm test"),
        ("`pytest tests/` passes", "pytest tests/"),
        ("`pytest tests/` - all green", "pytest tests/"),
        ("`pytest tests/` should not fail", None),
        ("`make check` exits with code 0", "make check"),
        ("`CI=1 npm test`", "CI=1 npm test"),
        ("`! grep -r TODO src`", "! grep -r TODO src"),
        ("`./check.sh`", "./check.sh"),
        ("`mytool check --all`", "mytool check --all"),
        ("`false`", "false"),
        ("false", "false"),
        ("pytest", "pytest"),
        ("cat x", "cat x"),
        ("cat test-artifacts/hello.txt", "cat test-artifacts/hello.txt"),
        ('cat "a/file with spaces & (special).txt"', 'cat "a/file with spaces & (special).txt"'),
        ("python test-artifacts/hello.py", "python test-artifacts/hello.py"),
        ("python -m pytest -q", "python -m pytest -q"),
        ("python -m json.tool a.json > /dev/null", "python -m json.tool a.json > /dev/null"),
        ("wc -l src/x.py", "wc -l src/x.py"),
        ("test -f a.txt", "test -f a.txt"),
        ("grep -q 'the file is here' a.txt", "grep -q 'the file is here' a.txt"),
        ("ls *.py", "ls *.py"),
        ("npm test", "npm test"),
        ("npm run build", "npm run build"),
        ("cargo test", "cargo test"),
        ("make lint", "make lint"),
        ("go vet ./...", "go vet ./..."),
        ("./run.sh --fast", "./run.sh --fast"),
        ("[ ] `pytest -q`", "pytest -q"),
        ('python -c "print(1)"', 'python -c "print(1)"'),
        ('python -c "print(\\"it is\\")"', 'python -c "print(\\"it is\\")"'),
        ("python3 -c 'assert 1 in (1, 2)'", "python3 -c 'assert 1 in (1, 2)'"),
        ('Run: python -c "print(1)"', 'python -c "print(1)"'),
        ("Command: pytest -q", "pytest -q"),
        # Sentences
        ("Test file exists", None),
        ("test file exists", None),
        ("JSON file is valid JSON", None),
        ("make sure it works", None),
        ("make it so", None),
        ("go to /admin and look", None),
        ("go 1.22 required", None),
        ("cat is shown in a/b.png", None),
        ("find the file in src/", None),
        ("python script runs without errors", None),
        ("python 3.11 works", None),
        ("ls shows a.txt", None),
        ("pytest tests/ should pass.", None),
        ("npm run build produces dist/", None),
        ("python don't", None),
        ('python -c "print(1)" prints 1', None),
        ("Run: the tests", None),
        ("Run python a.py", None),
        ("File `a.py` exists", None),
        ("`a.py` exists", None),
        ("`a.py`", None),
        ("`add(1, 2)` returns 3", None),
        ("`GET /health` returns 200", None),
        ("`user not found` is shown", None),
        ("`git status` and `ls` show nothing", None),
        ("Content contains `x`", None),
        ("None", None),
    ],
)
def test_command_or_prose(item: str, command: str | None) -> None:
    assert commands(f"- {item}") == ([command] if command else [])


@pytest.mark.parametrize(
    "body",
    [
        "- This will fail",
        "- `pytest -q` fails",
        "- `pytest -q` - fails until task 2",
        "- Run: `pytest -q`\n  Expected: FAIL",
        "- Run: `pytest -q`\n\n  Expected: FAIL with 'no module'",
        "- Run: `pytest -q`\n  - Expected: FAIL",
        "Run: `pytest -q`\n\nExpected: FAIL",
        "```bash\npytest -q\n```\nExpected: FAIL",
        "This should fail:\n\n```bash\npytest -q\n```",
        "```bash\npytest -q  # should fail\n```",
        "- `pytest -q` exits with code 1",
        "- `pytest -q` is expected to error",
    ],
)
def test_what_is_expected_to_fail_is_never_a_command(body: str) -> None:
    result = read(body)
    assert commands(body) == []
    assert {"W125", "W123"} & {d.code for d in result.diagnostics}


def test_expected_to_pass_stays_a_command() -> None:
    assert commands("Run: `pytest -q`\n\nExpected: PASS, no errors") == ["pytest -q"]
    assert commands("- `pytest -q` should not fail\n- `ruff check .`") == ["ruff check ."]


def test_every_item_is_kept_one_way_or_the_other() -> None:
    body = "1. `true`\n2. Page loads\n3. python a.py\n"
    assert commands(body) == ["true", "python a.py"]
    assert prose(body) == ["Page loads"]


def test_a_shell_block_is_one_command_that_stops_at_the_first_failure() -> None:
    assert commands("```bash\npytest -q\n```") == ["pytest -q"]
    assert commands("```sh\ncd src\npytest -q\n```") == ["set -e\ncd src\npytest -q"]
    assert commands("```console\n$ ls a\nb\n$ ls c\n```") == ["set -e\nls a\nls c"]


def test_a_block_of_another_language_is_not_run() -> None:
    assert commands("```python\nprint(1)\n```") == []
    assert commands("```\npytest\n```") == []
    assert prose("```\npytest\n```") == ["pytest"]


@pytest.mark.parametrize("label", ["Verify", "Test", "Tests", "Acceptance Criteria", "Testing"])
def test_other_words_for_verification(label: str) -> None:
    assert commands("- `pytest -q`", label) == ["pytest -q"]


def test_a_command_outside_a_verification_field_is_not_run() -> None:
    assert commands("- `pytest -q`", "Implementation") == []
    assert commands("- `pytest -q`", "Test Results") == []


def test_a_command_in_prose_is_told() -> None:
    found = read("- After `pytest -q` the report is there").diagnostics
    assert "W123" in {d.code for d in found}


@pytest.mark.parametrize("item", ["Run python a.py", "python a.py prints 1", "cat the file"])
def test_a_sentence_that_begins_like_a_command_is_told(item: str) -> None:
    assert commands(f"- {item}") == []
    assert "W123" in {d.code for d in read(f"- {item}").diagnostics}
