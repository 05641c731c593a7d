"""Land the merge queue's changes: chain them, check prefixes, and move the target by swap."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from commandcenter.core.check import Verdict
from commandcenter.core.conflict import Clash, excerpt
from commandcenter.core.errors import CommandCenterError, GitError
from commandcenter.core.forge import Proposal, ProposalState, Way
from commandcenter.core.ledger import Standing, standing
from commandcenter.core.markdown import code
from commandcenter.core.merge_queue import Eject, Land, batch_size
from commandcenter.core.plan import Priority
from commandcenter.core.publication import HEAD_TRAILER, branch_name, landing_branch
from commandcenter.stages import handover, holdings
from commandcenter.stages.chain import Chain, Link, build
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.external import Gate
from commandcenter.stages.job import Job, Record, load, read
from commandcenter.stages.plans import Plans
from commandcenter.stages.proposal import changed, find, is_ready
from commandcenter.stages.work import keep_captured
from commandcenter.store import views
from commandcenter.system.vault import Conflict, Landed, Moved, Refused, Touch, Vault

MOVES_MAX = 20
"""Times that the target may move under one landing."""
HISTORY_MAX = 50
SUBJECT_MAX = 80
_RANKS = {priority: rank for rank, priority in enumerate(Priority)}
ASKED_AT_ONCE = 8
LISTED_FROM = 5
"""From so many pull requests on, all that are open are asked for at once, and not each."""
RECENT_MS = 2_000
"""What was seen of a pull request so short a time ago is taken to be so now."""
log = logging.getLogger(__name__)


class Pace:
    """What became of the last changes of each queue. Lost at a stop: a queue then starts anew."""

    def __init__(self) -> None:
        self._ended: dict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=HISTORY_MAX))

    def size(self, job: Job, most: int) -> int:
        """Return how many changes to take at once."""
        return batch_size(tuple(self._ended[_queue(job)]), most)

    def note(self, job: Job, landed: int, ejected: int) -> None:
        """Remember what became of some."""
        self._ended[_queue(job)].extend([True] * landed + [False] * ejected)


def _queue(job: Job) -> str:
    return f"{job.run.upstream}@{job.run.landed_on}"


async def land(equipment: Equipment, pace: Pace, run: str, task: str, number: int) -> Record:
    """Bring the next changes of a queue onto the branch that they land on, this one among them.

    Returns {outcome} of this one with: `landed` {commit, landed_on, tip?, moved_note?},
    `waiting` {why}, `external` (see `Gate.held` and `handover`), `closed` {explanation}, `conflict`
    (a `Clash`), `combined` (the verdict on the combined tree), `refused` {explanation}; or `later`,
    when others came first. {ends} are the outcomes of all whose turn it was, in order, each with
    {run, task, number}; {flaky} names checks in sentences.
    A second call finds what the first one landed.
    """
    job = await load(equipment, run, task, number)
    vault = await equipment.vaults.open(job.run.upstream)
    await keep_captured(equipment, vault, job)
    alone, pushed_in_vain = False, ""
    flaky: dict[str, None] = {}
    for _ in range(MOVES_MAX):
        tip = await vault.fetch(job.run.landed_on)
        gate = await Gate.of(equipment, job)
        if end := await _ended(gate, vault, job, tip):
            return end
        way = Way.MERGE if pushed_in_vain else gate.protection.way
        alone = alone or way is not Way.PUSH
        size = pace.size(job, equipment.changes_max)
        jobs = [job] if alone else await _batch(gate, vault, job, tip, size)
        chain, conflict = await build(equipment, vault, job, tip, jobs)
        if not chain.links and not conflict:
            # All that go before this one conflict, which is told at their own turns.
            jobs = [job]
            chain, conflict = await build(equipment, vault, job, tip, jobs)
        if conflict:
            return await _conflict(equipment, vault, job, tip, conflict)
        if way is Way.QUEUE:
            return await handover.enqueue(equipment, job)
        seen_ms = equipment.now_ms()
        move = await chain.probed()
        flaky |= dict.fromkeys(chain.flaky_words())
        called_off = await equipment.database.transact(_called_off, chain)
        if job.run.id in called_off:
            return {"outcome": "later", "ends": []}
        if called_off or await _changed_since(gate, chain, seen_ms):
            continue
        if way is Way.MERGE and isinstance(move, Land):
            landed = await handover.merge(equipment, vault, chain, pushed_in_vain)
            return {**landed, "flaky": list(flaky)}
        pushed = await _push(equipment, vault, chain, move)
        match pushed:
            case Landed():
                pace.note(job, _landing(move), isinstance(move, Eject))
                return {**await _told(chain, move), "flaky": list(flaky)}
            case Moved(None):
                return _refused(f"the branch `{job.run.landed_on}` was deleted")
            case Moved():
                pass
            case Refused() if jobs != [job]:
                # Each hears for itself what is wrong with it.
                alone = True
            case Refused(reason) if job.run.upstream == job.run.repository:
                return await _aside(equipment, vault, job, chain.links[0], reason)
            case Refused(reason) if gate.protection.merges:
                # What takes no push may take a merge by the forge: so are most branches protected.
                pushed_in_vain = reason
            case Refused(reason):
                return _refused(f"the upstream refused the push: {reason}")
    return _refused(f"`{job.run.landed_on}` moved {MOVES_MAX} times during the landing")


async def _ended(gate: Gate, vault: Vault, job: Job, tip: str) -> Record | None:
    """Return the outcome of a change that has one already, or waits for somebody."""
    equipment = gate.equipment
    if commit := await _found(vault, job, tip):
        await vault.secure_upstream()
        return _landed(commit, job.run.landed_on)
    proposal = await find(equipment, job, job.status.proposal)
    if proposal is None:
        return _closed("its pull request was deleted by a person")
    match proposal.state:
        case ProposalState.MERGED if proposal.base_branch in (job.run.target, job.run.landed_on):
            # By a person who squashed it or rebased it, so that its own commit is nowhere.
            return _landed(await vault.fetch(job.run.landed_on), job.run.landed_on)
        case ProposalState.MERGED:
            where = f"into `{proposal.base_branch}`, and not into `{job.run.landed_on}`"
            return _closed(f"its pull request was merged by a person {where}")
        case ProposalState.CLOSED:
            # By us, if a call that was cut off had kept the result on a branch of its own.
            return await _found_aside(equipment, vault, job) or await _closed_by(vault, job)
        case ProposalState.OPEN:
            return await _held(gate, job, proposal)


async def _held(gate: Gate, job: Job, proposal: Proposal) -> Record | None:
    """Return what a change waits for whose pull request is open; None: for nothing."""
    why = "" if job.approved else changed(job, proposal)
    if why:
        return {"outcome": "waiting", "why": why}
    if gate.equipment.draft and proposal.draft:
        await gate.equipment.forge(job.run.upstream, job.run.target).ready(proposal.number)
    # A person is asked about what the others have nothing against.
    held = await gate.held(job)
    return held or (None if is_ready(job, proposal) else {"outcome": "waiting", "why": ""})


async def _closed_by(vault: Vault, job: Job) -> Record:
    if await vault.upstream_tip(branch_name(job.run.id, job.task)) is None:
        return _closed("its branch was deleted by a person, and so its pull request closed")
    return _closed("its pull request was closed by a person")


def _closed(explanation: str) -> Record:
    return {"outcome": "closed", "explanation": explanation}


async def _found(vault: Vault, job: Job, tip: str) -> str | None:
    """Return the commit by which a target's tip has the change already, if it has."""
    base, head = job.attempt.base, job.attempt.head
    if await vault.is_ancestor(head, tip):
        return head
    # Squashed or rebased, its own commit is nowhere.
    for commit in (await vault.named(HEAD_TRAILER, [base], tip)).get(head, ()):
        if await vault.is_replay(commit, head):
            return commit
    return None


