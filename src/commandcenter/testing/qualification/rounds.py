"""Plays one round: scenarios at one time on a service of its own, judged to the last process."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import httpx

from commandcenter.core.errors import CommandCenterError
from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.judge import (
    Criterion,
    Judge,
    Violation,
    inhabitants,
    judge_repository,
    judge_stopped,
)
from commandcenter.testing.qualification.sabotage import Sabotage
from commandcenter.testing.scenarios import Scenario, scenarios
from commandcenter.testing.scene import Installation, Sample

WORKERS = 16
KILLED_S = 6.0
"""By when a service is killed that is to be killed, from when all its runs have begun."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """What is the same in all rounds of a mode."""

    mode: str
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Environment of the service besides what all have, such as where its engine is."""
    agent: str = ""
    """Profile that works and reviews; empty for the scripted agent."""
    config: str = ""
    """The configuration that has this profile, as TOML."""
    repository: Path | None = None
    """Whose files every scenario begins with; None for a small sample."""
    patience_s: float = 240
    numbers: tuple[int, ...] = tuple(range(1, 11))
    note: str = ""
    """Added to the name of the mode, where what it runs on has to be said."""


@dataclass(frozen=True)
class Trial:
    """How one scenario went."""

    mode: str
    number: int
    title: str
    began_s: float
    """In seconds since 1970."""
    seconds: float
    violations: tuple[Violation, ...]
    pull_requests: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Say whether everything was as it must be."""
        return not self.violations


async def play(
    setting: Setting,
    folder: Path,
    *,
    kill: random.Random | None = None,
    sabotage: Sabotage | None = None,
    tell: Tell = lambda _: None,
) -> tuple[Trial, ...]:
    """Play the scenarios of a round at one time, on a new installation; return how each went.

    Args:
        setting: of the mode.
        folder: is made; what remains there is the evidence.
        kill: draws when the service is killed and started again; None for never.
        sabotage: what is done to the runs.
        tell: is given a line whenever a scenario is over.
    """
    stage = await _Stage.make(setting, folder, kill, sabotage or Sabotage(), tell)
    try:
        return await stage.play()
    finally:
        stage.end()


@dataclass
class _Stage:
    setting: Setting
    host: Host
    kill: random.Random | None
    sabotage: Sabotage
    tell: Tell
    service: subprocess.Popen[str] | None = None
    judges: dict[int, Judge] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    began_s: dict[int, float] = field(default_factory=dict)
    url: str = ""

    @classmethod
    async def make(
        cls,
        setting: Setting,
        folder: Path,
        kill: random.Random | None,
        sabotage: Sabotage,
        tell: Tell,
    ) -> _Stage:
        folder.mkdir(parents=True)
        variables = {**setting.variables, **sabotage.variables(folder)}
        own = folder / "own"
        installation = Installation.make(own, workers=WORKERS, variables=variables)
        if setting.agent:
            installation.config.write_text(setting.config)
        return cls(setting, Host(installation, folder), kill, sabotage, tell)

    async def play(self) -> tuple[Trial, ...]:
        every = scenarios(scripted=not self.setting.agent)
        chosen = {number: every[number] for number in self.setting.numbers}
        try:
            async with AsyncExitStack() as around:
                trials = await self._watched(chosen, around)
            await self._stop(signal.SIGTERM)
        except (
            CommandCenterError,
            OSError,
            AssertionError,
            TimeoutError,
            httpx.HTTPError,
        ) as error:
            # The border of a round: what kept it from going on is what is wrong with it.
            found = Violation(Criterion.SESSION, f"it could not go on: {_words(error)}")
            return tuple(self._trial(n, each, (found,)) for n, each in chosen.items())
        left = await judge_stopped(self.host.installation)
        return tuple(replace(each, violations=(*each.violations, *left)) for each in trials)

    async def _watched(
        self, chosen: Mapping[int, Scenario], around: AsyncExitStack
    ) -> tuple[Trial, ...]:
        await self._serve(around)
        for number, scenario in chosen.items():
            judge = await self._submit(number, scenario)
            await around.enter_async_context(judge.watching(self.url, judge.run))
        async with asyncio.timeout(self.setting.patience_s):
            if self.kill is not None:
                await self._killed(self.kill.uniform(0, KILLED_S), around)
            return tuple(
                await asyncio.gather(*(self._ended(n, each) for n, each in chosen.items()))
            )

    async def _submit(self, number: int, scenario: Scenario) -> Judge:
        desk = self._desk(number)
        sample = await Sample.make(desk.folder / "sample", origin=self.setting.repository)
        judge = await Judge.appoint(self.host.installation, sample)
        self.began_s[number] = time.time()
        profiles = {"agent": self.setting.agent, "reviewer": self.setting.agent}
        body = {name: profile for name, profile in profiles.items() if profile}
        judge.run = await desk.start(
            sample, scenario.plan, execution_mode=self.setting.mode, **body
        )
        self.judges[number] = judge
        return judge

    def _desk(self, number: int) -> Desk:
        return Desk(self.url, self.host.installation, self.host.folder / f"{number}")

    async def _ended(self, number: int, scenario: Scenario) -> Trial:
        judge = self.judges[number]
        await judge.over()
        await self.sabotage.spoil(judge)
        try:
            trial = await self._judged(number, scenario, judge)
        except Exception as error:  # the border of a judgement: the others go on
            broken = Violation(Criterion.SESSION, f"it could not be judged: {error!r}")
            health = await judge_repository(judge.sample.git, judge.sample.git_dir)
            trial = self._trial(number, scenario, (broken, *health))
        self.tell(f"{number:2} {scenario.title}: {'ok' if trial.passed else 'NOT as it must be'}")
        return trial

    async def _judged(self, number: int, scenario: Scenario, judge: Judge) -> Trial:
        ended = await self._desk(number).ended(judge)
        found = tuple(await scenario.faults(ended, judge.sample))
        pulls = [task["pr_number"] for task in ended.tasks.values() if task["pr_number"]]
        return replace(self._trial(number, scenario, found), pull_requests=tuple(sorted(pulls)))

    def _trial(self, number: int, scenario: Scenario, found: tuple[Violation, ...]) -> Trial:
        now_s = time.time()
        began_s = self.began_s.get(number, now_s)
        mode = self.setting.mode + self.setting.note
        about = (mode, number, scenario.title, began_s, now_s - began_s)
        return Trial(*about, found, notes=tuple(self.notes))

    # The service

    async def _serve(self, around: AsyncExitStack) -> None:
        self.service = self.host.start("serve", "--port", "0")
        desk = await self.host.desk(self.service)
        self.url = await around.enter_async_context(self.sabotage.seen_through(desk.url))
        for judge in self.judges.values():
            judge.url = self.url

    async def _killed(self, after_s: float, around: AsyncExitStack) -> None:
        """Kill the service, and start another one, as nobody knows when."""
        await asyncio.sleep(after_s)
        await self._stop(signal.SIGKILL)
        self.notes.append(f"the service was killed {after_s:.1f} s after the last start")
        await self._serve(around)

    async def _stop(self, number: signal.Signals) -> None:
        assert self.service is not None
        self.service.send_signal(number)
        await asyncio.to_thread(self.service.communicate, timeout=60)

    def end(self) -> None:
        """Leave no process behind, however it went."""
        self.sabotage.undo()
        if self.service is not None and self.service.poll() is None:
            self.service.kill()
            self.service.communicate(timeout=60)
        for process in set[int]().union(*inhabitants(self.host.installation).values()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "not everything was over in time"
    return f"{error}" or type(error).__name__
