"""The judge: watches a run from outside, and says at the end what was not as it must be.

It believes nobody. While a run goes on it samples what the status API says, and holds it against
git, the forge and the processes of the machine; afterwards it reads all that is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
from sqlalchemy.orm import Session

from commandcenter.core.errors import GitError
from commandcenter.core.ledger import Kind
from commandcenter.core.plan import Plan, Task, from_json
from commandcenter.core.publication import proposal_title
from commandcenter.core.run import Event, EventKind, Phase, Reason, State, TaskStatus, fold
from commandcenter.core.upkeep import explain
from commandcenter.service.upkeep import known
from commandcenter.store import ledger, views
from commandcenter.store.database import open_engine, sqlite_url
from commandcenter.system.git import Git
from commandcenter.testing.scene import Installation, Sample, fingerprint

Json = dict[str, Any]  # Any: JSON as the service answers it

PERIOD_S = 0.2
PATIENCE_S = 60.0
EVENTS_MAX = 100_000
CHECKS_CONTEXT = "commandcenter/checks"
REVIEW_CONTEXT = "commandcenter/review"


class Criterion(StrEnum):
    """What a run is judged on; SPEC 12 lists them."""

    SESSION = "the session starts without errors"
    OUTCOME = "every task ends as its plan has it"
    TRANSITIONS = "tasks go from pending through in progress to their end"
    STORE = "the stored state is the fold of the events"
    STATUS = "the status API is correct at all times"
    BRANCH = "the branch is created and pushed"
    PROPOSAL = "the pull request has the right content"
    REVIEW = "the review is posted"
    MERGE = "what is merged is on the target, once, and nothing else is"
    LEFTOVERS = "nothing is left behind"
    FSCK = "git fsck is clean"
    CHECKOUT = "the user's checkout is untouched"


@dataclass(frozen=True)
class Violation:
    """One thing that is not as it must be."""

    criterion: Criterion
    evidence: str

    def __str__(self) -> str:
        return f"[{self.criterion.name}] {self.evidence}"


class Untouched(StrEnum):
    """How much of the user's checkout must stay byte-identical."""

    EVERYTHING = "everything"
    WORK = "work"
    """All but the new objects and branches that a result without a remote needs."""
    NOTHING = "nothing"
    """The result is to arrive in it."""


