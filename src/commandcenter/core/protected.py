"""Which changes weaken what judges a task: its tests, its checks, its continuous integration."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from commandcenter.core.markdown import code
from commandcenter.core.plan.model import FileOp, Task
from commandcenter.core.plan.paths import matches, within
from commandcenter.core.words import one_line

PROTECTED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "test": (
            *("test/**", "tests/**", "spec/**", "**/test/**", "**/tests/**", "**/__tests__/**"),
            *("test_*.py", "*_test.py", "conftest.py", "*_test.go", "*_spec.rb", "*_test.rb"),
            *("*.test.js", "*.test.jsx", "*.test.ts", "*.test.tsx", "*.test.mjs", "*.test.cjs"),
            *("*.spec.js", "*.spec.jsx", "*.spec.ts", "*.spec.tsx", "*.spec.mjs", "*.spec.cjs"),
            *("*Test.java", "*Tests.java", "*IT.java", "*Test.kt", "*Tests.cs", "*Test.php"),
        ),
        "configuration of tests": (
            *("pytest.ini", "tox.ini", "noxfile.py", ".coveragerc", "jest.config.*"),
            *("vitest.config.*", "playwright.config.*", "karma.conf.*", "phpunit.xml"),
        ),
        "configuration of continuous integration": (
            *(".github/workflows/**", ".github/actions/**", ".gitea/workflows/**"),
            *(".forgejo/workflows/**", ".woodpecker/**", ".circleci/**", ".buildkite/**"),
            *("./.gitlab-ci.yml", "./.woodpecker.yml", "./.travis.yml", "./.drone.yml"),
            *("./Jenkinsfile", "./azure-pipelines.yml", "./bitbucket-pipelines.yml"),
            *("./.pre-commit-config.yaml",),
        ),
    }
)
"""Globs of what no task changes unless it names it, by what they are."""

_VERBS = MappingProxyType({"M": "changes", "T": "changes", "D": "deletes", "R": "moves"})
_APART = re.compile(r"[\s'\"`;|&()<>=:,]+")


def weakened(changes: Sequence[tuple[str, str]], task: Task) -> tuple[str, ...]:
    """Return in sentences what a change weakens that the task does not declare to change.

    `changes` are letters and paths as of `git diff --name-status`; of a file that was moved, its
    old path. What is added weakens nothing. What the task's own verification names is protected
    too, from deletion always, else if the task declares files at all: one that declares none may
    well be about just that file.
    """
    return tuple(_sentences(changes, task, _named(task)))


def _sentences(
    changes: Sequence[tuple[str, str]], task: Task, named: frozenset[str]
) -> Iterator[str]:
    own = [use.path for use in task.files if use.op is not FileOp.READ]
    for status, path in changes:
        verb = _VERBS.get(status[:1])
        if verb is None or any(within(path, each) for each in own):
            continue
        shown = code(one_line(path))
        if kind := _kind(path):
            yield f"It {verb} {shown}, a {kind} that the task does not name."
        elif path in named and (task.files or verb != "changes"):
            yield f"It {verb} {shown}, by which the task is verified."


def _kind(path: str) -> str:
    fits = (kind for kind, globs in PROTECTED.items() if any(matches(g, path) for g in globs))
    return next(fits, "")


def _named(task: Task) -> frozenset[str]:
    words = (word for command in task.commands for word in _APART.split(command))
    return frozenset(posixpath.normpath(word) for word in words if word)
