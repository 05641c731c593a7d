"""Plays rounds one after the other, mode by mode, and keeps the evidence of those that fail."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from commandcenter.core.errors import InputError
from commandcenter.system import removal
from commandcenter.system.git import Git
from commandcenter.testing import dagger_engine
from commandcenter.testing.engine import dockerd, lacking
from commandcenter.testing.qualification.rounds import Setting, Tell, Trial, play
from commandcenter.testing.qualification.sabotage import Sabotage
from commandcenter.testing.scenarios import scenarios
from commandcenter.workspaces.dagger import CLIENT

SHIPPED = " (shipped engine)"
"""Added to the name of the mode `dagger` where its engine is the one that is shipped for tests."""


@dataclass(frozen=True)
class Series:
    """What is played."""

    settings: Sequence[Setting]
    rounds: int
    seed: int
    kill_every: int = 0
    """The service is killed in the middle of each so many-th round; 0 is never."""
    sabotage: Sabotage | None = None

    async def play(self, tell: Tell) -> AsyncIterator[tuple[tuple[Trial, ...], Path | None]]:
        """Play all; give what became of each round, and where its evidence is if it failed."""
        for setting in self.settings:
            for number in range(1, self.rounds + 1):
                tell(f"{setting.mode}, round {number} of {self.rounds}")
                # A short path, since sockets lie below it.
                folder = Path(tempfile.mkdtemp(prefix="cc-qualify-"))
                try:
                    trials = await play(
                        setting,
                        folder / "round",
                        kill=self._kill(setting, number),
                        sabotage=self.sabotage,
                        tell=tell,
                    )
                except BaseException:
                    tell(f"stopped; what there was of the round is left in {folder}")
                    raise
                if passed := all(trial.passed for trial in trials):
                    await asyncio.to_thread(removal.remove, folder)
                yield trials, None if passed else folder

    def _kill(self, setting: Setting, number: int) -> random.Random | None:
        if not self.kill_every or number % self.kill_every:
            return None
        return random.Random(f"{self.seed}/{setting.mode}/{number}")  # noqa: S311 - no secret


@contextmanager
def own_engines(settings: Sequence[Setting], folder: Path) -> Iterator[tuple[Setting, ...]]:
    """Give the settings with engines of their own: a Docker daemon, and the shipped Dagger engine.

    Raises:
        InputError: there is none that could be started.
    """
    if not any(each.mode == "container" for each in settings):
        yield tuple(_with_engine(each, {}, folder) for each in settings)
        return
    if problem := lacking():
        raise InputError(f"No engine of its own for mode `container`: {problem}.")
    with dockerd() as engine:
        where = {"DOCKER_HOST": engine.environment["DOCKER_HOST"]}
        yield tuple(_with_engine(each, where, folder) for each in settings)


def _with_engine(setting: Setting, docker: Mapping[str, str], folder: Path) -> Setting:
    if setting.mode == "container":
        return replace(setting, variables={**setting.variables, **docker})
    if setting.mode == "dagger":
        client = dagger_engine.client(folder / "dagger", folder / "engine")
        variables = {**setting.variables, CLIENT: str(client)}
        return replace(setting, variables=variables, note=SHIPPED)
    return setting


async def require_fit(repository: Path) -> None:
    """Make sure that the scenarios can begin with the files of a repository.

    Raises:
        InputError: it is none, has no README.md, or has files that a scenario makes.
    """
    git = Git()
    words = ("-C", str(repository), "ls-tree", "-r", "--name-only", "-z", "HEAD")
    listed = await git.run(*words, git_dir=None, network=True, check=False)
    if listed.exit_code:
        raise InputError(f"{repository} is no repository with a commit: {listed.complaint}")
    there = set(listed.text.split("\0"))
    made = {path for each in scenarios(scripted=False).values() for path in each.lines}
    if "README.md" not in there:
        raise InputError(f"{repository} has no README.md, which two of the scenarios need.")
    if taken := sorted(there & (made - {"README.md"})):
        raise InputError(f"{repository} has {', '.join(taken)}, which the scenarios make.")
