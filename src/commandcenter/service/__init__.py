"""Everything that a person may ask: submit, watch, cancel, retry. Every surface calls this."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from commandcenter import plugins
from commandcenter.core.agent import Profile, Role
from commandcenter.core.assignment import (
    AGENT_COMMAND,
    REVIEW_COMMAND,
    Choices,
    assign,
    chosen,
    refuse_unknown,
)
from commandcenter.core.budget import uncertain
from commandcenter.core.continuation import (
    Beginning,
    Landed,
    begin,
    landed_before,
    refuse_to_continue,
)
from commandcenter.core.disk import WAITS_FOR_DISK
from commandcenter.core.errors import (
    DiskFull,
    GitError,
    InputError,
    NotYet,
    PlanRefused,
    Unready,
    worlds,
)
from commandcenter.core.explanation import KINDS as EXPLAINED
from commandcenter.core.explanation import Explanation, explain
from commandcenter.core.forge import Decision
from commandcenter.core.ledger import Entry, Fact, Kind
from commandcenter.core.parking import WAITS_FOR_MODEL
from commandcenter.core.plan import (
    SIZE_BYTES_MAX,
    Diagnostic,
    Done,
    Plan,
    check,
    edges,
    from_record,
    restrict,
    to_json,
)
from commandcenter.core.preview import Counting, preview, told
from commandcenter.core.publication import decision_comment, landing_branch
from commandcenter.core.run import (
    AWAITS_APPROVAL,
    WAITS_FOR_A_PERSON,
    BatchStatus,
    Event,
    EventKind,
    Finding,
    Log,
    Phase,
    Reason,
    RunStatus,
    Started,
    State,
    Submission,
    TaskStatus,
    overall,
)
from commandcenter.core.run_report import KINDS as REPORTED
from commandcenter.core.run_report import RunReport, report_of, task_commands
from commandcenter.core.spending import KINDS, Spending, by_profile
from commandcenter.core.upkeep import Files, Item, Restored, Salvaged
from commandcenter.core.webhook import Headers, Heard
from commandcenter.patterns import runs_max, subtasks_max
from commandcenter.readers import PlanSource, ReadResult, read_plan
from commandcenter.service.doctor import Doctor
from commandcenter.service.gate import Gate
from commandcenter.service.salvage import Salvage
from commandcenter.service.upkeep import Upkeep
from commandcenter.service.webhooks import Webhooks
from commandcenter.settings import Settings, built_in
from commandcenter.stages import holdings
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Options
from commandcenter.store import facts, views
from commandcenter.store.views import RunRecord
from commandcenter.system.repository import Repository, inspect_repository

if TYPE_CHECKING:
    from commandcenter.flow import Flow, NewRun
    from commandcenter.system.vault import Vault

POLL_S = 0.15
SETTLING_S = 60.0
COUNTING = Counting(runs_max, subtasks_max)
LOCAL_WORDS = ("local", "parallel", "worktree", "sequential")
"""Words that name the local mode; V3 and its successors knew several."""


class Service:
    """One service on one data folder."""

    def __init__(
        self,
        settings: Settings,
        equipment: Equipment,
        doctor: Doctor,
        flow: Flow | None,
        *,
        owns: bool = False,
        owned: Callable[[], bool],
        webhooks: Webhooks | None = None,
    ) -> None:
        """Without a `flow` nothing works on the runs that are in progress.

        `owns`: the data folder is ours alone, so that it can be cleaned up all the same. `owned`
        says whether it is somebody's who works on the runs. Without `webhooks` none are received.
        """
        self._settings = settings
        self._equipment = equipment
        self._doctor = doctor
        self._flow = flow
        self._owned = owned
        self._database = equipment.database
        self._gate = Gate()
        self._upkeep = Upkeep(settings, equipment, self._gate)
        self._salvage = Salvage(settings, equipment)
        self._owns = owns
        self._webhooks = webhooks

    async def submit(self, submission: Submission) -> Started:
        """Check everything that can be checked, then start a run.

        Raises:
            InputError: the plan, the repository, or what they need is not in order; nothing
                was started or left behind.
        """
        flow = self._working()
        result, plan_path = await self._read(submission)
        read = _accepted(result, plan_path)
        restricted = restrict(read, submission.start_batch, submission.end_batch)
        repository = await inspect_repository(
            self._equipment.git, _repository(submission, plan_path), into=submission.into or ""
        )
        beginning, lost = await self._beginning(submission, restricted.plan, repository)
        plan = beginning.plan
        warned = [*result.diagnostics, *_new_findings(restricted.plan, plan, plan_path)]
        options = self._options(submission, plan)
        mode = self._mode(submission, plan)
        strength = await self._doctor.require(mode, options)
        self._equipment.forge(repository.upstream, repository.target)
        notes = [*restricted.notes, *lost, *_notes(repository, plan_path)]
        notes += filter(None, [strength.degraded])
        bounds = preview(plan, options.choices or Choices(), COUNTING)
        if any(task.budget_usd is not None for task in bounds.tasks):
            notes += uncertain({p.name: p for p in options.used}, self._settings.prices)
        async with self._gate.entered(repository.upstream):
            run = await self._prepared(
                _run_id(submission), beginning, plan_path, repository, mode, options, notes
            )
            noted = (*run.record.notes, *told(bounds))
            await flow.submit(replace(run, record=replace(run.record, notes=noted)))
        warnings = [str(each) for each in warned] + notes
        return Started(
            run.record.id,
            "started",
            tuple(batch.id for batch in plan.batches),
            tuple(warnings),
            bounds.words,
        )

    def _working(self) -> Flow:
        if self._flow is None:
            raise InputError(
                "No service is running on this data folder.", hint="start one: commandcenter serve"
            )
        if not self._flow.started:
            raise Unready("The service is starting or stopping.", hint="try again in a moment")
        return self._flow

    async def _read(self, submission: Submission) -> tuple[ReadResult, str]:
        if submission.plan is not None:
            text = to_json(from_record(dict(submission.plan)))
            return read_plan(PlanSource(text, "plan.json")), ""
        if not submission.plan_path:
            raise InputError("No plan was named.", hint="give `plan_path`, or a `plan`")
        path = _found(submission)
        try:
            content = await asyncio.to_thread(_content, path)
        except OSError as error:
            raise InputError(
                f"The plan {path} cannot be read: {error.strerror}.",
                hint="name a markdown file that the service may read",
            ) from error
        return await asyncio.to_thread(read_plan, PlanSource(content, str(path))), str(path)

    async def _beginning(
        self, submission: Submission, plan: Plan, repository: Repository
    ) -> tuple[Beginning, tuple[str, ...]]:
        """Return what the run begins with, and a note for each task that did not stay landed."""
        if submission.continues is None:
            return begin(plan, submission.rerun), ()
        landed = await self._database.transact(
            self._landed_before, plan, repository, submission.continues
        )
        lost = await self._not_in_target(landed, repository)
        kept = {name: each for name, each in landed.items() if name not in lost}
        beginning = begin(plan, submission.rerun, kept)
        notes = tuple(
            f"Task {name} is run again: {landed[name].words}, which `{repository.target}` does "
            "not contain."
            for name in lost
            if not beginning.plan.task(name).done.settled
        )
        return beginning, notes

    def _landed_before(
        self, session: Session, plan: Plan, repository: Repository, run: str
    ) -> Mapping[str, Landed]:
        record = views.read_run(session, run)
        refuse_to_continue(
            run,
            ended=record.ended_ms > 0,
            same_upstream=record.upstream == repository.upstream,
            same_target=record.target == repository.target,
        )
        earlier = self._equipment.plans.of(session, run)
        return landed_before(plan, earlier, views.tasks(session, run))

    async def _not_in_target(
        self, landed: Mapping[str, Landed], repository: Repository
    ) -> tuple[str, ...]:
        try:
            async with self._gate.entered(repository.upstream):
                vault = await self._equipment.vaults.open(repository.upstream)
                tip = await vault.fetch(repository.target)
                return tuple([n for n, c in landed.items() if not await _has(vault, tip, c.commit)])
        except (GitError, OSError) as error:
            raise _unusable(repository.upstream, error) from error

    def _options(self, submission: Submission, plan: Plan) -> Options:
        """Return what was chosen, with every profile that a task can use."""
        choices = chosen(submission, settings=self._settings.words, built_in=built_in())
        commands = _command_profiles(submission)
        configured = {profile.name: profile for profile in self._settings.profiles} | commands
        names = refuse_unknown(plan, choices, tuple(configured))
        profiles = tuple(configured[name] for name in names)
        for profile in profiles:
            plugins.agent(profile.agent)
        tasks = (task for task in plan.tasks if not task.done.settled)
        first = next((assign(plan, task, choices) for task in tasks), None)
        work = first.roles[Role.WORK] if first else self._settings.work
        review = first.roles[Role.REVIEW] if first and first.review_rounds else ""
        return Options(
            work=configured[work],
            review=configured.get(review),
            auto_merge=submission.auto_merge,
            profiles=profiles,
            choices=choices,
        )

    def _mode(self, submission: Submission, plan: Plan) -> str:
        asked = submission.execution_mode
        if asked is None:
            modes = {batch.workspace.value for batch in plan.batches if batch.workspace}
            if len(modes) > 1:
                raise InputError(
                    f"The plan asks for several modes: {', '.join(sorted(modes))}.",
                    hint="say which one to use: --mode local",
                )
            asked = modes.pop() if modes else self._settings.mode
        mode = "local" if asked in LOCAL_WORDS else asked
        if mode not in self._equipment.workspaces:
            known = ", ".join(sorted(self._equipment.workspaces))
            raise InputError(
                f"There is no mode `{asked}` in this installation.",
                hint=f"modes are: {known}; choose one with --mode",
            )
        return mode

    async def _prepared(
        self,
        run: str,
        beginning: Beginning,
        plan_path: str,
        repository: Repository,
        mode: str,
        options: Options,
        notes: list[str],
    ) -> NewRun:
        plan = beginning.plan
        landed_on = await self._landing(run, repository, mode, notes)
        record = facts.NewRun(
            id=run,
            plan=to_json(plan),
            plan_path=plan_path,
            title=plan.title,
            repository=str(repository.root or repository.upstream),
            upstream=repository.upstream,
            target=repository.target,
            landed_on=landed_on,
            mode=mode,
            options=options.to_json(),
            notes=tuple(notes),
        )
        # Imported here, since a service that only reads need not pay for the engine.
        from commandcenter.flow import NewRun

        statuses = [_first_status(run, beginning, n) for n in range(len(plan.tasks))]
        return NewRun(record, statuses, [(e.on, e.task, e.why.value) for e in edges(plan)])

    async def _landing(self, run: str, repository: Repository, mode: str, notes: list[str]) -> str:
        """Fetch the vault, and choose the branch that the run lands on."""
        try:
            vault = await self._equipment.vaults.open(repository.upstream)
            tip = await vault.fetch(repository.target)
            await self._equipment.workspaces[mode].require(vault.path, tip)
            checked_out = repository.current_branch == repository.target
            if repository.has_remote or not (checked_out and repository.dirty):
                return repository.target
            branch = landing_branch(run)
            # Noted first: whatever becomes of the run, the ledger knows the branch.
            held = Entry(Kind.BRANCH, repository.upstream, branch, Fact.PUT, run, commit=tip)
            await holdings.note(self._equipment, [held])
            await vault.publish(branch, tip, None)
        except (GitError, OSError) as error:
            raise _unusable(repository.upstream, error) from error
        notes.append(
            f"`{repository.target}` is checked out with uncommitted changes, so it is left alone. "
            f"The result goes to `{branch}`: git merge {branch}"
        )
        return branch

    async def runs(self) -> Sequence[RunStatus]:
        """Return all runs, newest first."""
        return await self._database.transact(self._runs)

    def _runs(self, session: Session) -> tuple[RunStatus, ...]:
        return tuple(self._status(session, record) for record in views.runs(session))

    async def run(self, execution_id: str) -> RunStatus:
        """Return one run.

        Raises:
            NotFound: there is none of this id.
        """
        return await self._database.transact(self._run, execution_id)

    def _run(self, session: Session, execution_id: str) -> RunStatus:
        return self._status(session, views.read_run(session, execution_id))

    def _status(self, session: Session, record: RunRecord) -> RunStatus:
        tasks = self._tasks(session, record)
        state = overall(tasks)
        if not record.ended_ms and state.ended:
            state = State.IN_PROGRESS  # branches and workspaces are still being cleaned up
        recovering = self._is_orphaned() and not record.ended_ms
        current = next((t.batch for t in tasks if not t.state.ended), "")
        return RunStatus(
            execution_id=record.id,
            status=state,
            phase=Phase.RECOVERING if recovering else None,
            title=record.title,
            plan_path=record.plan_path,
            repository=record.repository,
            upstream=record.upstream,
            target=record.target,
            landed_on=record.landed_on,
            execution_mode=record.mode,
            auto_merge=Options.from_json(record.options).auto_merge,
            current_batch=current,
            tasks=tasks,
            notes=record.notes if record.ended_ms else (*record.notes, *self._stalls()),
            started_ms=record.created_ms,
            ended_ms=record.ended_ms,
        )

    def _is_orphaned(self) -> bool:
        return self._flow is None and (self._owns or not self._owned())

    def _stalls(self) -> tuple[str, ...]:
        """Return what work waits for now that people have to mend."""
        if self._flow is None:
            return ()
        recorded = "A disk is full: what was done waits to be recorded in the database."
        parked = " and ".join(self._equipment.gateway.pauses.words().values())
        return (
            *((recorded,) if self._database.is_short_of_room() else ()),
            *((f"No agent begins now: work waits for {parked}.",) if parked else ()),
            *self._flow.stalls(),
        )

    def _tasks(self, session: Session, record: RunRecord) -> tuple[TaskStatus, ...]:
        tasks = tuple(self._told(task) for task in views.tasks(session, record.id))
        if not self._is_orphaned():
            return tasks
        # Nobody holds the data folder, so nobody works on these.
        return tuple(
            replace(task, phase=Phase.RECOVERING) if task.state is State.IN_PROGRESS else task
            for task in tasks
        )

    def _told(self, task: TaskStatus) -> TaskStatus:
        """Return a status with what is true only now: our address, room, the provider's pause."""
        if task.proposal_url.startswith("/"):
            task = replace(task, proposal_url=self._full(task.proposal_url))
        if task.waiting_for == WAITS_FOR_DISK:
            task = replace(task, waiting_for=self._equipment.disk_words())
        elif task.waiting_for.startswith(WAITS_FOR_A_PERSON):
            since = task.waiting_for.removeprefix(WAITS_FOR_A_PERSON)
            how = f"commandcenter approve {task.run} {task.id}, or merge its pull request"
            task = replace(task, waiting_for=f"{AWAITS_APPROVAL}{since}: {how}")
        elif task.waiting_for.startswith(WAITS_FOR_MODEL):
            name = task.waiting_for.removeprefix(WAITS_FOR_MODEL).strip()
            words = self._equipment.gateway.pauses.words().get(name, task.waiting_for)
            task = replace(task, waiting_for=words)
        return task

    async def ended(self, execution_id: str) -> bool:
        """Say whether a run is over; cheap, whatever its size.

        Raises:
            NotFound: there is none of this id.
        """
        record = await self._database.transact(views.read_run, execution_id)
        return record.ended_ms > 0

    async def batches(self, execution_id: str) -> Sequence[BatchStatus]:
        """Return the batches of a run with their tasks, in reading order."""
        return await self._database.transact(self._batches, execution_id)

    def _batches(self, session: Session, execution_id: str) -> tuple[BatchStatus, ...]:
        record = views.read_run(session, execution_id)
        by_batch: dict[str, list[TaskStatus]] = {}
        for task in self._tasks(session, record):
            by_batch.setdefault(task.batch, []).append(task)
        return tuple(
            BatchStatus(
                run=execution_id,
                id=batch.id,
                title=batch.title,
                ordinal=batch.ordinal,
                state=overall(by_batch.get(batch.id, [])),
                tasks=tuple(by_batch.get(batch.id, [])),
                depends_on=tuple(reference.id for reference in batch.depends_on),
            )
            for batch in self._equipment.plans.of(session, execution_id).batches
        )

    async def spending(self, execution_id: str) -> Sequence[Spending]:
        """Return what the agents of a run have used, by profile.

        Raises:
            NotFound: there is no such run.
        """
        return await self._database.transact(_spending, execution_id)

    async def report(self, execution_id: str) -> RunReport:
        """Return what became of a run, or has so far: all of it from what is stored.

        Raises:
            NotFound: there is no such run.
        """
        run, events = await self._database.transact(self._reported, execution_id)
        refused = await asyncio.to_thread(self._refused, run)
        salvaged: dict[str, list[str]] = {}
        for each in await self._salvage.list():
            if each.run == execution_id:
                salvaged.setdefault(each.task, []).append(each.id)
        return report_of(
            run,
            [self._with_full_url(event) for event in events],
            refused=refused,
            salvaged=salvaged,
            now_ms=self._equipment.now_ms(),
        )

    def _reported(self, session: Session, execution_id: str) -> tuple[RunStatus, tuple[Event, ...]]:
        run = self._run(session, execution_id)
        return run, views.events_of(session, execution_id, REPORTED)

    def _refused(self, run: RunStatus) -> dict[str, Counter[str]]:
        logs = self._equipment.logs
        return {task.id: logs.refusals(run.execution_id, task.id) for task in run.tasks}

    async def explanation(self, execution_id: str, number: str) -> Explanation:
        """Return why a task stands where it does, in sentences.

        Raises:
            NotFound: there is no such run or task.
        """
        run, events = await self._database.transact(self._explained, execution_id, number)
        by_id = {each.id: each for each in run.tasks}
        task, kept = by_id[number], await self._salvage.list()
        parent = by_id.get(task.parent)
        salvaged = [each.id for each in kept if (each.run, each.task) == (execution_id, number)]
        sentences = explain(
            task,
            [self._with_full_url(event) for event in events],
            subtasks=[each for each in run.tasks if each.parent == number],
            parent=parent,
            commands=task_commands(task, salvaged, parent),
        )
        return Explanation(task, sentences)

    def _explained(
        self, session: Session, execution_id: str, number: str
    ) -> tuple[RunStatus, tuple[Event, ...]]:
        run = self._run(session, execution_id)
        views.read_task(session, execution_id, number)  # or it is not found
        return run, views.events_of(session, execution_id, EXPLAINED, (number,))

    async def task(self, execution_id: str, number: str) -> TaskStatus:
        """Return one task of a run.

        Raises:
            NotFound: there is no such run or task.
        """
        for task in (await self.run(execution_id)).tasks:
            if task.id == number:
                return task
        return await self._database.transact(views.read_task, execution_id, number)

    async def events(
        self, execution_id: str | None, *, after: int = 0, limit: int = 1000
    ) -> Sequence[Event]:
        """Return the events of a run, or of all, after a position."""
        found = await self._database.transact(views.events, execution_id, after=after, limit=limit)
        return [self._with_full_url(event) for event in found]

    def _with_full_url(self, event: Event) -> Event:
        if event.kind is not EventKind.TASK_PROPOSED:
            return event
        return replace(event, data={**event.data, "url": self._full(event.data["url"])})

    def _full(self, url: str) -> str:
        """Return where a pull request can be seen now; the hub's are stored without our address."""
        return f"{self._equipment.base_url}{url}" if url.startswith("/") else url

    async def wait_for_events(
        self, execution_id: str | None, *, after: int, timeout_s: float
    ) -> Sequence[Event]:
        """Return the events after a position as soon as there are any; none at the timeout."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = await self.events(execution_id, after=after)
            if found or time.monotonic() >= deadline:
                return found
            await asyncio.sleep(POLL_S)

    async def cancel(self, execution_id: str) -> RunStatus:
        """Cancel what has not ended; a run that is over stays as it is."""
        status = await self.run(execution_id)
        if not status.ended_ms:
            await self._working().cancel(execution_id)
        return await self.run(execution_id)

    async def decide(
        self, execution_id: str, task: str | None, decision: Decision, words: str, by: str
    ) -> RunStatus:
        """Say what becomes of a change that waits for approval, or of all of a run that do.

        Its pull request is told first, so that nothing happens that nobody can read there.

        Raises:
            InputError: none waits for that.
            ForgeError: the pull request cannot be told; nothing was decided.
        """
        # Imported here, since a service that only reads need not pay for the engine.
        from commandcenter.flow import Word

        flow = self._working()
        run = await self.run(execution_id)
        if task is not None:
            await self.task(execution_id, task)
        waiting = [each for each in run.tasks if each.waiting_for.startswith(AWAITS_APPROVAL)]
        chosen = [each for each in waiting if task in (None, each.id)]
        if not chosen:
            raise InputError(
                f"Task {task} does not wait for approval."
                if task
                else "Nothing waits for approval.",
                hint=f"look at it: commandcenter status {execution_id}",
            )
        forge = self._equipment.forge(run.upstream, run.target)
        for each in chosen:
            await forge.comment(each.proposal, decision_comment(decision, words, by))
            await flow.decide(execution_id, each.id, Word(decision, words, by), each.head)
        return await self.run(execution_id)

    async def retry(self, execution_id: str, task: str | None = None) -> RunStatus:
        """Try failed, skipped and cancelled tasks again: one with what needs it, or all.

        Raises:
            InputError: there is nothing to retry, or what the run needs is not in order.
        """
        flow = self._working()
        if task is not None:
            await self.task(execution_id, task)
        record = await self._database.transact(views.read_run, execution_id)
        await self._doctor.require(record.mode, Options.from_json(record.options))
        self._equipment.forge(record.upstream, record.target)
        async with self._gate.entered(record.upstream):
            await self._retry(flow, execution_id, task)
        return await self.run(execution_id)

    async def _retry(self, flow: Flow, execution_id: str, task: str | None) -> None:
        """Retry as soon as the last tries are cleaned up, so that a new one does not meet them."""
        deadline = time.monotonic() + SETTLING_S
        while True:
            try:
                return await flow.retry(execution_id, task)
            except NotYet:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(POLL_S)

    async def logs(
        self, execution_id: str, *, task: str | None = None, attempt: int | None = None
    ) -> Sequence[Log]:
        """Return the logs of a run, a task or a try."""
        tasks = (await self.run(execution_id)).tasks
        if task is not None:
            await self.task(execution_id, task)
        wanted = tuple(each.id for each in tasks if task in (None, each.id))
        return await asyncio.to_thread(self._equipment.logs.find, execution_id, wanted, attempt)

    async def gc(self, *, dry_run: bool) -> Sequence[Item]:
        """Free what is held elsewhere, and say of the rest why not; or only say what would go."""
        self._require_ownership()
        return await (self._upkeep.look() if dry_run else self._upkeep.collect())

    async def salvage(self) -> Sequence[Salvaged]:
        """Return the work that did not land and can be restored, oldest first."""
        return await self._salvage.list()

    async def restore(self, id_: str, *, repository: str | None, branch: str | None) -> Restored:
        """Make a new branch of salvaged work in a repository, by default the run's own."""
        self._require_ownership()
        return await self._salvage.restore(id_, repository, branch)

    async def salvaged_files(self, id_: str) -> Files:
        """Return the files of salvaged work as an archive."""
        self._require_ownership()
        return await self._salvage.files(id_)

    async def drop(self, id_: str) -> None:
        """Remove salvaged work for good."""
        self._require_ownership()
        await self._salvage.drop(id_)

    def _require_ownership(self) -> None:
        """Make sure that nobody else works on the data folder."""
        if not self._owns:
            self._working()

    async def webhook(self, forge: str, headers: Headers, body: bytes) -> Heard:
        """Take a webhook, if it is one, for a reason to ask the forge now."""
        if self._webhooks is None:
            return Heard.OFF
        return await self._webhooks.hear(forge, headers, body)

    async def doctor(self) -> Sequence[Finding]:
        """Return what is and is not in order on this machine."""
        return await self._doctor.findings()