async def _batch(gate: Gate, vault: Vault, job: Job, tip: str, size: int) -> list[Job]:
    """Return the first so many changes of the queue that can land now, in order."""
    equipment = gate.equipment
    queued = await equipment.database.transact(_queued, equipment.plans, job)
    # One that is in the target already was pushed before a kill: it is told at its own turn.
    others = [each for each in queued if _may_join(vault, each, job)]
    new = {job.attempt.head} | await _not_there(vault, others, tip)
    ordered = [job if _is(each, job) else each for each in queued if each.attempt.head in new]
    chosen: list[Job] = []
    for start in range(0, len(ordered), size):
        some = ordered[start : start + size]
        is_open = await _are_open(gate, some)
        chosen += [each for each, yes in zip(some, is_open, strict=True) if yes or each is job]
        if len(chosen) >= size:
            break
    return chosen[:size] or [job]


async def _changed_since(gate: Gate, chain: Chain, seen_ms: int) -> bool:
    """Say whether a person did something to a pull request while the checks ran."""
    if gate.equipment.now_ms() - seen_ms < RECENT_MS:
        return False
    return not all(await _are_open(gate, [each.job for each in chain.links]))


async def _not_there(vault: Vault, jobs: Sequence[Job], tip: str) -> frozenset[str]:
    """Return the heads of those changes that nothing in the tip claims to be."""
    if not jobs:
        return frozenset()
    new = await vault.outside([each.attempt.head for each in jobs], tip)
    named = await vault.named(HEAD_TRAILER, [each.attempt.base for each in jobs], tip)
    return new - named.keys()