@dataclass
class Judge:
    """Judges one run. Make it before the run is started; then `watching`; then `judge`."""

    installation: Installation
    sample: Sample
    untouched: Untouched = Untouched.EVERYTHING
    outsiders: frozenset[str] = frozenset()
    """Commits on the target that are a person's."""
    run: str = ""
    url: str = ""
    """Where the service is; it may change when it is started again."""
    period_s: float = PERIOD_S
    """How long it looks away between two samples."""
    looks: int = 0
    """How often the status was sampled."""
    _before: Mapping[str, str] = field(default_factory=dict)
    _start: str = ""
    _found: list[Violation] = field(default_factory=list)
    _seen: dict[str, list[tuple[str, str | None, int]]] = field(default_factory=dict)
    _merges: set[str] = field(default_factory=set)
    _proposals: set[int] = field(default_factory=set)
    _keys: dict[str, str] = field(default_factory=dict)
    _deadline: float = 0.0

    @classmethod
    async def appoint(
        cls,
        installation: Installation,
        sample: Sample,
        *,
        untouched: Untouched = Untouched.EVERYTHING,
        period_s: float = PERIOD_S,
    ) -> Judge:
        """Return a judge who has seen the repository as it is before the run."""
        judge = cls(installation, sample, untouched, period_s=period_s)
        judge._before = judge._prints()
        judge._start = await sample.tip()
        return judge

    def moved(self, sample: Sample) -> Judge:
        """Return the same judge before a copy of the repository, as it is now."""
        judge = replace(self, sample=sample, _found=[], _seen={**self._seen})
        judge._before = judge._prints()
        return judge

    def _prints(self) -> Mapping[str, str]:
        prints = fingerprint(self.sample.checkout)
        if self.untouched is Untouched.EVERYTHING:
            return prints
        if self.untouched is Untouched.NOTHING:
            return {}
        target = f".git/refs/heads/{self.sample.branch}"
        kept = (".git/index", ".git/HEAD", ".git/config", target)
        return {
            name: each
            for name, each in prints.items()
            if not name.startswith(".git") or name in kept
        }

    @asynccontextmanager
    async def watching(self, url: str, run: str) -> AsyncIterator[None]:
        """Sample the run until the block ends."""
        self.url, self.run = url, run
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    async def ended(self, url: str, run: str, *, patience_s: float = PATIENCE_S) -> Json:
        """Sample the run until it is over; return its last status.

        Raises:
            TimeoutError: it was not over in time.
        """
        async with self.watching(url, run), asyncio.timeout(patience_s):
            return await self.over()

    async def over(self) -> Json:
        """Return the run's status once it is over."""
        async with client_of(self.url) as client:
            while True:
                status: Json = await _get(client, self._path("status"))
                if status["completed_at"] is not None:
                    return status
                await asyncio.sleep(PERIOD_S)

    async def _watch(self) -> None:
        while True:
            # A service that was killed says nothing, and so nothing wrong; without the upstream
            # there is nothing to compare with.
            async with client_of(self.url) as client:
                with contextlib.suppress(httpx.TransportError, GitError):
                    await self._keep_looking(client)
            await asyncio.sleep(self.period_s)

    async def _keep_looking(self, client: httpx.AsyncClient) -> NoReturn:
        while True:
            await self.look(client)
            await asyncio.sleep(self.period_s)

    def _path(self, last: str) -> str:
        return f"/api/v1/autonomous/{self.run}/{last}"

    # While it runs

    async def look(self, client: httpx.AsyncClient) -> None:
        """Hold what the API says now against what is so now.

        What can only grow is looked at after it was said; what can change is believed to be
        wrong only if the same was said before and after.
        """
        batches = await _get(client, self._path("batches"))
        tasks = [task for batch in batches for task in batch["tasks"]]
        status = await _get(client, self._path("status"))
        holders = self._holders()
        refs = await self._refs()
        later = {task["task_number"]: task for task in await self._tasks(client)}
        self.looks += 1
        for task in tasks:
            self.hear(task["task_number"], task["status"], task["phase"], task["attempt"])
            await self._check_merge(task, status)
            await self._check_proposal(client, task)
            if _telling(task) == _telling(later[task["task_number"]]):
                self._check_branch(task, refs)
                self._check_holder(task, holders)
        for batch in batches:
            self._compare(f"batch {batch['batch_number']}", batch, _batch_of(batch["tasks"]))
        if tasks == list(later.values()):
            self._compare("the run", status, _run_of(tasks, ended=bool(status["completed_at"])))
            self._check_active(status, tasks)

    async def _tasks(self, client: httpx.AsyncClient) -> list[Json]:
        batches = await _get(client, self._path("batches"))
        return [task for batch in batches for task in batch["tasks"]]

    def hear(self, task: str, state: str, phase: str | None, attempt: int) -> None:
        """Note what was said of a task."""
        history = self._seen.setdefault(task, [])
        said = (str(state), phase and str(phase), attempt)
        if not history or history[-1] != said:
            history.append(said)

    async def _check_merge(self, task: Json, status: Json) -> None:
        commit = task["merge_commit"]
        if task["reason"] != Reason.MERGED or commit in self._merges:
            return
        if not commit or not await self._contains(status["landed_on"], commit):
            self._blame(
                Criterion.STATUS,
                f"task {task['task_number']} was said to be merged as {commit}, which "
                f"{status['landed_on']} did not contain",
            )
        self._merges.add(commit)

    async def _check_proposal(self, client: httpx.AsyncClient, task: Json) -> None:
        number = task["pr_number"]
        if not number or number in self._proposals:
            return
        answer = await self._hub(client, task, f"pulls/{number}")
        if answer.is_error:
            self._blame(
                Criterion.STATUS,
                f"pull request {number} was said to be open, but the forge does not know it",
            )
        self._proposals.add(number)

    def _check_branch(self, task: Json, refs: Mapping[str, str]) -> None:
        if task["phase"] not in (Phase.REVIEWING, Phase.MERGING):
            return
        there = refs.get(task["branch_name"])
        if [there] != task["commits"]:
            self._blame(
                Criterion.BRANCH,
                f"while task {task['task_number']} was {task['phase']}, its branch "
                f"{task['branch_name']} was at {there}, not at {task['commits']}",
            )

    def _check_holder(self, task: Json, holders: Mapping[str, set[int]]) -> None:
        if task["status"] != State.IN_PROGRESS and (found := holders.get(task["task_number"])):
            self._blame(
                Criterion.STATUS,
                f"task {task['task_number']} was said to be {task['status']}, but the processes "
                f"{sorted(found)} were at work for it",
            )

    def _compare(self, what: str, said: Json, so: Json) -> None:
        for name, value in so.items():
            if said[name] != value:
                self._blame(
                    Criterion.STATUS, f"{name} of {what} was said to be {said[name]}, not {value}"
                )

    def _check_active(self, status: Json, tasks: Sequence[Json]) -> None:
        told = [each["pr_number"] for each in status["active_prs"]]
        open_now = [
            task["pr_number"]
            for task in tasks
            if task["pr_number"] and task["status"] == State.IN_PROGRESS
        ]
        if told != open_now:
            self._blame(
                Criterion.STATUS, f"the pull requests {told} were said to be open, not {open_now}"
            )

    def _holders(self) -> dict[str, set[int]]:
        """Return the processes in this run's workspaces, by task."""
        holders: dict[str, set[int]] = {}
        for folder in _places(self.installation, "ws"):
            with contextlib.suppress(OSError):
                self._keys[folder.name] = (folder / "key").read_text()
        for workspace, processes in inhabitants(self.installation).items():
            run, _, rest = self._keys.get(workspace, "").partition("/")
            if run == self.run:
                holders.setdefault(rest.split("/")[0], set()).update(processes)
        return holders

    async def _refs(self) -> dict[str, str]:
        listed = await self.sample.ask(
            "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads"
        )
        refs = (line.split(" ") for line in listed.splitlines())
        return {branch: commit for branch, commit in refs}  # noqa: C416 - the pairs are lists

    async def _contains(self, branch: str, commit: str) -> bool:
        asked = await self.sample.git.run(
            *("merge-base", "--is-ancestor", commit, f"refs/heads/{branch}"),
            git_dir=self.sample.git_dir,
            check=False,
        )
        return asked.exit_code == 0

    async def _hub(self, client: httpx.AsyncClient, task: Json, path: str) -> httpx.Response:
        # The service may have another port since the address was written down.
        owner, name = re.findall(r"/hub/([^/]+)/([^/]+)/pull/", task["pr_url"])[0]
        headers = {"Authorization": f"Bearer {self.installation.hub_token()}"}
        return await client.get(f"/hub/repos/{owner}/{name}/{path}", headers=headers)

    def _blame(self, criterion: Criterion, evidence: str) -> None:
        violation = Violation(criterion, evidence)
        if violation not in self._found:
            self._found.append(violation)

    # Afterwards

    async def judge(self, *, ended: bool = True) -> tuple[Violation, ...]:
        """Return everything that is not as it must be; the service must still be there.

        `ended`: the run is over, so that nothing of it may be left.
        """
        facts = await asyncio.to_thread(read, self.installation, self.run)
        for found in (judge_transitions(facts, ended=ended), judge_store(facts)):
            self._found += found
        self._found += self._judge_samples(facts)
        async with client_of(self.url) as client:
            await self.judge_proposals(client)
        await self._judge_target(facts)
        if ended:
            await self._judge_leftovers(facts)
        await self._judge_health()
        self._judge_checkout()
        return self.found()

    def found(self) -> tuple[Violation, ...]:
        """Return what was found until now."""
        return tuple(self._found)

    async def judge_proposals(self, client: httpx.AsyncClient) -> None:
        """Read every pull request, with its reviews and statuses."""
        facts = await asyncio.to_thread(read, self.installation, self.run)
        for task in await self._tasks(client):
            await self._judge_proposal(client, task, facts)

    def _judge_samples(self, facts: Facts) -> Iterator[Violation]:
        """Compare what was said, in order, with what happened, in order."""
        if not self.looks:
            yield Violation(Criterion.STATUS, "the status was never sampled")
        for task, said in self._seen.items():
            happened = iter(_history(facts, task))
            for each in said:
                # Work that was cut off is shown as recovering until its owner is back.
                if each[1] != Phase.RECOVERING and each not in happened:
                    yield Violation(
                        Criterion.STATUS, f"task {task} was said to be {each}, out of turn: {said}"
                    )
                    break

    async def _judge_proposal(self, client: httpx.AsyncClient, task: Json, facts: Facts) -> None:
        number = task["pr_number"]
        if not number:
            if task["reason"] == Reason.MERGED:
                self._blame(Criterion.PROPOSAL, f"task {task['task_number']} has none")
            return
        answer = await self._hub(client, task, f"pulls/{number}")
        if answer.is_error:
            self._blame(Criterion.PROPOSAL, f"the forge does not know pull request {number}")
            return
        page = await client.get(urlsplit(task["pr_url"]).path)
        if page.status_code != httpx.codes.OK:
            self._blame(Criterion.STATUS, f"{task['pr_url']} answers {page.status_code}")
        planned = facts.plan.task(task["task_number"])
        files = (await self._hub(client, task, f"pulls/{number}/files")).json()
        pull = answer.json()
        # Truth is read from git: where it landed decides, and not what the forge says.
        merged = task["reason"] == Reason.MERGED and await self._contains(
            pull["base"]["ref"], task["merge_commit"]
        )
        self._found += _judge_content(pull, files, task, planned, facts.targets, merged=merged)
        await self._judge_review(client, task, pull)

    async def _judge_review(self, client: httpx.AsyncClient, task: Json, pull: Json) -> None:
        if task["review"] in (None, "none"):
            return
        head = pull["head"]["sha"]
        path = f"pulls/{pull['number']}/reviews"
        reviews = (await self._hub(client, task, path)).json()
        combined = (await self._hub(client, task, f"commits/{head}/status")).json()
        states = {each["context"]: each["state"] for each in combined.get("statuses", ())}
        if task["review"] != "invalid":
            told = [each for each in reviews if each["commit_id"] == head]
            if not told or told[-1]["state"] != "COMMENTED" or not told[-1]["body"]:
                self._blame(
                    Criterion.REVIEW, f"pull request {pull['number']} has no review of {head}"
                )
        expected = {"approve": "success", "revise": "failure", "reject": "failure"}
        if states.get(REVIEW_CONTEXT) != expected.get(task["review"]):
            self._blame(
                Criterion.REVIEW,
                f"the review of {head} was {task['review']}, and its status says "
                f"{states.get(REVIEW_CONTEXT)}",
            )
        passed = "success" if task["checks"]["judgement"] == "passed" else None
        if states.get(CHECKS_CONTEXT) != passed:
            self._blame(
                Criterion.REVIEW,
                f"the checks of {head} were {task['checks']}, and its status says "
                f"{states.get(CHECKS_CONTEXT)}",
            )

    async def _judge_target(self, facts: Facts) -> None:
        """Read the target's own line: every step must be a task's merge, or a person's."""
        landed = {task.id: 0 for task in facts.tasks if task.reason is Reason.MERGED}
        for commit in await self._steps(facts.run.landed_on):
            owner = await self._owner(commit)
            if commit in self.outsiders or (owner and owner[0] != self.run):
                continue
            if owner is None:
                self._blame(Criterion.MERGE, f"{commit} is on the target, and no task's")
                continue
            landed[owner[1]] = landed.get(owner[1], 0) + 1
            await self._judge_step(commit, owner[1], facts)
        for task, times in landed.items():
            merged = any(each.id == task and each.reason is Reason.MERGED for each in facts.tasks)
            if times != int(merged):
                self._blame(
                    Criterion.MERGE, f"task {task} landed {times} times, and merged is {merged}"
                )

    async def _steps(self, branch: str) -> list[str]:
        listed = await self.sample.ask(
            "rev-list", "--first-parent", "--reverse", f"{self._start}..refs/heads/{branch}"
        )
        return listed.splitlines()

    async def _owner(self, commit: str) -> tuple[str, str] | None:
        """Return run and task of the change that a step of the target brought in."""
        named = [f"%(trailers:key=CommandCenter-{name},valueonly)" for name in ("Run", "Task")]
        told = await self.sample.ask("log", f"--format={''.join(named)}", f"{commit}^1..{commit}")
        words = told.split()
        return (words[0], words[1]) if len(words) >= 2 else None

    async def _judge_step(self, commit: str, task: str, facts: Facts) -> None:
        changed = await self.sample.ask("diff", "--name-only", "-z", f"{commit}^1", commit)
        foreign = _undeclared(changed.split("\0"), facts.plan.task(task))
        if foreign:
            self._blame(
                Criterion.MERGE,
                f"the merge {commit} of task {task} brought in {sorted(foreign)}, which the task "
                "does not name",
            )

    async def _judge_leftovers(self, facts: Facts) -> None:
        mine = f"commandcenter/{self.run}/"
        for branch in await self._refs():
            if branch.startswith(mine) and branch != facts.run.landed_on:
                self._blame(Criterion.LEFTOVERS, f"the branch {branch} is left in the upstream")
        for path in _places(self.installation, "ws"):
            key = _text(path / "key")
            if key.startswith(f"{self.run}/"):
                self._blame(Criterion.LEFTOVERS, f"the workspace {key} is left")
        for task, processes in self._holders().items():
            self._blame(Criterion.LEFTOVERS, f"processes {processes} of task {task} are left")
        for vault in self.vaults():
            kept = await _ask(self.sample.git, vault, "for-each-ref", f"refs/cc/keep/{self.run}")
            if kept:
                self._blame(Criterion.LEFTOVERS, f"the vault still keeps {kept}")

    async def _judge_health(self) -> None:
        checkout = self.sample.checkout / ".git"
        for repository in {self.sample.git_dir, checkout, *self.vaults()}:
            self._found += await judge_repository(self.sample.git, repository)

    def vaults(self) -> list[Path]:
        """Return the vaults that the run has used: one, as soon as it has begun."""
        facts = read(self.installation, self.run)
        return _vaults(self.installation, facts.run.upstream)

    def _judge_checkout(self) -> None:
        now = self._prints()
        for name in sorted(self._before.keys() | now.keys()):
            if self._before.get(name) != now.get(name):
                self._blame(
                    Criterion.CHECKOUT,
                    f"{name} was {self._before.get(name)} and is {now.get(name)}",
                )