def _accepted(result: ReadResult, path: str) -> Plan:
    if result.plan is not None and result.ok:
        return result.plan
    errors = sum(each.is_error for each in result.diagnostics)
    noun = "error" if errors == 1 else "errors"
    raise PlanRefused(
        f"The plan {path} has {errors} {noun}; nothing was started.",
        result.diagnostics,
        hint="mend them, and look again: commandcenter plan check PLAN",
    )


async def _has(vault: Vault, tip: str, commit: str) -> bool:
    """Say whether a branch contains a commit, which may be gone altogether."""
    there = bool(commit) and await vault.resolve(commit) is not None
    return there and await vault.is_ancestor(commit, tip)


def _new_findings(before: Plan, plan: Plan, path: str) -> tuple[Diagnostic, ...]:
    """Return what is to be said of a plan only since tasks of it are run again.

    Raises:
        PlanRefused: it cannot be run so.
    """
    known = frozenset(check(before)) if before != plan else frozenset()
    found = check(plan) if before != plan else ()
    new = tuple(replace(each, path=path) for each in found if each not in known)
    _accepted(ReadResult(plan, new), path)
    return new


def _found(submission: Submission) -> Path:
    """Return the plan's path: absolute, or below the caller's folder or the repository."""
    named = Path(submission.plan_path or "").expanduser()
    places = [submission.folder or os.getcwd(), submission.repository or ""]
    candidates = [Path(place) / named for place in places if place]
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    raise InputError(
        f"Plan file not found: {named}", hint="give its absolute path, or look for a typing error"
    )


