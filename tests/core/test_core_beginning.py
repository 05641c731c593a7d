"""What a repository is begun with: how it is tested, and a configuration that can be read."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.beginning import (
    FIRST_PLAN,
    Surroundings,
    command_of_tests,
    configuration,
)
from commandcenter.readers import PlanSource, read_plan
from commandcenter.settings import load

BARE = Surroundings(frozenset(), {}, "this repository", "hub", "", ("claude",), "local")
PYTEST = "[tool.pytest.ini_options]\n"


@pytest.mark.parametrize(
    ("texts", "names", "line"),
    [
        ({"Makefile": "all:\n\ntest: all\n\ttrue\n"}, (), "make test"),
        ({"Makefile": "tests:\n"}, ("Cargo.toml",), "cargo test"),
        ({"package.json": json.dumps({"scripts": {"test": "vitest"}})}, (), "npm test"),
        ({"pyproject.toml": PYTEST}, ("pyproject.toml",), "python3 -m pytest -q"),
        ({"pyproject.toml": ""}, ("pyproject.toml",), "python3 -m unittest"),
        ({}, ("pytest.ini",), "python3 -m pytest -q"),
        ({}, ("go.mod",), "go test ./..."),
        ({"Makefile": "test:\n"}, ("pyproject.toml", "go.mod"), "make test"),
    ],
)
def test_how_a_repository_is_tested_is_read_from_its_files(
    texts: Mapping[str, str], names: tuple[str, ...], line: str
) -> None:
    found = command_of_tests(replace(BARE, texts=texts, names=frozenset(names)))

    assert found is not None
    assert found.line == line
    assert found.program == line.split()[0]


@pytest.mark.parametrize(
    "package",
    [
        "{",
        "[]",
        '{"scripts": []}',
        '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}',
    ],
)
def test_what_says_nothing_about_tests_gives_no_command(package: str) -> None:
    assert command_of_tests(replace(BARE, texts={"package.json": package})) is None


def test_a_check_whose_program_is_not_inside_is_only_proposed(tmp_path: Path) -> None:
    found = replace(BARE, names=frozenset({"Cargo.toml"}))
    path = tmp_path / "config.toml"

    path.write_text(configuration(found))
    (check,) = load({}, config=path).checks
    path.write_text(text := configuration(found, missing="cargo"))

    assert check.command == "cargo test"
    assert load({}, config=path).checks == ()
    assert "a workspace has no\n# `cargo`" in text


surroundings = st.builds(
    Surroundings,
    names=st.frozensets(st.sampled_from(["Cargo.toml", "go.mod", "setup.py", "spec", "x"])),
    texts=st.dictionaries(st.sampled_from(["Makefile", "package.json"]), st.just("test:\n")),
    upstream=st.text(),
    forge=st.sampled_from(["hub", "github", "gitlab"]),
    token_variable=st.just("GITHUB_TOKEN"),
    agents=st.sampled_from([(), ("claude",)]),
    mode=st.sampled_from(["", "local", "container", "dagger"]),
)


@given(surroundings)
def test_a_configuration_can_be_read_whatever_was_found(found: Surroundings) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(configuration(found))
        file.flush()
        settings = load({}, config=Path(file.name))

    assert settings.mode == (found.mode or "local")
    assert settings.work == "claude"


def test_the_first_plan_has_nothing_doubtful() -> None:
    result = read_plan(PlanSource(FIRST_PLAN, "first-plan.md"))

    assert result.ok
    assert result.diagnostics == ()
