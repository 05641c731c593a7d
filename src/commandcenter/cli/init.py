"""`commandcenter init`: write a configuration that fits a repository, and a first plan."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import click

from commandcenter.cli.doctor import modes
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.core.beginning import (
    FIRST_PLAN,
    TOLD_BY,
    Surroundings,
    command_of_tests,
    configuration,
)
from commandcenter.core.errors import InputError
from commandcenter.core.run import Health
from commandcenter.forges import Site, repository_of, shown
from commandcenter.settings import FORGE_KINDS, Settings
from commandcenter.system import sandbox
from commandcenter.system.git import Git
from commandcenter.system.repository import inspect_repository

CONFIGURATION, PLAN = "commandcenter.toml", "first-plan.md"
_AGENTS = ("claude",)
_BYTES_MAX = 2**20


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@invocation
def init(invocation: Invocation, folder: Path, as_json: bool) -> int:
    """Look at the repository in FOLDER and write what to begin with: settings, and a plan to try.

    What is there already is left as it is.
    """
    written = asyncio.run(_begin(invocation.settings(), folder))
    if as_json:
        told = {"written": [path for path in written if written[path]]}
        print(json.dumps({**told, "left": [path for path in written if not written[path]]}))
    else:
        _tell(written)
    return 0


async def _begin(settings: Settings, folder: Path) -> Mapping[str, bool]:
    found, root = await _look(settings, folder)
    tests = command_of_tests(found)
    inside = tests is None or not sandbox.lacks(tests.program, (), ())
    missing = "" if inside or tests is None else tests.program
    texts = {CONFIGURATION: configuration(found, missing=missing), PLAN: FIRST_PLAN}
    return {str(root / name): _write(root / name, text) for name, text in texts.items()}


async def _look(settings: Settings, folder: Path) -> tuple[Surroundings, Path]:
    repository = await inspect_repository(Git(), str(folder))
    root = repository.root
    if root is None or not (root / ".git").exists():
        raise InputError(f"{folder} is no work tree.", hint="name a folder with a checkout")
    sites = [Site(kind, settings.forge.accounts[kind].api) for kind in FORGE_KINDS]
    remote = repository_of(repository.upstream, sites)
    forge = remote.site.kind if remote else "hub"
    found = await modes(settings)
    fit = [mode for mode, finding in found.items() if finding.health is Health.OK]
    return (
        Surroundings(
            names=frozenset(os.listdir(root)),
            texts={name: _text(root / name) for name in TOLD_BY},
            upstream=shown(repository.upstream) if repository.has_remote else "this repository",
            forge=forge,
            token_variable=settings.forge.accounts[forge].token_variable if remote else "",
            agents=_installed(),
            mode=settings.mode if settings.mode in fit else "".join(fit[:1]),
        ),
        root,
    )


def _installed() -> tuple[str, ...]:
    return tuple(name for name in _AGENTS if shutil.which(name))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""


def _write(path: Path, text: str) -> bool:
    """Write a file unless there is one; say whether it was written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
    return True


def _tell(written: Mapping[str, bool]) -> None:
    for path, new in written.items():
        name = os.path.relpath(path)
        print(f"wrote {name}" if new else f"left {name} as it is")
    at = os.path.relpath(Path(next(iter(written))).parent)
    config, plan = (name if at == "." else f"{at}/{name}" for name in (CONFIGURATION, PLAN))
    print("\nNext, see whether all is there, and try it:")
    print(f"  commandcenter --config {config} doctor")
    agent = "" if _installed() else " --agent-command COMMAND"
    print(f"  commandcenter --config {config} run {plan}{agent}")
