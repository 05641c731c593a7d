"""The options by which a person chooses who works on what, and how."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from commandcenter.cli.choosing import choosing, pairs


@click.command()
@choosing
def told(roles: tuple[str, ...], overrides: tuple[str, ...], **others: str | None) -> None:
    """Print what was chosen."""
    click.echo([pairs("--role", roles), pairs("--set", overrides), sorted(others.items())])


def test_roles_and_words_on_tasks_are_given_one_by_one() -> None:
    result = CliRunner().invoke(
        told,
        [
            *("--role", "judge=opus", "--role", "plan = my planner"),
            *("--set", "2.1.pattern=vote(3, judge=none)", "--set", "2.2.review="),
            *("--pattern", "plan", "--agent", "codex", "--reviewer", "none"),
        ],
    )

    roles = {"judge": "opus", "plan": "my planner"}
    overrides = {"2.1.pattern": "vote(3, judge=none)", "2.2.review": ""}
    others = [("agent", "codex"), ("pattern", "plan"), ("reviewer", "none")]
    assert result.stdout == f"{[roles, overrides, others]}\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--role", "judge"), "--role judge: write it as KEY=TEXT"),
        (("--set", "=vote(3)"), "--set =vote(3): write it as KEY=TEXT"),
        (("--role", "judge=a", "--role", "judge=b"), "--role judge is given twice"),
    ],
)
def test_what_is_no_pair_or_there_twice_is_refused(given: tuple[str, ...], words: str) -> None:
    result = CliRunner().invoke(told, list(given))

    assert result.exit_code == 2
    assert words in result.stderr
