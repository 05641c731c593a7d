"""Plug-ins by name: installed modules found through entry points, never named by a plan's text."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from commandcenter.core.agent import Agent
from commandcenter.core.errors import InputError


def agent(name: str) -> Agent:
    """Return the agent plug-in of this name.

    Raises:
        InputError: none is installed under this name.
    """
    found = _installed("commandcenter.agents")
    if name not in found:
        raise InputError(
            f"There is no agent plug-in `{name}`.", hint=f"installed are: {', '.join(found)}"
        )
    return cast(Agent, found[name].load()())  # the entry point promises this Protocol


@cache
def _installed(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}
