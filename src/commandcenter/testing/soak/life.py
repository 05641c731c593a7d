"""Lives through one schedule with a real service, and says what was not as it must be."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from commandcenter.core.run import Event, EventKind, Reason
from commandcenter.store import views
from commandcenter.store.database import open_engine, sqlite_url
from commandcenter.testing.desk import Desk, Host
from commandcenter.testing.judge import Judge, Untouched, inhabitants, judge_stopped, read
from commandcenter.testing.scene import Installation, Sample
from commandcenter.testing.soak.laws import too_early, unexpected, unlawful
from commandcenter.testing.soak.schedule import Act, Schedule, Scheme

T = TypeVar("T")
PATIENCE_S = 240.0
PERIOD_S = 0.1


async def live(schedule: Schedule, folder: Path) -> tuple[str, ...]:
    """Return what was wrong; nothing is good. Everything of the schedule is below `folder`."""
    installation = Installation.make(folder / "own", workers=schedule.workers)
    sample = await Sample.make(folder / "sample", remote=schedule.remote)
    world = _World(schedule, Host(installation, folder), sample)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await world.live()
    except TimeoutError:
        return (f"it was not over after {PATIENCE_S:.0f} s: {world.told()}",)
    finally:
        world.end()


@dataclass
class _World:
    schedule: Schedule
    host: Host
    sample: Sample
    service: subprocess.Popen[str] | None = None
    judges: dict[str, Judge] = field(default_factory=dict)
    outsiders: set[str] = field(default_factory=set)

    async def live(self) -> tuple[str, ...]:
        await self._serve()
        async with AsyncExitStack() as watching:
            for scheme in self.schedule.schemes:
                judge = await self._submit(scheme)
                await watching.enter_async_context(judge.watching(judge.url, judge.run))
            await self._disturb()
            for judge in self.judges.values():
                await judge.over()
        found = [each async for each in self._judged()]
        await self._stop(signal.SIGTERM)
        found += map(str, await judge_stopped(self.host.installation))
        return tuple(found)

    # What happens

    async def _submit(self, scheme: Scheme) -> Judge:
        untouched = Untouched.EVERYTHING if self.schedule.remote else Untouched.NOTHING
        judge = await Judge.appoint(self.host.installation, self.sample, untouched=untouched)
        desk = await self._desk()
        judge.url, judge.run = desk.url, await desk.start(self.sample, scheme.text)
        self.judges[judge.run] = judge
        return judge

    async def _disturb(self) -> None:
        seen = 0
        for number, disturbance in enumerate(self.schedule.disturbances):
            seen = await self._events(seen + disturbance.after_events)
            await self._do(disturbance.act, number)

    async def _do(self, act: Act, number: int) -> None:
        runs = tuple(self.judges)
        run = runs[number % len(runs)]
        match act:
            case Act.KILL:
                await self._stop(signal.SIGKILL)
                await self._serve()
            case Act.STOP:
                await self._stop(signal.SIGTERM)
                await self._serve()
            case Act.SHIM:
                self._kill_a_supervisor()
            case Act.CANCEL | Act.RETRY:
                word = "cancel" if act is Act.CANCEL else "retry"
                # Refused when there is nothing to do: that is an answer, too.
                await (await self._desk()).post(f"/{run}/{word}")
            case Act.PUSH:
                self.outsiders.add(await self.sample.push({f"person-{number}.txt": "mine\n"}))
                for judge in self.judges.values():
                    judge.outsiders = frozenset(self.outsiders)

    def _kill_a_supervisor(self) -> None:
        for process in sorted(set[int]().union(*inhabitants(self.host.installation).values())):
            with suppress(OSError):
                if b"shim.main" in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(process, signal.SIGKILL)
                    return

    async def _events(self, wanted: int) -> int:
        """Wait until so many events have happened, or nothing more will; return how many."""
        while True:
            counted, over = await asyncio.to_thread(self._counted)
            if over or counted >= wanted:
                return counted
            await asyncio.sleep(PERIOD_S)

    def _counted(self) -> tuple[int, bool]:
        """Count the events so far, and say whether all runs are over."""
        path = self.host.installation.data_dir / "commandcenter.sqlite"
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            (events,) = connection.execute("SELECT count(*) FROM cc_events").fetchone()
            (running,) = connection.execute(
                "SELECT count(*) FROM cc_runs WHERE ended_ms = 0"
            ).fetchone()
        return events, not running

    # The service

    async def _serve(self) -> None:
        self.service = self.host.start("serve", "--port", "0")
        desk = await self._desk()
        for judge in self.judges.values():
            judge.url = desk.url

    async def _desk(self) -> Desk:
        assert self.service is not None
        return await self.host.desk(self.service)

    async def _stop(self, number: signal.Signals) -> None:
        assert self.service is not None
        self.service.send_signal(number)
        await asyncio.to_thread(self.service.communicate, timeout=60)

    def end(self) -> None:
        """Leave no process behind, however it went."""
        if self.service is not None and self.service.poll() is None:
            self.service.kill()
            self.service.communicate(timeout=60)
        for process in set[int]().union(*inhabitants(self.host.installation).values()):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    # What must hold

    async def _judged(self) -> AsyncIterator[str]:
        for scheme, judge in zip(self.schedule.schemes, self.judges.values(), strict=True):
            for violation in await judge.judge():
                yield f"{judge.run}: {violation}"
            facts = read(self.host.installation, judge.run)
            ends = {t.id: (t.state.value, t.reason.value if t.reason else "") for t in facts.tasks}
            for words in unexpected(scheme.ends(), ends, cancels=self.schedule.cancels):
                yield f"{judge.run}: {words}"
            for task in facts.tasks:
                for words in unlawful(facts.of(task.id)):
                    yield f"{judge.run}: task {task.id}: {words}"
                if task.reason is Reason.MERGED and not await self._was_checked(
                    facts.of(task.id), task.merge_commit
                ):
                    yield f"{judge.run}: task {task.id}: the tree that was merged was not checked"
            for words in too_early(facts.events, self._edges(judge.run)):
                yield f"{judge.run}: {words}"

    async def _was_checked(self, events: tuple[Event, ...], commit: str) -> bool:
        """Say whether the checks ran on what the target was moved to when the task landed."""
        (tip,) = [e.data.get("tip", commit) for e in events if e.kind is EventKind.TASK_COMPLETED]
        landed = await self.sample.ask("rev-list", "--first-parent", tip)
        if commit not in landed.splitlines():
            return False
        tree = await self.sample.ask("rev-parse", f"{tip}^{{tree}}")
        checked = {event.data["tree"] for event in events if event.kind is EventKind.TASK_CHECKED}
        return tree in checked

    def _edges(self, run: str) -> tuple[tuple[str, str], ...]:
        engine = open_engine(sqlite_url(self.host.installation.data_dir / "commandcenter.sqlite"))
        try:
            with Session(engine) as session:
                return tuple((before, after) for before, after, *_ in views.edges(session, run))
        finally:
            engine.dispose()

    def told(self) -> str:
        """Return what the store says of the runs, for the evidence."""
        return "; ".join(
            f"{run} {t.id} {t.state.value} {t.phase} {t.waiting_for}"
            for run in self.judges
            for t in read(self.host.installation, run).tasks
        )
