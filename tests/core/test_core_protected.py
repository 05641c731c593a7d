"""What weakens the judgement of a task, and what is its own business."""

from __future__ import annotations

from dataclasses import replace

import pytest

from commandcenter.core.plan import FileOp, FileUse, Task, Verification, VerificationKind
from commandcenter.core.protected import weakened


def task(*files: str, run: str = "pytest -q") -> Task:
    return Task(
        "1.1",
        "Do it",
        "1",
        files=tuple(map(FileUse, files)),
        verification=(Verification(VerificationKind.COMMAND, run),),
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("D", "tests/test_a.py"), "It deletes `tests/test_a.py`, a test that the task does not"),
        (("M", "src/app/a_test.go"), "It changes `src/app/a_test.go`, a test"),
        (("R100", "web/__tests__/a.js"), "It moves `web/__tests__/a.js`, a test"),
        (("T", "conftest.py"), "It changes `conftest.py`, a test"),
        (("M", "tox.ini"), "It changes `tox.ini`, a configuration of tests"),
        (
            ("M", ".github/workflows/ci.yml"),
            "It changes `.github/workflows/ci.yml`, a configuration of continuous integration",
        ),
        (("D", ".gitlab-ci.yml"), "a configuration of continuous integration"),
        (("M", "test_\udcff.py"), "It changes `test_\N{REPLACEMENT CHARACTER}.py`, a test"),
    ],
)
def test_tests_and_their_configuration_are_protected(
    change: tuple[str, str], sentence: str
) -> None:
    (said,) = weakened([change], task("src/a.py"))

    assert sentence in said


@pytest.mark.parametrize(
    "change", [("A", "tests/test_b.py"), ("M", "src/a.py"), ("M", "docs/ci.md"), ("C75", "tox.ini")]
)
def test_what_is_added_or_is_no_test_weakens_nothing(change: tuple[str, str]) -> None:
    assert weakened([change], task("src/a.py")) == ()


@pytest.mark.parametrize("declared", ["tests/test_a.py", "tests", "tests/", "tests/**", "."])
def test_what_the_task_names_is_its_own_business(declared: str) -> None:
    assert weakened([("M", "tests/test_a.py")], task(declared)) == ()


def test_what_the_task_only_reads_is_not() -> None:
    reads = replace(task(), files=(FileUse("tests/test_a.py", FileOp.READ),))

    assert len(weakened([("M", "tests/test_a.py")], reads)) == 1


def test_what_verifies_the_task_is_protected() -> None:
    checked = task("src/a.py", run="sh ./scripts/check.sh --all && python -m app")

    assert weakened([("M", "scripts/check.sh")], checked) == (
        "It changes `scripts/check.sh`, by which the task is verified.",
    )
    assert weakened([("M", "scripts/other.sh")], checked) == ()


def test_a_task_that_declares_no_file_may_be_about_what_verifies_it() -> None:
    anything = task(run="python app.py")

    assert weakened([("M", "app.py")], anything) == ()
    assert weakened([("D", "app.py")], anything) == (
        "It deletes `app.py`, by which the task is verified.",
    )