@dataclass(frozen=True)
class Facts:
    """What the store holds of a run."""

    run: views.RunRecord
    plan: Plan
    tasks: tuple[TaskStatus, ...]
    events: tuple[Event, ...]

    @property
    def targets(self) -> frozenset[str]:
        """Return the branches that its pull requests may be for: one, unless it had to move."""
        moved = any(event.kind is EventKind.RUN_LANDING_MOVED for event in self.events)
        return frozenset({self.run.landed_on, self.run.target} if moved else {self.run.landed_on})

    def of(self, task: str) -> tuple[Event, ...]:
        """Return a task's events."""
        return tuple(event for event in self.events if event.task == task)


def read(installation: Installation, run: str) -> Facts:
    """Return what the store of an installation holds of a run."""
    engine = open_engine(sqlite_url(installation.data_dir / "commandcenter.sqlite"))
    try:
        with Session(engine) as session:
            return Facts(
                views.read_run(session, run),
                from_json(views.read_plan(session, run)),
                views.tasks(session, run),
                views.events(session, run, after=0, limit=EVENTS_MAX),
            )
    finally:
        engine.dispose()


def judge_store(facts: Facts) -> Iterator[Violation]:
    """Fold each task's events, and compare with its row."""
    for row in facts.tasks:
        folded = _fresh(row)
        for event in facts.of(row.id):
            folded = fold(folded, event)
        if folded != row:
            yield Violation(Criterion.STORE, f"task {row.id} is {row}, but happened as {folded}")


