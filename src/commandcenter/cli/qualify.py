"""`commandcenter qualify`: prove an installation by ten scenarios, each watched by a judge."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from commandcenter.cli.doctor import modes
from commandcenter.cli.failure import FAILED
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.summary import console
from commandcenter.cli.wording import duration, one_line
from commandcenter.core.errors import InputError
from commandcenter.core.run import Health
from commandcenter.system import removal
from commandcenter.testing.bench.machine import describe
from commandcenter.testing.qualification import record
from commandcenter.testing.qualification.rounds import Setting, Trial
from commandcenter.testing.qualification.sabotage import SABOTAGES
from commandcenter.testing.qualification.series import Series, own_engines, require_fit

_MODES = ("local", "container", "dagger")
_NUMBERS = tuple(range(1, 11))
_PATIENCE_S = {True: 240.0, False: 3600.0}
"""How long a round may take, by whether its agents are scripted."""
_NOT_PASSED_ON = ("COMMANDCENTER_", "GIT_")


class _Modes(click.ParamType[tuple[str, ...]]):
    """Modes, separated by commas."""

    name = "modes"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        modes = tuple(dict.fromkeys(f"{value}".split(",")))
        for mode in modes:
            if mode not in _MODES:
                self.fail(f"{mode!r} is none of {', '.join(_MODES)}", param, ctx)
        return modes


@click.command()
@click.option("--mode", "modes", type=_Modes(), help="Which, by commas; by default all that work.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--scenario",
    "numbers",
    type=click.IntRange(1, 10),
    multiple=True,
    help="Only this one; may be given again.",
)
@click.option("--agent", default="", help="Profile that works and reviews; else a scripted agent.")
@click.option(
    "--repo",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Begin with the files of this repository. It is copied, and not touched.",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add every run to this file, and keep the count of consecutive passes there.",
)
@click.option(
    "--kill-every",
    type=click.IntRange(1),
    metavar="N",
    help="In each Nth round kill the service with SIGKILL at a random moment.",
)
@click.option("--seed", type=int, help="Of the random moments.")
@click.option(
    "--own-engines", is_flag=True, help="Start a Docker daemon and the shipped Dagger engine."
)
@click.option(
    "--sabotage",
    type=click.Choice(tuple(SABOTAGES)),
    help="Spoil the runs in this way: the qualification has to fail, and to say why.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@invocation
def qualify(invocation: Invocation, /, **options: Any) -> int:  # Any: click's values
    """Prove that everything works here: ten scenarios in every mode, watched from outside.

    An observer holds what the service says against git, the hub and the processes of the machine
    while the runs go on, and looks at all that is left. Nothing of yours is touched: every round
    has a data folder and repositories of its own. Exit code 1 when anything was not as it must be.
    """
    return asyncio.run(_Qualification(invocation, **options).run())


class _Qualification:
    def __init__(
        self,
        invocation: Invocation,
        *,
        modes: tuple[str, ...] | None,
        rounds: int,
        numbers: tuple[int, ...],
        agent: str,
        repo: Path | None,
        log: Path | None,
        kill_every: int | None,
        seed: int | None,
        own_engines: bool,
        sabotage: str | None,
        as_json: bool,
    ) -> None:
        self._invocation = invocation
        self._modes = modes
        self._rounds = rounds
        self._agent = agent
        self._repo = repo
        self._log = log
        self._kill_every = kill_every or 0
        self._seed = secrets.randbelow(10**6) if seed is None else seed
        self._own_engines = own_engines
        self._sabotage = SABOTAGES[sabotage]() if sabotage else None
        # To spoil one is enough to see that it is found.
        self._numbers = tuple(sorted(set(numbers))) or ((1,) if sabotage else _NUMBERS)
        self._as_json = as_json

    async def run(self) -> int:
        if self._repo:
            await require_fit(self._repo)
        settings = await self._settings()
        version = metadata.version("commandcenter")
        machine = f"version     {version}\n{describe(Path(tempfile.gettempdir()))}"
        trials: list[Trial] = []
        with ExitStack() as around:
            if self._own_engines:
                folder = Path(tempfile.mkdtemp(prefix="cc-engines-"))
                around.callback(removal.remove, folder)
                settings = around.enter_context(own_engines(settings, folder))
            series = Series(settings, self._rounds, self._seed, self._kill_every, self._sabotage)
            if self._kill_every:
                self._tell(f"seed {self._seed}")
            async for ended, evidence in series.play(self._tell):
                trials += ended
                self._note(ended, evidence, machine)
        if self._as_json:
            print(json.dumps({"trials": [_json(each) for each in trials]}, indent=2))
        else:
            _show(trials)
        return 0 if all(each.passed for each in trials) else FAILED

    def _note(self, trials: Sequence[Trial], evidence: Path | None, machine: str) -> None:
        for trial in trials:
            for violation in trial.violations:
                self._tell(f"   {trial.number:2} {one_line(str(violation))}")
        if evidence:
            trials = [replace(t, notes=(*t.notes, f"evidence: {evidence}")) for t in trials]
            self._tell(f"   the evidence is kept in {shlex.quote(str(evidence))}")
        if self._log:
            count = record.append(self._log, trials, machine)
            self._tell(f"   {count} runs have passed in a row ({self._log})")

    def _tell(self, words: str) -> None:
        print(words, file=sys.stderr if self._as_json else sys.stdout, flush=True)

    async def _settings(self) -> tuple[Setting, ...]:
        modes = await self._fit_modes()
        agent = self._profile() if self._agent else {}
        return tuple(
            Setting(
                mode,
                repository=self._repo,
                patience_s=_PATIENCE_S[not self._agent],
                numbers=self._numbers,
                **agent,
            )
            for mode in modes
        )

    def _profile(self) -> Mapping[str, Any]:  # Any: fields of `Setting`
        """Return what a setting needs for an agent of the person's own."""
        settings = self._invocation.settings()
        names = sorted(each.name for each in settings.profiles)
        if self._agent not in names:
            known = ", ".join(names)
            raise InputError(f"There is no profile `{self._agent}`.", hint=f"there are: {known}")
        path = self._invocation.config_path()
        variables = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_PASSED_ON)}
        config = path.read_text() if path.is_file() else ""
        return {"agent": self._agent, "config": config, "variables": variables}

    async def _fit_modes(self) -> tuple[str, ...]:
        if self._sabotage and self._sabotage.mode:
            return (self._sabotage.mode,)
        if self._own_engines:
            return self._modes or _MODES
        found = await modes(self._invocation.settings())
        unfit = {mode for mode, finding in found.items() if finding.health is not Health.OK}
        for mode in self._modes or ():
            if mode in unfit:
                raise InputError(
                    f"Mode `{mode}` does not work here: {found[mode].detail}",
                    hint=found[mode].hint or "",
                )
        return self._modes or tuple(mode for mode in _MODES if mode not in unfit)


