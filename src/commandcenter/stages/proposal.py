"""The pull request of a try as it is now, which people may have changed, ended or deleted."""

from __future__ import annotations

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.forge import Proposal, ProposalState
from commandcenter.core.publication import branch_name
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job, load


async def find(equipment: Equipment, job: Job, number: int) -> Proposal | None:
    """Return what the forge says of a pull request; None when it was deleted.

    Raises:
        ForgeError: the forge did not answer. It is not taken for deleted when the forge has it in
            its list, or says that it has no such repository.
    """
    forge = equipment.forge(job.run.upstream, job.run.target)
    try:
        return await forge.proposal(number)
    except ForgeError as error:
        if error.refusal is not Refusal.ABSENT:
            raise
        branch = branch_name(job.run.id, job.task)
        listed = await forge.proposals(head_branch=branch)
        if any(each.number == number for each in listed):
            raise
        return None


def changed(job: Job, proposal: Proposal) -> str:
    """Say in a clause how an open pull request differs from what is to land; empty: not at all."""
    if proposal.base_branch not in (job.run.target, job.run.landed_on):
        return f"its pull request was pointed at `{proposal.base_branch}`"
    if proposal.head != job.attempt.head:
        return f"its pull request shows a commit that is not CommandCenter's ({proposal.head[:12]})"
    return ""


def is_ready(job: Job, proposal: Proposal) -> bool:
    """Say whether a change may land: nobody has to approve it, and it is what people see of it.

    A person's approval is of a commit, whatever became of its pull request.
    """
    return job.approved or (job.may_land and not changed(job, proposal))


async def needs_a_turn(equipment: Equipment, run: str, task: str, number: int) -> bool:
    """Say whether a change that waits for a person has something to do in the merge queue."""
    job = await load(equipment, run, task, number)
    proposal = await find(equipment, job, job.status.proposal)
    if proposal is None or proposal.state is not ProposalState.OPEN:
        return True
    return is_ready(job, proposal)