def _fresh(row: TaskStatus) -> TaskStatus:
    return TaskStatus(row.run, row.id, row.title, row.batch, row.ordinal, parent=row.parent)


def _history(facts: Facts, task: str) -> list[tuple[str, str | None, int]]:
    """Return all that a task's status was, in order."""
    status = _fresh(next(row for row in facts.tasks if row.id == task))
    states = [status]
    for event in facts.of(task):
        status = fold(status, event)
        states.append(status)
    return [(s.state.value, s.phase.value if s.phase else None, s.attempt) for s in states]


_ENDINGS = {
    EventKind.TASK_COMPLETED: State.IN_PROGRESS,
    EventKind.TASK_FAILED: State.IN_PROGRESS,
    EventKind.TASK_SKIPPED: State.PENDING,
}
"""What a task must have been for this to happen to it."""
_NEEDED = (
    EventKind.TASK_STARTED,
    EventKind.TASK_CAPTURED,
    EventKind.TASK_CHECKED,
    EventKind.TASK_PROPOSED,
    EventKind.TASK_REVIEWED,
)
"""What comes before a merge, in this order."""


def judge_transitions(facts: Facts, *, ended: bool = True) -> Iterator[Violation]:
    """Follow every task's events, and say what could not happen there."""
    for row in facts.tasks:
        for evidence in _illegal(row, facts.of(row.id), ended=ended):
            yield Violation(Criterion.TRANSITIONS, f"task {row.id}: {evidence}")
    kinds = [event.kind for event in facts.events if not event.task]
    if not kinds or kinds[0] is not EventKind.RUN_SUBMITTED:
        yield Violation(Criterion.TRANSITIONS, "the run does not begin with its submission")
    if ended and (not facts.events or facts.events[-1].kind is not EventKind.RUN_ENDED):
        yield Violation(Criterion.TRANSITIONS, f"the run does not end with its end: {kinds}")


