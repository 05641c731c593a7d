"""The desk: from here runs are started on a service, and followed to their end by a judge."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from commandcenter.api.app import create_api
from commandcenter.app import running
from commandcenter.testing.judge import PERIOD_S, Judge, Untouched, Violation, client_of
from commandcenter.testing.scene import Installation, Sample

Json = dict[str, Any]  # Any: JSON as the service answers it
PIPELINE = "/api/v1/autonomous"


@dataclass(frozen=True)
class Ended:
    """A run that is over, as the API tells it, and what a judge found."""

    execution_id: str
    status: Json
    tasks: dict[str, Json]
    violations: tuple[Violation, ...]
    """What the judge found; nothing is good."""
    events: list[Json]

    @property
    def faults(self) -> str:
        """Return what the judge found, one violation a line; empty is good."""
        return "\n".join(map(str, self.violations))

    def kinds(self, task: str) -> list[str]:
        """Return the kinds of a task's events, in order."""
        return [event["kind"] for event in self.events if event["task"] == task]

    def data(self, kind: str, task: str) -> list[Json]:
        """Return what the events of a kind say of a task."""
        return [e["data"] for e in self.events if (e["kind"], e["task"]) == (kind, task)]

    def ends(self) -> dict[str, tuple[str, str]]:
        """Return how each task ended, and why."""
        return {name: (task["status"], task["reason"]) for name, task in self.tasks.items()}


@dataclass(frozen=True)
class Desk:
    """Where runs are started: a service, and a folder for samples and plans."""

    url: str
    installation: Installation
    folder: Path

    async def sample(self, name: str = "", **options: Any) -> Sample:
        """Make a repository; see `Sample.make`."""
        return await Sample.make(self.folder / (name or "sample"), **options)

    async def start(self, sample: Sample, plan: str, **body: Any) -> str:
        """Start a run of a plan on a repository and return its id."""
        answer = await self.post("/start", self.body(sample, plan, **body))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["execution_id"])

    def body(self, sample: Sample, plan: str, **body: Any) -> Json:
        """Write the plan and return what starts a run of it."""
        path = self.folder / "plan.md"
        path.write_text(plan)
        return {"plan_path": str(path), "repository": str(sample.checkout), **body}

    async def run(
        self,
        sample: Sample,
        plan: str,
        *,
        untouched: Untouched = Untouched.EVERYTHING,
        patience_s: float = 60,
        period_s: float = PERIOD_S,
        **body: Any,
    ) -> Ended:
        """Run a plan to its end, before the eyes of a judge, who looks once in a period."""
        judge = await Judge.appoint(
            self.installation, sample, untouched=untouched, period_s=period_s
        )
        run = await self.start(sample, plan, **body)
        await judge.ended(self.url, run, patience_s=patience_s)
        return await self.ended(judge)

    async def ended(self, judge: Judge) -> Ended:
        """Return what is known, and judged, of a run that is over."""
        return Ended(
            judge.run,
            await self.get(f"/{judge.run}/status"),
            {task["task_number"]: task for task in await self.get(f"/{judge.run}/tasks")},
            await judge.judge(),
            await self.get(f"/{judge.run}/events?format=json&limit=10000"),
        )

    async def get(self, path: str) -> Any:
        """Return the answer to a GET below the pipeline's address."""
        async with self.client() as client:
            answer = await client.get(PIPELINE + path)
            assert answer.status_code == 200, answer.text
            return answer.json()

    async def post(self, path: str, body: Json | None = None) -> httpx.Response:
        """Return the answer to a POST below the pipeline's address."""
        async with self.client() as client:
            return await client.post(PIPELINE + path, json=body or {})

    async def until(self, path: str, holds: Callable[[Any], bool], patience_s: float = 30) -> Any:
        """Ask until the answer is as wanted, and return it."""
        async with asyncio.timeout(patience_s):
            while not holds(found := await self.get(path)):  # noqa: ASYNC110 - it is far away
                await asyncio.sleep(0.05)
        return found

    async def until_agent_says(
        self, run: str, words: str, patience_s: float = 60, *, task: str | None = None
    ) -> None:
        """Wait until an agent of the run, or of one task of it, has said these words."""

        def said(events: list[Json]) -> bool:
            told = [each for each in events if each["kind"] == "agent"]
            return any(words in str(e["data"]) for e in told if task in (None, e["task"]))

        await self.until(f"/{run}/events?format=json&limit=10000", said, patience_s)

    def client(self) -> httpx.AsyncClient:
        """Return a client of the service."""
        return client_of(self.url)


class Service:
    """A service on a loop of its own, so that the tests of a module can share it."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.url = ""
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._down = asyncio.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="service")

    def __enter__(self) -> Service:
        self._thread.start()
        self._up.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._until_down())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._up.set()

    async def _until_down(self) -> None:
        settings = self.installation.settings()
        async with running(settings, host="127.0.0.1", port=0, api=create_api) as service:
            self.url = service.url
            self._up.set()
            await self._down.wait()


@dataclass(frozen=True)
class Host:
    """An installation whose service is a process of its own."""

    installation: Installation
    folder: Path
    within: tuple[str, ...] = ()
    """A command that starts all others, such as a sandbox in which something is missing."""

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command of the installation's own."""
        options = ("--data-dir", self.installation.data_dir, "--config", self.installation.config)
        argv = [*self.within, sys.executable, "-m", "commandcenter", *map(str, options), *arguments]
        return subprocess.Popen(
            argv,
            env=self.installation.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[str]]:
        """Have a service until the block ends."""
        process = self.start("serve", "--port", "0")
        try:
            yield process
        finally:
            _end(process)

    async def desk(self, process: subprocess.Popen[str]) -> Desk:
        """Return a desk at the service of this process, as soon as it answers."""
        path = self.installation.data_dir / "service.json"
        async with asyncio.timeout(30):
            while True:
                assert process.poll() is None, process.communicate()[0]
                told: Any = json.loads(path.read_text()) if path.exists() else {"pid": 0}
                if told["pid"] == process.pid:
                    return Desk(told["url"], self.installation, self.folder)
                await asyncio.sleep(0.05)


def _end(process: subprocess.Popen[str]) -> None:
    """End a service, the hard way if need be: it must not outlive the test."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