def _content(path: Path) -> bytes:
    """Read a plan, or one byte more than a plan may have; never a pipe or a device."""
    if path.exists() and not path.is_file():
        why = "it is a folder" if path.is_dir() else "it is no ordinary file"
        raise InputError(f"The plan {path} cannot be read: {why}.", hint="name a markdown file")
    with path.open("rb") as file:
        return file.read(SIZE_BYTES_MAX + 1)


def _repository(submission: Submission, plan_path: str) -> str:
    if submission.repository:
        named = Path(submission.repository).expanduser()
        below = Path(submission.folder or os.getcwd()) / named
        return str(below) if below.is_dir() else submission.repository
    if not plan_path:
        raise InputError("No repository was named.", hint="give `repository`")
    return str(Path(plan_path).parent)


def _run_id(submission: Submission) -> str:
    if submission.request is None:
        return f"exec_{secrets.token_hex(4)}"
    return f"exec_{hashlib.sha256(submission.request.encode()).hexdigest()[:8]}"


def _unusable(upstream: str, error: GitError | OSError) -> Exception:
    """Return what is told when an upstream cannot be used: that the disk is full is another's."""
    found = worlds(error)
    if isinstance(error, OSError) or isinstance(found, DiskFull):
        return found or error
    return InputError(
        f"The upstream {upstream} cannot be used: {error.message}",
        hint=error.hint or "`git fetch` and `git push` must work there",
    )