def _illegal(row: TaskStatus, events: Sequence[Event], *, ended: bool) -> Iterator[str]:
    status = _fresh(row)
    for event in events:
        if event.kind is EventKind.TASK_STARTED and event.attempt <= status.attempt:
            yield f"try {event.attempt} was started after try {status.attempt}"
        if status.state.ended and event.kind is not EventKind.TASK_REOPENED:
            yield f"{event.kind} came after it was {status.state}"
        if status.state is State.PENDING and not _may_begin(event):
            yield f"{event.kind} came before it was started"
        if _ENDINGS.get(event.kind, status.state) is not status.state:
            yield f"{event.kind} came when it was {status.state}"
        if event.kind is EventKind.TASK_STARTED and status.state.ended:
            yield f"it was started when it was {status.state}"
        status = fold(status, event)
    if "CommandCenter has a defect" in row.explanation:
        yield f"it ended by our own fault: {row.explanation}"
    if ended and not status.state.ended:
        yield f"the run is over, and it is {status.state}"
    if row.reason is Reason.MERGED and not _in_order(events, row.attempt):
        kinds = [event.kind.value for event in events if event.attempt == row.attempt]
        yield f"it was merged without a step: {kinds}"


def _may_begin(event: Event) -> bool:
    return event.kind in (
        EventKind.TASK_STARTED,
        EventKind.TASK_SKIPPED,
        EventKind.TASK_CANCELLED,
        EventKind.TASK_REOPENED,
    )


