"""What the command line says of how agents work together, for `run` and `plan show`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., object])


def choosing(function: _Function) -> _Function:
    """Add the options by which a person chooses who works on what, and how."""
    for decorate in (
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="TASK.KEY=TEXT",
            help="What is said of one task: 2.1.pattern=vote(3).",
        ),
        click.option(
            "--role",
            "roles",
            multiple=True,
            metavar="ROLE=PROFILE",
            help="Who takes a role: judge=opus.",
        ),
        click.option("--pattern", help="How agents work together on every task: vote(3)."),
        click.option("--reviewer", help="Profile of the reviewer, or none."),
        click.option("--agent", help="Profile of the agent that does the work."),
    ):
        function = decorate(function)
    return function


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return what was given as `KEY=TEXT`, by key."""
    found: dict[str, str] = {}
    for each in given:
        key, mark, text = (part.strip() for part in each.partition("="))
        if not (key and mark):
            raise click.UsageError(f"{option} {each}: write it as KEY=TEXT.")
        if key in found:
            raise click.UsageError(f"{option} {key} is given twice.")
        found[key] = text
    return found
