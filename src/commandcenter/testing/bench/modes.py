"""What a mode costs: its commands' start and stop, and the workers that it keeps busy.

Mode `dagger` is measured on the shipped engine: that is our part, and the SDK's.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from commandcenter.core.workspace import Command, Workspace, WorkspaceKey, Workspaces
from commandcenter.system.git import Git
from commandcenter.system.vault import Vault
from commandcenter.testing import dagger_engine
from commandcenter.testing.bench.parts import share_of_workers
from commandcenter.testing.bench.repository import make_tree
from commandcenter.testing.engine import SEARCH_PATH, dockerd, lacking
from commandcenter.workspaces.container import Container
from commandcenter.workspaces.dagger import CLIENT, Dagger
from commandcenter.workspaces.local import Local

_FILES = 100
_SLEEP_S = 1.0
_WORKERS = 2
_NAMES = ("make", "run `true`", "stop", "remove")
Seconds = tuple[float, ...]
"""How long each of `_NAMES` took."""


def modes(folder: Path, *, quick: bool) -> Iterator[str]:
    """Measure each mode that this machine has: a command's start and stop, and its workers."""
    rounds = 3 if quick else 10
    client = dagger_engine.client(folder / "engine" / "dagger", folder / "engine" / "state")
    with _engine() as engine:
        found = {**engine, CLIENT: str(client)}
        environment = {"PATH": os.environ.get("PATH", SEARCH_PATH), **found}
        kinds = _kinds(folder, environment)
        yield "mode        " + "  ".join(f"{name:>11}" for name in _NAMES)
        for mode, kind in kinds.items():
            yield _row(mode, asyncio.run(_times(folder / mode, kind, rounds)))
        yield f"\nmode        workers  sleep  tasks     wall  (tasks x sleep) / ({_WORKERS} x wall)"
        for mode in kinds:
            part = folder / f"{mode}-service"
            tasks = _WORKERS * (3 if quick else 16)
            done = share_of_workers(
                part, mode=mode, environment=found, workers=_WORKERS, tasks=tasks, sleep_s=_SLEEP_S
            )
            yield f"{mode:10}  {done}"
    if "container" not in kinds:
        yield f"container: not measured, since {lacking()}"


@contextmanager
def _engine() -> Iterator[Mapping[str, str]]:
    """Have a container engine of our own if there can be one; give what its clients need."""
    if lacking():
        yield {}
        return
    with dockerd() as engine:
        yield {"DOCKER_HOST": engine.environment["DOCKER_HOST"]}


def _kinds(folder: Path, environment: Mapping[str, str]) -> Mapping[str, Workspaces]:
    git = Git()
    kinds: dict[str, Workspaces] = {"local": Local(folder / "local" / "workspaces", git)}
    if "DOCKER_HOST" in environment:
        place = folder / "container" / "workspaces"
        kinds["container"] = Container(place, git, environment, engine="docker")
    kinds["dagger"] = Dagger(folder / "dagger" / "workspaces", git, environment)
    return kinds


async def _times(folder: Path, kind: Workspaces, rounds: int) -> list[Seconds]:
    folder.mkdir()
    vault = await Vault.open(Git(), folder / "data", str(make_tree(folder, _FILES)))
    try:
        base = await vault.fetch("main")
        # The first one pays for what is laid out only once.
        found = [await _one(kind, vault.path, base, number) for number in range(rounds + 1)]
    finally:
        vault.close()
    return found[1:]


async def _one(kind: Workspaces, vault: Path, base: str, number: int) -> Seconds:
    key = WorkspaceKey("bench", f"{number}", 1)
    times = [time.monotonic()]
    async with kind.open(key, vault=vault, commit=base, keep=True) as workspace:
        times.append(time.monotonic())
        done = await workspace.run("true", Command(("true",)))
        assert done.ok, done
        times.append(time.monotonic())
        stop = await _stop(workspace)
    leaving = time.monotonic()
    await kind.remove(key)
    return times[1] - times[0], times[2] - times[1], stop, time.monotonic() - leaving


async def _stop(workspace: Workspace) -> float:
    """Return how long it takes until nothing is left of a command that is at work."""
    begun = asyncio.Event()
    command = Command(("sh", "-c", "echo begun; exec sleep 600"))
    running = asyncio.create_task(workspace.run("long", command, on_line=lambda _: begun.set()))
    await begun.wait()
    asked = time.monotonic()
    running.cancel()
    await asyncio.wait({running})
    return time.monotonic() - asked


def _row(mode: str, times: list[Seconds]) -> str:
    middle = [statistics.median(column) * 1000 for column in zip(*times, strict=True)]
    return f"{mode:10}  " + "  ".join(f"{each:8.0f} ms" for each in middle)