def _in_order(events: Iterable[Event], attempt: int) -> bool:
    kinds = iter(event.kind for event in events if event.attempt == attempt)
    return all(needed in kinds for needed in _NEEDED)


def _judge_content(
    pull: Json,
    files: Sequence[Json],
    task: Json,
    planned: Task,
    targets: frozenset[str],
    *,
    merged: bool,
) -> Iterator[Violation]:
    number = pull["number"]
    wanted = {
        "title": (pull["title"], proposal_title(planned)),
        "head branch": (pull["head"]["ref"], task["branch_name"]),
        "head commit": ([pull["head"]["sha"]], task["commits"]),
    }
    if pull["base"]["ref"] not in targets:
        yield _about(number, f"its target is {pull['base']['ref']}, not {sorted(targets)}")
    if task["status"] != State.COMPLETED:
        # A later try may have made a commit that was never proposed.
        wanted.pop("head commit")
    for name, (found, expected) in wanted.items():
        if found != expected:
            yield _about(number, f"its {name} is {found}, not {expected}")
    body = pull["body"] or ""
    for words in (task["task_title"] if not planned.instructions else "", "### Checks", "Run `"):
        if words not in body:
            yield _about(number, f"its body does not say {words!r}")
    if foreign := _undeclared((each["filename"] for each in files), planned):
        yield _about(number, f"it changes {sorted(foreign)}, which its task does not name")
    if not files and task["reason"] == Reason.MERGED:
        yield _about(number, "it changes no file")
    yield from _judge_end(pull, task, merged)