def _may_join(vault: Vault, other: Job, job: Job) -> bool:
    lost = other.attempt.head in vault.lost
    return not _is(other, job) and other.may_land and not lost


def _queued(session: Session, plans: Plans, job: Job) -> list[Job]:
    run = job.run
    found = views.merging_tasks(session, run.upstream, run.target, run.landed_on)
    jobs = [read(session, plans, *each) for each in found]
    return sorted(jobs, key=lambda each: _RANKS[each.plan.priority_of(each.task)])


def _called_off(session: Session, chain: Chain) -> set[str]:
    """Return the runs that a person cancelled while the checks ran."""
    runs = {link.job.run.id for link in chain.links}
    return {run for run in runs if views.cancel_requested(session, run)}


def _is(one: Job, other: Job) -> bool:
    return (one.run.id, one.task.id) == (other.run.id, other.task.id)


async def _are_open(gate: Gate, jobs: Sequence[Job]) -> Sequence[bool]:
    """Say of each pull request whether it is open, as it was, and held by nothing.

    If it is not, this is told at its own turn.
    """
    listed = await _listed(gate, jobs[0]) if len(jobs) >= LISTED_FROM else None
    turn = asyncio.Semaphore(ASKED_AT_ONCE)
    return await asyncio.gather(*(_is_open(gate, each, turn, listed) for each in jobs))


async def _listed(gate: Gate, job: Job) -> Mapping[int, Proposal] | None:
    """Return all open pull requests by number; None if the forge does not tell."""
    forge = gate.equipment.forge(job.run.upstream, job.run.target)
    try:
        return {each.number: each for each in await forge.proposals(only_open=True)}
    except CommandCenterError as error:
        log.warning("The open pull requests cannot be listed: %s", error)
        return None


async def _is_open(
    gate: Gate, job: Job, turn: asyncio.Semaphore, listed: Mapping[int, Proposal] | None
) -> bool:
    number = job.status.proposal
    try:
        async with turn:
            proposal = (
                await find(gate.equipment, job, number) if listed is None else listed.get(number)
            )
            is_open = proposal is not None and proposal.state is ProposalState.OPEN
            ready = is_open and proposal is not None and is_ready(job, proposal)
            return ready and await gate.is_free(job)
    except CommandCenterError as error:
        log.warning("Task %s of %s lands on its own: %s", job.task.id, job.run.id, error)
        return False


async def _conflict(
    equipment: Equipment, vault: Vault, job: Job, tip: str, conflict: Conflict
) -> Record:
    keys = ("CommandCenter-Run", "CommandCenter-Task")
    touches = await vault.touching(job.attempt.base, tip, conflict.files, keys)
    others = await equipment.database.transact(_named, job, touches)
    files = [(path, await vault.read_blob(conflict.tree, path)) for path in conflict.files]
    texts = {path: text.decode(errors="replace") for path, text in files if text}
    clash = Clash(conflict.files, _task_name(job.task.id, job.task.title), others, excerpt(texts))
    return {"outcome": "conflict", **clash.to_json()}


def _named(session: Session, job: Job, touches: Sequence[Touch]) -> tuple[str, ...]:
    """Return what landed as people name it: by its task, or by what its author wrote."""
    return tuple(dict.fromkeys(_name(session, job, touch) for touch in touches))


def _name(session: Session, job: Job, touch: Touch) -> str:
    run, task = touch.trailers
    title = views.task_title(session, run, task)
    if title is None:
        return f"commit {touch.commit[:12]} ({code(touch.subject[:SUBJECT_MAX])})"
    return _task_name(task, title) + ("" if run == job.run.id else f" of {run}")


def _task_name(task: str, title: str) -> str:
    return f"task {task} ({title})"


