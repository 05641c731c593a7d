"""The yard: a data folder that nobody works on, with runs whose leavings are put there by hand."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from sqlalchemy.orm import Session

from commandcenter.app import owning
from commandcenter.core.agent import Profile
from commandcenter.core.attempt import Attempt
from commandcenter.core.ledger import Holding, Kind
from commandcenter.core.plan import Batch, Plan, Task, to_json
from commandcenter.core.publication import branch_name
from commandcenter.core.run import Event, EventKind, TaskStatus
from commandcenter.core.upkeep import Item, Thing
from commandcenter.core.workspace import Command, WorkspaceKey
from commandcenter.service import Service
from commandcenter.settings import Keep, Settings, load
from commandcenter.stages import holdings, work
from commandcenter.stages.equipment import BOT, Equipment
from commandcenter.stages.job import Job, Options
from commandcenter.stages.job import load as load_job
from commandcenter.store import facts, ledger, views
from commandcenter.system.capture import capture
from commandcenter.system.vault import Vault, task_ref
from commandcenter.testing.scene import Sample

TASK = Task("1.1", "A task", "1")
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass
class Yard:
    """The data folder, through the service that has it to itself."""

    settings: Settings
    service: Service
    sample: Sample

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folder: Path, keep: Keep, variables: Mapping[str, str] = NOTHING
    ) -> AsyncIterator[Yard]:
        """Make a data folder, and a sample with an origin."""
        own = {"COMMANDCENTER_DATA_DIR": str(folder / "data"), "PATH": os.environ["PATH"]}
        environ = {**own, **variables}
        settings = replace(load(environ), keep=keep)
        sample = await Sample.make(folder / "sample")
        async with owning(settings) as service:
            yield cls(settings, service, sample)

    @property
    def equipment(self) -> Equipment:
        """What stages work with."""
        return self.service._equipment

    @property
    def vault_dir(self) -> Path:
        """The bare repository of the vault."""
        (found,) = (self.settings.data_dir / "vaults").glob("*/repository.git")
        return found

    async def vault(self) -> Vault:
        """The vault of the sample's upstream."""
        return await self.equipment.vaults.open(str(self.sample.upstream))

    async def begin(self, run: str, *, tries: int = 1, landed_on: str = "main") -> Job:
        """Store a run whose one task is at work at a try."""
        await self.equipment.database.transact(self._begin, run, tries, landed_on)
        job = await load_job(self.equipment, run, TASK.id, tries)
        return await work.based(self.equipment, await self.vault(), job)

    def _begin(self, session: Session, run: str, tries: int, landed_on: str) -> None:
        plan = Plan(title="t", batches=(Batch("1", "", 1),), tasks=(TASK,))
        options = Options(Profile("s", "shell", command="true"), None).to_json()
        place = (str(self.sample.checkout), str(self.sample.upstream), "main", landed_on)
        record = facts.NewRun(run, to_json(plan), "", "t", *place, "local", options, ())
        facts.insert_run(session, record, [TaskStatus(run, TASK.id, TASK.title, "1", 0)], [], 1)
        for number in range(1, tries + 1):
            attempt = Attempt(number, base=self.sample.start, session="s")
            facts.save_attempt(session, run, TASK.id, attempt)
            facts.append(session, Event(run, EventKind.TASK_STARTED, number, TASK.id, number))
        facts.mark_unsettled(session, run, TASK.id, True)

    async def act(self, job: Job, script: str) -> None:
        """Run a shell script in the agent's workspace, which stays."""
        kind = self.equipment.workspaces["local"]
        vault = await self.vault()
        opened = kind.open(job.work_key, vault=vault.path, commit=job.attempt.base, keep=True)
        async with opened as workspace:
            done = await workspace.run("act", Command(("sh", "-ec", script)))
            assert done.ok, done.stderr

    async def capture(self, job: Job) -> Job:
        """Take what is in the workspace, as the stage does, and store its commit."""
        head = await self.capture_as(job, job.attempt.number)
        attempt = replace(job.attempt, head=head)
        await self.equipment.database.transact(facts.save_attempt, job.run.id, TASK.id, attempt)
        return await load_job(self.equipment, job.run.id, TASK.id, job.attempt.number)

    async def capture_as(self, job: Job, number: int) -> str:
        """Take what is in the workspace as the capture of a try; return its commit."""
        contents = await self.equipment.workspaces["local"].still(job.work_key)
        assert contents is not None
        change = await capture(
            self.equipment.git,
            await self.vault(),
            contents,
            job.attempt.base,
            ref=task_ref(job.run.id, TASK.id, number),
            message="work",
            author=BOT,
            committer=BOT,
            date=job.date,
        )
        return change.head

    async def note_again(self, job: Job) -> None:
        """Note the workspace as held, as it was before it was removed."""
        await holdings.note(self.equipment, [holdings.workspace(job, job.work_key)])

    async def publish(self, job: Job) -> str:
        """Push the try's commit to its branch, as the stage does; return the branch."""
        branch = branch_name(job.run.id, TASK)
        head = job.attempt.head
        await holdings.note(self.equipment, [holdings.branch(job, branch, head)])
        await (await self.vault()).publish(branch, head, None)
        return branch

    async def land(self, job: Job) -> None:
        """Move the target to the try's commit."""
        vault = await self.vault()
        await vault.land("main", await vault.fetch("main"), job.attempt.head)

    async def fail(self, job: Job, *, settled: bool = True) -> None:
        """End the task as failed; `settled` says that its clean-up has been done, and the run."""
        await self.equipment.database.transact(self._end, job, settled)

    def _end(self, session: Session, job: Job, settled: bool) -> None:
        data = {"reason": "agent", "explanation": "it failed"}
        key = (job.run.id, EventKind.TASK_FAILED, self.equipment.now_ms(), TASK.id)
        facts.append(session, Event(*key, job.attempt.number, data))
        if settled:
            self._settle(session, job)

    async def complete(self, job: Job, commit: str) -> None:
        """End task and run as landed by a commit."""
        await self.equipment.database.transact(self._complete, job, commit)

    def _complete(self, session: Session, job: Job, commit: str) -> None:
        data = {"reason": "merged", "explanation": "it landed", "merge_commit": commit}
        key = (job.run.id, EventKind.TASK_COMPLETED, self.equipment.now_ms(), TASK.id)
        facts.append(session, Event(*key, job.attempt.number, data))
        self._settle(session, job)

    async def fail_run(self, job: Job) -> None:
        """End the run of a task that has failed and been settled."""
        await self.equipment.database.transact(self._settle, job)

    def _settle(self, session: Session, job: Job) -> None:
        facts.mark_unsettled(session, job.run.id, TASK.id, False)
        facts.end_run_if_over(session, job.run.id, self.equipment.now_ms())

    async def held(self, *kinds: Kind) -> dict[str, Holding]:
        """Return what the ledger holds, by name."""
        found = await self.equipment.database.transact(ledger.held, *(kinds or tuple(Kind)))
        return {each.name: each for each in found}

    async def recorded(self) -> tuple[tuple[views.RunRecord, ...], tuple[Holding, ...]]:
        """Return all runs, and all that the ledger holds."""
        transact = self.equipment.database.transact
        return await transact(views.runs), await transact(ledger.held, *Kind)

    async def gc(self, *, dry_run: bool = False) -> dict[tuple[Thing, str], Item]:
        """Collect, and return what was looked at."""
        items = await self.service.gc(dry_run=dry_run)
        return {(item.what, item.name): item for item in items}

    def key(self, run: str, generation: int = 1) -> WorkspaceKey:
        """Return the key of an agent's workspace."""
        return WorkspaceKey(run, TASK.id, generation, "work")

    def workspace(self, run: str) -> Path | None:
        """Return the folder of an agent's workspace, if it is there."""
        for path in (self.settings.data_dir / "workspaces" / "ws").glob("*"):
            if (path / "key").read_text() == str(self.key(run)):
                return path
        return None