def _judge_end(pull: Json, task: Json, merged: bool) -> Iterator[Violation]:
    number = pull["number"]
    if pull["merged"] != merged:
        yield _about(number, f"merged is {pull['merged']}, and on its target {merged}")
    is_ended = task["status"] not in (State.PENDING, State.IN_PROGRESS)
    if is_ended and pull["state"] != "closed":
        yield Violation(Criterion.LEFTOVERS, f"pull request {number} is left open")


def _about(number: int, words: str) -> Violation:
    return Violation(Criterion.PROPOSAL, f"pull request {number}: {words}")


async def judge_repository(git: Git, repository: Path) -> list[Violation]:
    """Check a repository's objects, and that no lock of git's is left in it."""
    done = await git.run(
        "fsck", "--full", "--strict", "--no-dangling", git_dir=repository, check=False
    )
    found = []
    if done.exit_code:
        words = f"{done.text} {done.complaint}"[:600]
        found.append(Violation(Criterion.FSCK, f"{repository}: {words}"))
    for lock in repository.rglob("*.lock"):
        found.append(Violation(Criterion.LEFTOVERS, f"the lock {lock} is left"))
    return found


async def judge_stopped(installation: Installation) -> tuple[Violation, ...]:
    """Return what a service that has stopped, with all its runs over, left behind."""
    found = []
    announced = installation.data_dir / "service.json"
    for path in (announced, *_places(installation, "ws", "scratch")):
        if path.exists():
            found.append(f"{path} is left: {_text(path / 'key')}")
    for name, processes in inhabitants(installation).items():
        found.append(f"the processes {sorted(processes)} of workspace {name} are left")
    mounts = Path("/proc/self/mountinfo").read_text()
    if str(installation.data_dir) in mounts:
        found.append("a mount is left")
    found += [f"nothing explains {path}" for path in _unexplained(installation)]
    git = Git()
    violations = [Violation(Criterion.LEFTOVERS, each) for each in found]
    for vault in _vaults(installation):
        violations += await judge_repository(git, vault)
        if kept := await _ask(git, vault, "for-each-ref", "refs/cc/keep"):
            violations.append(Violation(Criterion.LEFTOVERS, f"the vault still keeps {kept}"))
    return tuple(violations)


def _unexplained(installation: Installation) -> Iterator[Path]:
    """Give every path of the data folder, however deep, that neither ledger nor store explains."""
    root = installation.data_dir
    engine = open_engine(sqlite_url(root / "commandcenter.sqlite"))
    try:
        with Session(engine) as session:
            told = known(root, views.runs(session), ledger.held(session, *Kind))
    finally:
        engine.dispose()
    for at, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(at, name)
            if not explain(PurePosixPath(path.relative_to(root)), told):
                yield path


def _places(installation: Installation, *names: str) -> Iterator[Path]:
    """Give what lies in these folders of every kind of workspace."""
    for kind in ("workspaces", "containers", "dagger"):
        for name in names:
            yield from (installation.data_dir / kind / name).glob("*")


