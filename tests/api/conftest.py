"""A service that lives in memory, and the API in front of it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
import uvicorn

from commandcenter.api.app import create_api
from commandcenter.core.errors import CommandCenterError, NotFound
from commandcenter.core.explanation import Explanation, explain
from commandcenter.core.forge import Decision
from commandcenter.core.run import (
    BatchStatus,
    Event,
    EventKind,
    Finding,
    Health,
    Log,
    RunStatus,
    Started,
    State,
    Submission,
    TaskStatus,
    overall,
)
from commandcenter.core.run_report import RunReport, report_of
from commandcenter.core.spending import Spending
from commandcenter.core.upkeep import Files, Item, Restored, Salvaged, Thing
from commandcenter.core.webhook import Headers, Heard

RUN = "exec_0badcafe"


@dataclass
class MemoryService:
    """Keeps runs and events in memory. `failure`, when set, is what every call raises."""

    tasks: tuple[TaskStatus, ...] = ()
    ended_ms: int = 0
    log: list[Event] = field(default_factory=list)
    files: list[Log] = field(default_factory=list)
    scheduled: tuple[str, ...] = ("1", "2")
    submitted: list[Submission] = field(default_factory=list)
    retried: list[str | None] = field(default_factory=list)
    decided: list[tuple[str | None, Decision, str, str]] = field(default_factory=list)
    collected: list[bool] = field(default_factory=list)
    restored: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    heard: list[tuple[str, Headers, bytes]] = field(default_factory=list)
    answer: Heard = Heard.LOOKING
    failure: Exception | None = None
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def submit(self, submission: Submission) -> Started:
        if self.failure:
            raise self.failure
        self.submitted.append(submission)
        return Started(RUN, "started", self.scheduled, ("task 1.2 has no verification",))

    async def runs(self) -> Sequence[RunStatus]:
        return [await self.run(RUN)] if self.tasks else []

    async def ended(self, execution_id: str) -> bool:
        return (await self.run(execution_id)).ended_ms > 0

    async def run(self, execution_id: str) -> RunStatus:
        if self.failure:
            raise self.failure
        if execution_id != RUN:
            raise NotFound(f"Execution {execution_id} not found")
        return RunStatus(
            execution_id=RUN,
            status=overall(self.tasks),
            phase=None,
            title="A plan",
            plan_path="/plans/plan.md",
            repository="/repositories/one",
            upstream="/repositories/one.git",
            target="main",
            landed_on="main",
            execution_mode="local",
            auto_merge=True,
            current_batch=self.tasks[0].batch if self.tasks else "",
            tasks=self.tasks,
            notes=("a note",),
            started_ms=1_700_000_000_000,
            ended_ms=self.ended_ms,
        )

    async def batches(self, execution_id: str) -> Sequence[BatchStatus]:
        run = await self.run(execution_id)
        names = list(dict.fromkeys(task.batch for task in run.tasks))
        return [self._batch(name, ordinal) for ordinal, name in enumerate(names)]

    def _batch(self, name: str, ordinal: int) -> BatchStatus:
        tasks = tuple(task for task in self.tasks if task.batch == name)
        return BatchStatus(RUN, name, f"Batch {name}", ordinal, overall(tasks), tasks, ())

    async def task(self, execution_id: str, number: str) -> TaskStatus:
        for task in (await self.run(execution_id)).tasks:
            if task.id == number:
                return task
        raise NotFound(f"Task {number} not found")

    async def decide(
        self, execution_id: str, task: str | None, decision: Decision, words: str, by: str
    ) -> RunStatus:
        self.decided.append((task, decision, words, by))
        return await self.run(execution_id)

    async def spending(self, execution_id: str) -> Sequence[Spending]:
        await self.run(execution_id)
        return [Spending("strong", 2, 900, 80, 500, 0.25, 1)]

    async def report(self, execution_id: str) -> RunReport:
        run = await self.run(execution_id)
        return report_of(run, self.log, refused={}, salvaged={}, now_ms=1_700_000_060_000)

    async def explanation(self, execution_id: str, number: str) -> Explanation:
        task = await self.task(execution_id, number)
        events = [event for event in self.log if event.task == number]
        return Explanation(task, explain(task, events))

    async def events(
        self, execution_id: str | None, *, after: int = 0, limit: int = 1000
    ) -> Sequence[Event]:
        return [event for event in self.log if event.seq > after][:limit]

    async def wait_for_events(
        self, execution_id: str | None, *, after: int, timeout_s: float
    ) -> Sequence[Event]:
        try:
            async with asyncio.timeout(timeout_s), self.grown:
                await self.grown.wait_for(lambda: self.log and self.log[-1].seq > after)
        except TimeoutError:
            return ()
        return await self.events(execution_id, after=after)

    async def happen(self, kind: EventKind, task: str = "") -> None:
        async with self.grown:
            event = Event(RUN, kind, 1_700_000_001_000, task, seq=len(self.log) + 1)
            self.log.append(event)
            if kind is EventKind.RUN_ENDED:
                self.ended_ms = event.at_ms
            self.grown.notify_all()

    async def cancel(self, execution_id: str) -> RunStatus:
        self.tasks = tuple(replace(task, state=State.CANCELLED) for task in self.tasks)
        return await self.run(execution_id)

    async def retry(self, execution_id: str, task: str | None = None) -> RunStatus:
        self.retried.append(task)
        return await self.run(execution_id)

    async def logs(
        self, execution_id: str, *, task: str | None = None, attempt: int | None = None
    ) -> Sequence[Log]:
        await self.run(execution_id)
        return [
            log for log in self.files if task in (None, log.task) and attempt in (None, log.attempt)
        ]

    async def doctor(self) -> Sequence[Finding]:
        return [Finding("git", Health.OK, "git 2.39"), Finding("bwrap", Health.MISSING, "", "x")]

    async def gc(self, *, dry_run: bool) -> Sequence[Item]:
        self.collected.append(dry_run)
        return [
            Item(Thing.BASE, "/bases/one", 4096, True, "no workspace lies on it"),
            Item(Thing.BRANCH, "commandcenter/x/1", 0, False, "it is not ours"),
        ]

    async def salvage(self) -> Sequence[Salvaged]:
        work = Salvaged(f"{RUN}/1.1/1/work", RUN, "1.1", "a" * 40, 512, "cancelled", 1)
        return [work, replace(work, id=f"{RUN}/1.2/1/work", commit="", why="too large")]

    async def restore(self, id_: str, *, repository: str | None, branch: str | None) -> Restored:
        if self.failure:
            raise self.failure
        self.restored.append((id_, repository, branch))
        return Restored(id_, repository or "/repositories/one", branch or "salvage/x", "a" * 40)

    async def salvaged_files(self, id_: str) -> Files:
        if self.failure:
            raise self.failure
        return Files(io.BytesIO(b"tar" * 100_000), ("a/.git", "pipe"))

    async def drop(self, id_: str) -> None:
        self.dropped.append(id_)

    async def webhook(self, forge: str, headers: Headers, body: bytes) -> Heard:
        if self.failure:
            raise self.failure
        self.heard.append((forge, headers, body))
        return self.answer

    def write_log(self, task: str, attempt: int, path: Path) -> None:
        size_bytes = path.stat().st_size
        self.files.append(Log(task, attempt, "work", "stdout", path, size_bytes))

    def fail_with(self, failure: CommandCenterError | Exception) -> None:
        self.failure = failure


@pytest.fixture
def service() -> MemoryService:
    """Return a service with one run of two tasks."""
    return MemoryService(
        (
            TaskStatus(RUN, "1.1", "First", "1", 0),
            TaskStatus(RUN, "1.2", "Second", "1", 1),
        )
    )


@pytest.fixture
async def http(service: MemoryService) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the API, in this process."""
    transport = httpx.ASGITransport(create_api(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as client:
        yield client


@pytest.fixture
async def served(service: MemoryService) -> AsyncIterator[httpx.AsyncClient]:
    """Return a client of the API on a real socket."""
    async with _serving(service) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


@asynccontextmanager
async def _serving(service: MemoryService) -> AsyncIterator[str]:
    config = uvicorn.Config(create_api(service), port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    loop = asyncio.create_task(server.main_loop())
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await loop
        await server.shutdown()
