"""Takes a run through a service that is killed at every point, as a patient person would."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from commandcenter.testing.desk import Desk, Ended, Host
from commandcenter.testing.judge import Judge
from commandcenter.testing.scene import Sample

T = TypeVar("T")
PATIENCE_S = 600.0
PERIOD_S = 0.1


@dataclass(frozen=True)
class Chronicle:
    """A run that went through many lives of its service."""

    ended: Ended
    points: tuple[str, ...]
    """Where each life but the last one ended, in order."""


@dataclass(frozen=True)
class Mortal:
    """A service that is killed at every point, once at each; see `faults/__main__.py`."""

    host: Host
    journal: Path
    """Names the points at which it was killed; it is not killed again at those."""
    only: str = ""
    """A pattern that the points match at which it is killed; empty: all."""

    async def run(
        self,
        sample: Sample,
        plan: str,
        *,
        meanwhile: Callable[[Mortal, str], Awaitable[None]] | None = None,
    ) -> Chronicle:
        """Run a plan to its end, before the eyes of a judge.

        `meanwhile`, given this and the run's id, is what a person does after the start.
        """
        judge = await Judge.appoint(self.host.installation, sample)
        known = len(self._points())
        with self._living(sample):
            async with asyncio.timeout(PATIENCE_S), self._followed(judge):
                run = await self._submitted(sample, plan)
                async with judge.watching(judge.url, run):
                    if meanwhile is not None:
                        await meanwhile(self, run)
                    await self.persistently(lambda _: judge.over())
                ended = await self.persistently(lambda desk: desk.ended(judge))
        return Chronicle(ended, self._points()[known:])

    def _points(self) -> tuple[str, ...]:
        return tuple(self.journal.read_text().splitlines()) if self.journal.exists() else ()

    async def persistently(self, ask: Callable[[Desk], Awaitable[T]]) -> T:
        """Ask until the service lives long enough to answer."""
        while True:
            desk = Desk(await self._address(), self.host.installation, self.host.folder)
            with suppress(httpx.TransportError):
                return await ask(desk)
            await asyncio.sleep(PERIOD_S)

    @contextmanager
    def _living(self, sample: Sample) -> Iterator[None]:
        installation = self.host.installation
        options = ("--data-dir", installation.data_dir, "--config", installation.config)
        folders = (installation.data_dir, sample.checkout.parent)
        words = (self.journal, self.only, *folders, "--", *options, "serve", "--port", "0")
        process = subprocess.Popen(
            (sys.executable, "-m", "commandcenter.testing.faults", *map(str, words)),
            env=installation.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield
        finally:
            process.terminate()
            process.communicate(timeout=60)

    async def _submitted(self, sample: Sample, plan: str) -> str:
        """Start the run, once: an answer that got lost does not mean that nothing was started."""

        async def submit(desk: Desk) -> str:
            known = await desk.get("")
            if known:
                return str(known[0]["execution_id"])
            return await desk.start(sample, plan)

        return await self.persistently(submit)

    async def _address(self) -> str:
        """Return where the service answers, or did before it was killed."""
        while True:
            with suppress(OSError, ValueError):
                told = json.loads((self.host.installation.data_dir / "service.json").read_text())
                return str(told["url"])
            await asyncio.sleep(PERIOD_S)

    @asynccontextmanager
    async def _followed(self, judge: Judge) -> AsyncIterator[None]:
        """Tell the judge where the service answers now, life after life."""

        async def follow() -> None:
            while True:
                judge.url = await self._address()
                await asyncio.sleep(PERIOD_S)

        judge.url = await self._address()
        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
