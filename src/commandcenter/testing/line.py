"""A line of changes that wait to land: put there by hand, and drained by the real merge queue."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from sqlalchemy.orm import Session
from starlette.types import ASGIApp

from commandcenter.app import owning
from commandcenter.core.agent import Profile
from commandcenter.core.attempt import Attempt, Bounds
from commandcenter.core.check import Check, Found, Receipt
from commandcenter.core.ledger import Fact, Kind
from commandcenter.core.merge_queue import Strategy
from commandcenter.core.plan import (
    Batch,
    Defaults,
    Plan,
    Task,
    Verification,
    VerificationKind,
    to_json,
)
from commandcenter.core.publication import branch_name, commit_message, proposal_title
from commandcenter.core.run import Event, EventKind, Phase, TaskStatus
from commandcenter.flow import Flow
from commandcenter.flow.merge_queue import enqueue_merge
from commandcenter.flow.transitions import TryKey
from commandcenter.forges.github import GitHub
from commandcenter.hub import HubRepository, create_hub
from commandcenter.hub.history import open_history
from commandcenter.hub.pulls import Pulls
from commandcenter.settings import load
from commandcenter.stages import Stages, holdings
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Options
from commandcenter.stages.job import load as load_job
from commandcenter.store import facts, receipts, schema, views
from commandcenter.store.hub import HubStore
from commandcenter.testing.forges import served, write_commit
from commandcenter.testing.judge import client_of
from commandcenter.testing.scene import Sample

TOKEN = "token-of-the-line"  # noqa: S105 - of a hub that ends with the test
"""By which everything at the hub is done."""
_PATIENCE_S = 300


@dataclass(frozen=True)
class Change:
    """What one task did, and how it is verified."""

    files: Mapping[str, str]
    commands: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drained:
    """How the changes of a line ended, in the order of their tasks."""

    tasks: tuple[TaskStatus, ...]
    events: tuple[Event, ...]
    notes: tuple[str, ...]
    seconds: float
    """From the moment that all were enqueued until the last one ended."""

    @property
    def ends(self) -> list[str]:
        """Why each task ended."""
        return [task.reason.value if task.reason else "" for task in self.tasks]

    def of(self, task: str, kind: EventKind) -> list[Event]:
        """Return the events of a kind of one task."""
        return [event for event in self.events if (event.task, event.kind) == (task, kind)]


@dataclass
class Line:
    """A data folder with one run, whose tasks are all in the merge queue."""

    equipment: Equipment
    sample: Sample
    gate: Path
    """A folder of the host that checks can read."""
    web: httpx.AsyncClient
    """Calls the hub, as an outsider may."""
    run: str = "exec_00000001"
    plan: Plan = field(default_factory=Plan)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        *,
        sample: Sample | None = None,
        behind: Callable[[ASGIApp], ASGIApp] = lambda hub: hub,
        beside: bool = True,
    ) -> AsyncIterator[Line]:
        """Make a data folder, a sample with an origin, and a hub for its pull requests.

        `behind` puts something in front of the hub. `beside` says that its branches take pushes.
        """
        environ = {"COMMANDCENTER_DATA_DIR": str(folder / "data"), "PATH": os.environ["PATH"]}
        sample = sample or await Sample.make(folder / "sample")
        gate = folder / "gate"
        gate.mkdir()
        settings = replace(load(environ), read_only=(gate,))
        hosted = HubRepository("acme", "project", sample.git_dir)
        async with owning(settings) as service:
            equipment = service._equipment
            records = HubStore(equipment.database.engine)
            hub = create_hub(records, lambda *_: hosted, equipment.git, {TOKEN: "commandcenter"})
            async with served(behind(hub)) as url, client_of(url) as web:
                forge = GitHub(url, "acme", "project", TOKEN, client=web, beside=beside)
                web.headers["Authorization"] = f"Bearer {TOKEN}"
                yield cls(replace(equipment, forge=lambda *_: forge), sample, gate, web)

    async def fill(
        self,
        changes: Sequence[Change],
        *,
        verify: tuple[str, ...] = (),
        strategy: Strategy | None = None,
    ) -> None:
        """Store a run whose tasks made these changes; `verify` verifies every one of them."""
        tasks = tuple(_task(number, change) for number, change in enumerate(changes, 1))
        self.plan = Plan("A line", defaults=Defaults(verify=verify, strategy=strategy), tasks=tasks)
        self.plan = replace(self.plan, batches=(Batch("1", "Only", 1),))
        await self.equipment.database.transact(self._store)
        vault = await self.equipment.vaults.open(str(self.sample.upstream))
        for task, change in zip(tasks, changes, strict=True):
            branch, message = branch_name(self.run, task), commit_message(self.run, task, 1)
            at = (self.sample.git, self.sample.git_dir, branch)
            head = await write_commit(*at, change.files, message, self.sample.start)
            await vault.fetch(branch)
            await self._propose(task, branch, head, await vault.tree_of(head))

    def _store(self, session: Session) -> None:
        options = Options(Profile("s", "shell", command="false"), None).to_json()
        place = (str(self.sample.checkout), str(self.sample.upstream), "main", "main")
        record = facts.NewRun(self.run, to_json(self.plan), "", "t", *place, "local", options, ())
        statuses = [
            TaskStatus(self.run, task.id, task.title, "1", n)
            for n, task in enumerate(self.plan.tasks)
        ]
        facts.insert_run(session, record, statuses, [], 1)
        for task in self.plan.tasks:
            facts.save_attempt(session, self.run, task.id, Attempt(1, base=self.sample.start))

    async def _propose(self, task: Task, branch: str, head: str, tree: str) -> None:
        job = await load_job(self.equipment, self.run, task.id, 1)
        await holdings.note(self.equipment, [holdings.branch(job, branch, head)])
        proposal = await self.equipment.forge(job.run.upstream, "main").propose(
            head_branch=branch,
            base_branch="main",
            title=proposal_title(task),
            body="Made by hand.",
            draft=self.equipment.draft,
        )
        attempt = replace(
            job.attempt, head=head, tree=tree, verified_tree=tree, proposal=proposal.number
        )
        tokens = {"input_tokens": 0, "output_tokens": 0, "cost_usd": None}
        change = {
            "base": job.attempt.base,
            "files": [],
            "insertions": 1,
            "deletions": 0,
            "notes": [],
        }
        told: dict[EventKind, Mapping[str, Any]] = {  # Any: JSON
            EventKind.TASK_STARTED: {},
            EventKind.TASK_CAPTURED: {
                "branch": branch,
                "head": head,
                "tree": tree,
                **change,
                **tokens,
            },
            EventKind.TASK_CHECKED: {"tree": tree, "judgement": "unverified", "receipts": []},
            EventKind.TASK_PROPOSED: {"number": proposal.number, "url": proposal.url},
            EventKind.TASK_PHASE: {"phase": Phase.MERGING.value},
        }

        def store(session: Session) -> None:
            facts.save_attempt(session, self.run, task.id, attempt)
            for kind, data in told.items():
                now_ms = self.equipment.now_ms()
                facts.append(session, Event(self.run, kind, now_ms, task.id, 1, data))
            facts.mark_unsettled(session, self.run, task.id, True)

        await self.equipment.database.transact(store)

    @asynccontextmanager
    async def flow(self) -> AsyncIterator[Flow]:
        """Give the durable workflows; a task that is sent back to its agent has failed."""
        flow = Flow(
            self.equipment.database.engine,
            Stages(self.equipment),
            now_ms=self.equipment.now_ms,
            bounds=Bounds(1, 1, 1),
            workers=2,
            poll_s=0.5,
        )
        await flow.start()
        try:
            yield flow
        finally:
            await flow.stop()

    async def enqueue(self, flow: Flow, *tasks: Task) -> None:
        """Enqueue the workflows of these tasks, or of all, in one transaction."""
        engine = flow._engine

        def enqueue(session: Session) -> None:
            facts.lock(session, self.run)
            for task in tasks or self.plan.tasks:
                enqueue_merge(session, engine, TryKey(self.run, task.id, 1))

        await engine.transact("enqueue", enqueue)

    async def statuses(self) -> tuple[TaskStatus, ...]:
        """Return the status of the tasks, in order."""
        return await self.equipment.database.transact(views.tasks, self.run)

    async def drained(self) -> Drained:
        """Enqueue all tasks, and wait for their ends."""
        async with self.flow() as flow:
            await self.enqueue(flow)
            return await self.ended(time.monotonic())

    async def ended(self, since_s: float) -> Drained:
        """Wait until all tasks have ended, and the run."""
        transact = self.equipment.database.transact
        async with asyncio.timeout(_PATIENCE_S):
            while await transact(views.open_tasks, self.run):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
            seconds = time.monotonic() - since_s
            while not (record := await transact(views.read_run, self.run)).ended_ms:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return Drained(
            await self.statuses(),
            await transact(views.events, self.run, after=0, limit=100_000),
            record.notes,
            seconds,
        )

    async def comments(self, number: int) -> list[str]:
        """Return what was said on a pull request, oldest first."""
        return [each.body for each in await self.pulls.comments(number)]

    @property
    def pulls(self) -> Pulls:
        """The pull requests as people have them before them."""
        repository = HubRepository("acme", "project", self.sample.git_dir)
        history = open_history(repository, self.equipment.git)
        return Pulls(history, HubStore(self.equipment.database.engine), self.equipment.now_ms)

    def branch(self, task: str) -> str:
        """Return the branch of a task."""
        return branch_name(self.run, self.plan.task(task))

    async def waiting(self, task: str) -> None:
        """Wait until a change waits for a person."""
        transact = self.equipment.database.transact
        async with asyncio.timeout(_PATIENCE_S):
            while (await transact(views.read_task, self.run, task)).waiting_for == "":  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)

    async def until(self, task: str, waiting_for: str) -> TaskStatus:
        """Wait until a task waits for this, and return its status."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                found = {each.id: each for each in await self.statuses()}[task]
                if found.waiting_for.startswith(waiting_for):
                    return found
                await asyncio.sleep(0.02)

    async def require(self, *checks: str) -> None:
        """Have the hub require checks of what is merged."""
        wanted = {
            "required_status_checks": {"strict": False, "contexts": list(checks)},
            **dict.fromkeys(("enforce_admins", "required_pull_request_reviews", "restrictions")),
        }
        path = "/repos/acme/project/branches/main/protection"
        (await self.web.put(path, json=wanted)).raise_for_status()

    async def report(self, task: TaskStatus, check: str, state: str, words: str = "") -> None:
        """Report how a check of a task's change went, as somebody's CI does."""
        body = {"context": check, "state": state, "description": words}
        path = f"/repos/acme/project/statuses/{task.head}"
        (await self.web.post(path, json=body)).raise_for_status()

    @property
    def closed(self) -> str:
        """Return a check that passes as soon as `open_gate` is called."""
        return f"until test -e {self.gate}/open; do sleep 0.05; done"

    def open_gate(self) -> None:
        """Let the checks that wait pass."""
        (self.gate / "open").touch()

    async def checking(self) -> None:
        """Wait until a check runs."""
        async with asyncio.timeout(_PATIENCE_S):
            while not await self.check_runs():  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)

    async def saw(self, found: Found, command: str, tree: str) -> None:
        """Store what a check is to have found before on a tree."""
        receipt = Receipt(command, command, tree, found, 1, 0.1, "")
        digest = Check(command, command).digest("local")
        await self.equipment.database.transact(receipts.save, digest, receipt, 1)

    async def check_runs(self) -> int:
        """Return how many checks were run: each in a workspace of its own, noted before."""
        return await self.equipment.database.transact(_check_runs)


def _task(number: int, change: Change) -> Task:
    verification = [Verification(VerificationKind.COMMAND, text) for text in change.commands]
    return Task(
        f"1.{number}",
        f"Change {number}",
        "1",
        verification=tuple(verification),
        labels=change.labels,
    )


def _check_runs(session: Session) -> int:
    noted = schema.ledger.c
    query = sa.select(sa.func.count(noted.name.distinct())).where(
        noted.kind == Kind.WORKSPACE.value,
        noted.fact == Fact.PUT.value,
        noted.name.contains("check-"),
    )
    return session.execute(query).scalar_one()
