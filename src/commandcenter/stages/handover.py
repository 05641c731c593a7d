"""Changes that the forge itself lands: by its merge call, or by its own merge queue."""

from __future__ import annotations

from sqlalchemy.orm import Session

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.forge import ProposalState
from commandcenter.core.handover import (
    Enqueue,
    Handed,
    Late,
    Removed,
    Stay,
    is_late,
    late_words,
    merge_words,
    queue_step,
)
from commandcenter.core.run import (
    WAITS_FOR_CHECKS,
    WAITS_FOR_QUEUE,
    Event,
    EventKind,
)
from commandcenter.stages.chain import Chain, strategy_of
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.external import Gate
from commandcenter.stages.job import Job, Record, load
from commandcenter.stages.proposal import changed, find
from commandcenter.store import facts, views
from commandcenter.system.vault import Vault


async def enqueue(equipment: Equipment, job: Job) -> Record:
    """See to it that a change is in the forge's own merge queue, and return what it waits for.

    Returns {outcome: `external`, step} with: `handed` {waiting_for}, `removed` {reason} when the
    forge took it out, `late` {explanation}, or `refused` {explanation}.
    """
    forge = equipment.forge(job.run.upstream, job.run.target)
    number, head = job.status.proposal, job.attempt.head
    handed = await equipment.database.transact(_last, job)
    queued = await forge.queued(number)
    now_ms = equipment.now_ms()
    match queue_step(handed, queued, head, now_ms=now_ms, wait_ms=_wait_ms(equipment)):
        case Enqueue():
            try:
                await forge.enqueue(number, head=head)
            except ForgeError as error:
                return await _not_merged(equipment, job, error)
            await equipment.database.transact(_record, job, Handed(head, now_ms, queued.removal))
            return _handed(WAITS_FOR_QUEUE)
        case Removed(reason):
            return {"outcome": "external", "step": "removed", "reason": reason}
        case Late():
            return _late(equipment, WAITS_FOR_QUEUE)
        case Stay():
            return _handed(WAITS_FOR_QUEUE)


async def merge(equipment: Equipment, vault: Vault, chain: Chain, pushed: str = "") -> Record:
    """Have the forge merge the one change of a chain, whose combined tree was checked.

    `pushed` is why the branch did not take a push. Returns `landed` {commit, landed_on}, or as
    `enqueue` does what it waits for or why it cannot be.
    """
    [link] = chain.links
    job = link.job
    if chain.checked(1):
        await chain.record(1, [1])
    forge = equipment.forge(job.run.upstream, job.run.target)
    try:
        strategy = strategy_of(equipment, job)
        commit = await forge.merge(job.status.proposal, head=job.attempt.head, strategy=strategy)
    except ForgeError as error:
        if pushed:
            error = ForgeError(f"{error.message}; pushed, {pushed}", refusal=error.refusal)
        return await _not_merged(equipment, job, error)
    await vault.fetch(job.run.landed_on)
    if await vault.tree_of(commit) != link.tree:
        words = (
            f"Task {job.task.id} was merged by the forge just after `{job.run.landed_on}` moved: "
            "no check of ours ran on that combination."
        )
        await equipment.database.transact(facts.add_note, job.run.id, words)
    return {"outcome": "landed", "commit": commit, "landed_on": job.run.landed_on}


async def still_waits(equipment: Equipment, run: str, task: str, number: int) -> bool:
    """Say whether nothing changed for a change that waits for what others do at the forge.

    Raises:
        ForgeError: it cannot be asked, and there is still time.
    """
    job = await load(equipment, run, task, number)
    try:
        return await _is_unchanged(equipment, job)
    except ForgeError:
        since_ms = await equipment.database.transact(_since, job)
        if equipment.now_ms() - since_ms < _wait_ms(equipment):
            raise
        return False  # to land it says what is wrong, and has an end


async def _is_unchanged(equipment: Equipment, job: Job) -> bool:
    forge = equipment.forge(job.run.upstream, job.run.target)
    proposal = await find(equipment, job, job.status.proposal)
    if proposal is None or proposal.state is not ProposalState.OPEN:
        return False
    if changed(job, proposal) and not job.approved:
        return False
    if job.status.waiting_for.startswith(WAITS_FOR_CHECKS):
        return await (await Gate.of(equipment, job)).is_as_told(job)
    if job.status.waiting_for != WAITS_FOR_QUEUE:
        return False  # whether it merges now, only trying tells
    handed = await equipment.database.transact(_last, job)
    queued = await forge.queued(job.status.proposal)
    times = {"now_ms": equipment.now_ms(), "wait_ms": _wait_ms(equipment)}
    return isinstance(queue_step(handed, queued, job.attempt.head, **times), Stay)


async def _not_merged(equipment: Equipment, job: Job, error: ForgeError) -> Record:
    """Return what follows from a refusal: what may pass is waited for, for a bounded time."""
    if error.refusal is Refusal.MOVED:
        explanation = f"its pull request shows another commit: {error.message}"
        return {"outcome": "refused", "explanation": explanation}
    if error.refusal is not Refusal.UNMERGEABLE:
        raise error
    head, now_ms = job.attempt.head, equipment.now_ms()
    handed = await equipment.database.transact(_last, job)
    if handed is None or handed.head != head:
        handed = Handed(head, now_ms)
        await equipment.database.transact(_record, job, handed)
    waiting_for = merge_words(error.message)
    if is_late(handed, now_ms, _wait_ms(equipment)):
        return _late(equipment, waiting_for)
    return _handed(waiting_for)


def _handed(waiting_for: str) -> Record:
    return {"outcome": "external", "step": "handed", "waiting_for": waiting_for}


def _late(equipment: Equipment, waiting_for: str) -> Record:
    explanation = late_words(waiting_for, equipment.external_checks_wait_s)
    return {"outcome": "refused", "explanation": explanation}


def _wait_ms(equipment: Equipment) -> int:
    return int(equipment.external_checks_wait_s * 1000)


def _since(session: Session, job: Job) -> int:
    key = (job.run.id, job.task.id, job.attempt.number)
    kinds = (EventKind.TASK_LOOKED_AT, EventKind.TASK_HANDED_OVER)
    found = [views.last_event_of(session, *key, kind) for kind in kinds]
    return max((each.data["since_ms"] for each in found if each), default=0)


def _last(session: Session, job: Job) -> Handed | None:
    key = (job.run.id, job.task.id, job.attempt.number)
    last = views.last_event_of(session, *key, EventKind.TASK_HANDED_OVER)
    return None if last is None else Handed.from_json(last.data)


def _record(session: Session, job: Job, handed: Handed) -> None:
    facts.lock(session, job.run.id)
    if views.read_task(session, job.run.id, job.task.id).state.ended:
        return
    key = (job.run.id, EventKind.TASK_HANDED_OVER, handed.since_ms, job.task.id, job.attempt.number)
    facts.append(session, Event(*key, handed.to_json()))
