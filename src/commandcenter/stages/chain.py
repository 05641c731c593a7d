"""A chain of changes on the target's tip, and what the checks say of its prefixes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from commandcenter.core.check import Verdict, judge
from commandcenter.core.errors import ForgeError
from commandcenter.core.markdown import code
from commandcenter.core.merge_queue import (
    Again,
    Eject,
    Land,
    Look,
    Probe,
    Strategy,
    flaky,
    next_move,
)
from commandcenter.core.publication import (
    branch_name,
    merge_message,
    rebase_message,
    squash_message,
)
from commandcenter.core.run import Event, EventKind, State
from commandcenter.stages.equipment import BOT, Equipment
from commandcenter.stages.job import Job
from commandcenter.stages.verify import Planned, planned, run_checks
from commandcenter.store import facts, views
from commandcenter.system.vault import Conflict, Merged, Vault

log = logging.getLogger(__name__)

MANY = 8
"""From so many changes on, the vault is made ready for many git runs."""


@dataclass(frozen=True)
class Link:
    """One change, merged onto those before it."""

    job: Job
    commit: str
    tree: str

    @property
    def name(self) -> str:
        """Return the task as people name it."""
        return f"task {self.job.task.id}"


@dataclass
class Chain:
    """The links, oldest first, and every look at a prefix of them."""

    equipment: Equipment
    vault: Vault
    owner: Job
    """In whose workspaces the checks run."""
    tip: str
    links: tuple[Link, ...]
    _verdicts: dict[int, list[Verdict]] = field(default_factory=dict)
    _planned: dict[int, tuple[Planned, ...]] = field(default_factory=dict)

    async def probed(self) -> Land | Eject:
        """Run checks on prefixes until it is known what to do."""
        while True:
            match next_move(len(self.links), self._looks(), self.equipment.lanes):
                case Probe(prefixes):
                    await asyncio.gather(*map(self._look, prefixes))
                case Again(prefix):
                    await self._look(prefix, self._verdicts[prefix][-1].failed)
                case move:
                    return move

    def _looks(self) -> Mapping[int, Sequence[Look]]:
        return {
            prefix: [Look(verdict.failed) for verdict in verdicts]
            for prefix, verdicts in self._verdicts.items()
        }

    async def _look(self, prefix: int, again: Set[str] = frozenset()) -> None:
        link = self.links[prefix - 1]
        if prefix == 1 and link.tree == link.job.attempt.verified_tree:
            # It was checked when it was made, and the target has not changed what it is.
            verdict = judge(link.tree, ())
        else:
            verdict = await run_checks(
                self.equipment,
                self.vault,
                self.owner,
                await self._checks(prefix),
                link.commit,
                self.tip,
                recall=True,
                again=again,
            )
        self._verdicts.setdefault(prefix, []).append(verdict)

    async def _checks(self, prefix: int) -> tuple[Planned, ...]:
        """Return the checks of all tasks of a prefix, each one once."""
        if prefix not in self._planned:
            files = await self._files(self.tip, self.links[prefix - 1].commit)
            found: dict[tuple[str, str], Planned] = {}
            for link in self.links[:prefix]:
                for each in planned(link.job, self.equipment.checks, files):
                    key = (each.check.name, each.check.command)
                    if each.own or key not in found:
                        found[key] = each
            self._planned[prefix] = tuple(found.values())
        return self._planned[prefix]

    async def _files(self, old: str, new: str) -> tuple[str, ...]:
        # Only the checks of the project ask which files changed.
        return await self.vault.changed_files(old, new) if self.equipment.checks else ()

    # What is told

    async def record(self, prefix: int, positions: Sequence[int]) -> None:
        """Put what was found on a prefix's tree on record for these links of it.

        Which checks are flaky is told once on the pull requests that this is about.
        """
        verdicts = [(self.links[n - 1].job, await self._share(prefix, n)) for n in positions]
        words = list(self.flaky_words())
        now_ms = self.equipment.now_ms()
        told = await self.equipment.database.transact(_record, now_ms, verdicts, words)
        for said, links in self._flaky().items():
            for job in [
                link.job for link in links if (link.job.run.id, link.job.task.id, said) in told
            ]:
                await _say(self.equipment, job, said)

    async def _share(self, prefix: int, position: int) -> Verdict:
        """Return what of a prefix's verdict is about one task: its own checks, and what failed."""
        link, verdict = self.links[position - 1], self._verdicts[prefix][-1]
        before = self.links[position - 2].commit if position > 1 else self.tip
        files = await self._files(before, link.commit)
        names = {each.check.name for each in planned(link.job, self.equipment.checks, files)}
        names |= verdict.failed
        return judge(verdict.tree, [each for each in verdict.receipts if each.check in names])

    def checked(self, prefix: int) -> bool:
        """Say whether checks ran on a prefix for the queue."""
        link = self.links[prefix - 1]
        return prefix > 1 or link.tree != link.job.attempt.verified_tree

    async def against(self, position: int) -> Verdict:
        """Return the verdict that takes out the link at a position."""
        return await self._share(position, position)

    def flaky_words(self) -> Iterator[str]:
        """Name each check that failed and then passed on the same tree, and whose it is."""
        yield from self._flaky()

    def _flaky(self) -> dict[str, list[Link]]:
        """Return in words what is flaky, with the links whose check it is.

        A check of nobody's own is told where it was seen: at the end of that prefix.
        """
        seen = {check: prefix for prefix, looks in self._looks().items() for check in flaky(looks)}
        told = {}
        for check, prefix in sorted(seen.items()):
            owners = [link for link in self.links if check in link.job.task.commands]
            whose = f" of {', '.join(link.name for link in owners)}" if owners else ""
            said = (
                f"The check {code(check)}{whose} is flaky: it failed, then passed on the same tree."
            )
            told[said] = owners or [self.links[prefix - 1]]
        return told