def _landing(move: Land | Eject) -> int:
    """Return how many links of the chain land."""
    return move.prefix if isinstance(move, Land) else move.position - 1


async def _push(
    equipment: Equipment, vault: Vault, chain: Chain, move: Land | Eject
) -> Landed | Moved | Refused:
    """Put what was found on record, and move the target to what lands, if anything does."""
    if isinstance(move, Eject):
        await chain.record(move.position, [move.position])
    landing = _landing(move)
    if not landing:
        return Landed()
    if chain.checked(landing):
        await chain.record(landing, range(1, landing + 1))
    job, commit = chain.owner, chain.links[landing - 1].commit
    if job.run.landed_on == landing_branch(job.run.id):
        await holdings.note(equipment, [holdings.result(job, commit)])
    return await vault.land(job.run.landed_on, chain.tip, commit)


async def _told(chain: Chain, move: Land | Eject) -> Record:
    landing = chain.links[: _landing(move)]
    ends = [
        _end(link, {**_landed(link.commit, link.job.run.landed_on), "tip": landing[-1].commit})
        for link in landing
    ]
    if isinstance(move, Eject):
        verdict = await chain.against(move.position)
        ends.append(_end(chain.links[move.position - 1], _combined(verdict)))
    own = (chain.owner.run.id, chain.owner.task.id)
    mine = next((end for end in ends if (end["run"], end["task"]) == own), {"outcome": "later"})
    return {**mine, "ends": ends}


def _end(link: Link, record: Record) -> Record:
    job = link.job
    return {**record, "run": job.run.id, "task": job.task.id, "number": job.attempt.number}


async def _aside(equipment: Equipment, vault: Vault, job: Job, link: Link, reason: str) -> Record:
    """Keep the result on a branch of its own, where the checked-out one cannot move along."""
    branch = landing_branch(job.run.id)
    if branch == job.run.landed_on:
        return _refused(f"the repository refused the push: {reason}")
    landed = await _found_aside(equipment, vault, job)
    if landed is None:
        problem = await _publish_aside(equipment, vault, job, link.commit)
        if problem:
            return _refused(problem)
        landed = _landed_aside(job, link.commit, f", since {reason}")
    forge = equipment.forge(job.run.upstream, job.run.target)
    await forge.comment(job.status.proposal, f"Landed on `{branch}`, since {reason}.")
    await forge.close(job.status.proposal)
    return landed


async def _publish_aside(equipment: Equipment, vault: Vault, job: Job, commit: str) -> str:
    """Move the result's branch forward to a commit, or make it; return why that cannot be."""
    branch = landing_branch(job.run.id)
    tip = await vault.upstream_tip(branch)
    holding = await holdings.branch_of(equipment, job.run.upstream, branch)
    if standing(holding, tip) is Standing.FOREIGN:
        return f"`{branch}`, which is to hold the result, is there and is not CommandCenter's"
    if tip is not None and not await vault.is_ancestor(tip, commit):
        return f"`{branch}` holds another result"
    await holdings.note(equipment, [holdings.result(job, commit)])
    try:
        await vault.publish(branch, commit, tip)
    except GitError as error:
        return f"the repository refused the push: {error.message}"
    return ""


async def _found_aside(equipment: Equipment, vault: Vault, job: Job) -> Record | None:
    """Return the landing aside that an earlier call was cut off from telling."""
    branch = landing_branch(job.run.id)
    holding = await holdings.branch_of(equipment, job.run.upstream, branch)
    if branch == job.run.landed_on or holding is None or not holding.held:
        return None
    if await vault.upstream_tip(branch) is None:
        return None
    # A person's commits on top of it change nothing about what it holds.
    tip = await vault.fetch(branch)
    return _landed_aside(job, tip) if await _found(vault, job, tip) else None


def _landed_aside(job: Job, commit: str, why: str = "") -> Record:
    branch = landing_branch(job.run.id)
    note = (
        f"`{job.run.target}` was left alone{why}. The result is on `{branch}`: git merge {branch}"
    )
    return {**_landed(commit, branch), "moved_note": note}


def _landed(commit: str, branch: str) -> Record:
    return {"outcome": "landed", "commit": commit, "landed_on": branch}


def _combined(verdict: Verdict) -> Record:
    return {"outcome": "combined", **verdict.to_json()}


def _refused(explanation: str) -> Record:
    return {"outcome": "refused", "explanation": explanation}