def _show(trials: Sequence[Trial]) -> None:
    table = Table(box=SIMPLE_HEAD)
    for name in ("mode", "scenario", "passed", "longest", ""):
        table.add_column(name)
    for mode, number, title, group in _grouped(trials):
        passed = sum(each.passed for each in group)
        longest = duration(max(each.seconds for each in group))
        blamed = sorted({v.criterion.name for each in group for v in each.violations})
        style = "green" if passed == len(group) else "bold red"
        table.add_row(
            mode,
            f"{number:2} {title}",
            Text(f"{passed} of {len(group)}", style),
            longest,
            Text(", ".join(blamed), "bold red"),
        )
    console().print(table)
    passed = sum(each.passed for each in trials)
    print(f"{passed} of {len(trials)} runs were as they must be.")


def _grouped(trials: Sequence[Trial]) -> Iterator[tuple[str, int, str, list[Trial]]]:
    groups: dict[tuple[str, int, str], list[Trial]] = {}
    for each in trials:
        groups.setdefault((each.mode, each.number, each.title), []).append(each)
    for key, group in groups.items():
        yield (*key, group)


def _json(trial: Trial) -> Mapping[str, Any]:  # Any: JSON
    return {
        "mode": trial.mode,
        "scenario": trial.number,
        "title": trial.title,
        "passed": trial.passed,
        "seconds": round(trial.seconds, 1),
        "pull_requests": list(trial.pull_requests),
        "violations": [
            {"criterion": each.criterion.name, "means": each.criterion, "evidence": each.evidence}
            for each in trial.violations
        ],
        "notes": list(trial.notes),
    }