async def build(
    equipment: Equipment, vault: Vault, owner: Job, tip: str, jobs: Sequence[Job]
) -> tuple[Chain, Conflict | None]:
    """Merge changes that the tip does not contain onto it, one after the other.

    Those that conflict are left out. Returns the owner's conflict as well, if nothing was before it
    in the chain.
    """
    if len(jobs) >= MANY:
        await vault.index_packs()
    links: list[Link] = []
    alone: Conflict | None = None
    for job in jobs:
        onto = links[-1].commit if links else tip
        # None started from what was merged just now.
        joined = await _joined(equipment, vault, onto, job, apart=bool(links))
        match joined:
            case Merged(commit, tree):
                links.append(Link(job, commit, tree))
            case Conflict() if job is owner and not links:
                alone = joined
            case Conflict():
                pass  # against what lands before it: told at its own turn
    return Chain(equipment, vault, owner, tip, tuple(links)), alone


def strategy_of(equipment: Equipment, job: Job) -> Strategy:
    """Return how a change lands."""
    return job.plan.defaults.strategy or equipment.strategy


async def _joined(
    equipment: Equipment, vault: Vault, onto: str, job: Job, *, apart: bool
) -> Merged | Conflict:
    """Return what the change makes of a commit; `apart` says that it is none of its ancestors'."""
    run, task, attempt, proposal = job.run.id, job.task, job.attempt, job.status.proposal
    match strategy_of(equipment, job):
        case Strategy.MERGE:
            message = merge_message(task, proposal, branch_name(run, task))
            return await vault.merge(
                onto,
                attempt.head,
                message=message,
                author=BOT,
                committer=BOT,
                date=job.date,
                apart=apart,
            )
        case Strategy.REBASE if onto == attempt.base:
            return Merged(attempt.head, attempt.tree, fast_forward=True)
        case Strategy.REBASE:
            message = rebase_message(run, task, attempt.number, attempt.head)
        case Strategy.SQUASH:
            message = squash_message(run, task, attempt.number, proposal, attempt.head)
    return await vault.replay(onto, attempt.head, message=message, committer=BOT, date=job.date)


def _record(
    session: Session, now_ms: int, verdicts: Sequence[tuple[Job, Verdict]], flaky_words: list[str]
) -> set[tuple[str, str, str]]:
    """Append what was found; return what is said of (run, task) for the first time."""
    told = set()
    for job, verdict in verdicts:
        facts.lock(session, job.run.id)
        key = (job.run.id, job.task.id)
        if views.read_task(session, *key).state is not State.IN_PROGRESS:
            continue
        before = _flaky_before(session, job) if flaky_words else set()
        told |= {(*key, said) for said in flaky_words if said not in before}
        data = {**verdict.to_json(), **({"flaky": flaky_words} if flaky_words else {})}
        number = job.attempt.number
        last = views.last_event_of(session, *key, number, EventKind.TASK_CHECKED)
        if last is None or last.data != data:
            event = Event(job.run.id, EventKind.TASK_CHECKED, now_ms, job.task.id, number, data)
            facts.append(session, event)
    return told


def _flaky_before(session: Session, job: Job) -> set[str]:
    events = views.events_of(session, job.run.id, [EventKind.TASK_CHECKED])
    own = [event for event in events if event.task == job.task.id]
    return {said for event in own for said in event.data.get("flaky", ())}


async def _say(equipment: Equipment, job: Job, words: str) -> None:
    """Tell a pull request something that the events and the run's notes have anyway."""
    forge = equipment.forge(job.run.upstream, job.run.target)
    try:
        await forge.comment(job.status.proposal, words)
    except ForgeError as error:
        log.warning("Pull request #%s was not told: %s (%s)", job.status.proposal, words, error)