def _notes(repository: Repository, plan_path: str) -> list[str]:
    if repository.dirty and repository.has_remote:
        return ["Uncommitted changes in the checkout are left alone; no task sees them."]
    return []


def _command_profiles(submission: Submission) -> dict[str, Profile]:
    """Return the profiles that are no more than a command line."""
    named = {AGENT_COMMAND: submission.agent_command, REVIEW_COMMAND: submission.review_command}
    return {
        name: Profile(name, "shell", command=command) for name, command in named.items() if command
    }


def _spending(session: Session, execution_id: str) -> tuple[Spending, ...]:
    views.read_run(session, execution_id)
    return by_profile(views.events_of(session, execution_id, KINDS))


def _first_status(run: str, beginning: Beginning, index: int) -> TaskStatus:
    task = beginning.plan.tasks[index]
    status = TaskStatus(run, task.id, task.title, task.batch, index)
    if not task.done.settled:
        return status
    if landed := beginning.landed.get(task.id):
        return replace(
            status,
            state=State.SKIPPED,
            reason=Reason.LANDED_BEFORE,
            explanation=landed.words,
            head=landed.commit,
        )
    words = {
        Done.DONE: "the plan says that it is done",
        Done.SKIPPED: "the plan says to skip it",
        Done.CANCELLED: "the plan says that it is cancelled",
    }
    return replace(
        status,
        state=State.SKIPPED,
        reason=Reason.DONE_IN_PLAN,
        explanation=words[task.done],
    )