def inhabitants(installation: Installation) -> dict[str, set[int]]:
    """Return the processes of this machine in each workspace of an installation.

    A shim names its workspace as an argument; what it started has it among its mounts.
    """
    # A mount is named from the root of its file system.
    data_dir = installation.data_dir.resolve()
    top = next(folder for folder in data_dir.parents if folder.is_mount())
    end = re.escape(f"/{data_dir.relative_to(top)}/") + "(?:workspaces|containers|dagger)/ws/"
    place = re.compile(end + r"([0-9a-f]{12})\b")
    own = _namespace("self")
    found: dict[str, set[int]] = {}
    for process in filter(str.isdecimal, os.listdir("/proc")):
        told = _text(Path("/proc", process, "cmdline"))
        if _namespace(process) not in (own, ""):
            told += _text(Path("/proc", process, "mountinfo"))
        for workspace in place.findall(told):
            found.setdefault(workspace, set()).add(int(process))
    return found


def _namespace(process: str) -> str:
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")
    except OSError:
        return ""


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _vaults(installation: Installation, upstream: str = "") -> list[Path]:
    """Return the vaults of an installation: all, or that of one upstream."""
    digest = hashlib.sha256(upstream.encode()).hexdigest()[:12] if upstream else ""
    return sorted((installation.data_dir / "vaults").glob(f"*{digest}/repository.git"))


async def _ask(git: Git, repository: Path, *args: str) -> str:
    return (await git.run(*args, git_dir=repository)).text


def _batch_of(tasks: Sequence[Json]) -> Json:
    """Return what a batch must be said to be when its tasks are this."""
    return {"status": _overall(tasks)}


def _run_of(tasks: Sequence[Json], *, ended: bool) -> Json:
    """Return what a run must be said to be when its tasks are this."""
    left = [task for task in tasks if task["status"] in (State.PENDING, State.IN_PROGRESS)]
    # What a task was split into counts through that task.
    counted = [task for task in tasks if not task["parent"]]
    open_ = [task for task in counted if task in left]
    state = _overall(tasks)
    cleaning = not left and not ended
    return {
        "status": State.IN_PROGRESS if cleaning else state,
        "progress": (len(counted) - len(open_)) / len(counted),
        "current_batch": (left or tasks[-1:])[0]["batch_number"],
        "total_batches": len({task["batch_number"] for task in tasks}),
        "tasks_total": len(counted),
        **{
            f"tasks_{name}": sum(task["status"] == name for task in counted)
            for name in ("completed", "failed", "skipped", "cancelled")
        },
    }


def _undeclared(changed: Iterable[str], task: Task) -> set[str]:
    """Return the files that a task names neither themselves nor by a folder, if it names any."""
    declared = {use.path for use in task.files}
    folders = tuple(path for path in declared if path.endswith("/"))
    foreign = {path for path in changed if path and not path.startswith(folders)}
    return foreign - declared if declared else set()


def _overall(given: Sequence[Json]) -> State:
    """Return the state that the states of some tasks make together, as docs/SPEC.md has it."""
    going = (State.PENDING, State.IN_PROGRESS)
    ended = {task["task_number"] for task in given if task["status"] not in going}
    tasks = [task for task in given if not {task["parent"], task["task_number"]} <= ended]
    states = {task["status"] for task in tasks}
    good = [
        task["status"] == State.COMPLETED
        or task["reason"] in (Reason.DONE_IN_PLAN, Reason.LANDED_BEFORE)
        for task in tasks
    ]
    if State.PENDING in states and states <= {State.PENDING, State.SKIPPED}:
        return State.PENDING
    if states & {State.PENDING, State.IN_PROGRESS}:
        return State.IN_PROGRESS
    if State.CANCELLED in states:
        return State.CANCELLED
    return State.COMPLETED if all(good) else State.FAILED


def _telling(task: Json) -> Json:
    return {name: task[name] for name in ("status", "phase", "attempt", "commits", "branch_name")}


def client_of(url: str) -> httpx.AsyncClient:
    """Return a client of a service on this machine."""
    # Loading the machine's certificates, which nobody needs here, would take 60 ms.
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE_S, verify=bare)


async def _get(client: httpx.AsyncClient, path: str) -> Any:  # Any: JSON
    answer = await client.get(path)
    answer.raise_for_status()
    return answer.json()
