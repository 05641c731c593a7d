"""How things are done: plain async functions, each safe to call twice."""

from __future__ import annotations

from sqlalchemy.orm import Session

from commandcenter.core.attempt import Bounds
from commandcenter.core.pattern import Single
from commandcenter.stages import handover, land, pattern, proposal, publish, settle, verify, work
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job, Record, read


class Stages:
    """The stages of a task, with their equipment. Every record is JSON that the flow stores."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self._pace = land.Pace()

    async def work(self, run: str, task: str, number: int) -> Record:
        """Provision, act, capture."""
        return await work.work(self._equipment, run, task, number)

    async def base(self, run: str, task: str, number: int) -> Record:
        """Choose what a pattern starts from."""
        return await pattern.base(self._equipment, run, task, number)

    async def answer(self, run: str, task: str, number: int, round_: int, position: int) -> Record:
        """Have one ask of a pattern answered, and measure what it left."""
        return await pattern.answer(self._equipment, run, task, number, round_, position)

    async def still(self, run: str, task: str, number: int, round_: int, position: int) -> Record:
        """End what runs for one ask of a pattern."""
        return await pattern.still(self._equipment, run, task, number, round_, position)

    async def join(self, run: str, task: str, number: int, round_: int) -> Record:
        """Check what the sub-tasks of a task have made of the target."""
        return await pattern.join(self._equipment, run, task, number, round_)

    def read(self, session: Session, run: str, task: str, number: int) -> Job:
        """Return a try as it stands in this transaction."""
        return read(session, self._equipment.plans, run, task, number)

    def plays(self, session: Session, run: str, task: str, number: int) -> bool:
        """Say whether a try is more than one agent's.

        One that goes on with an earlier one's work is not.
        """
        job = self.read(session, run, task, number)
        plain = isinstance(job.assignment.pattern, Single) and not job.assignment.handoff.to
        return not plain and not job.attempt.resume

    def bounds(
        self, session: Session, run: str, task: str, number: int, configured: Bounds
    ) -> Bounds:
        """Return the bounds of a task: those that are configured, but for what its plan says."""
        return self.read(session, run, task, number).assignment.bounds(configured)

    async def verify(self, run: str, task: str, number: int) -> Record:
        """Run the checks on the captured tree."""
        return await verify.verify(self._equipment, run, task, number)

    async def propose(self, run: str, task: str, number: int) -> Record:
        """Publish the branch and the pull request."""
        return await publish.propose(self._equipment, run, task, number)

    async def review(self, run: str, task: str, number: int) -> Record:
        """Have the pull request reviewed."""
        return await publish.review(self._equipment, run, task, number)

    async def land(self, run: str, task: str, number: int) -> Record:
        """Bring the change onto its target, with others of its queue."""
        return await land.land(self._equipment, self._pace, run, task, number)

    async def still_waits(self, run: str, task: str, number: int) -> bool:
        """Say whether nothing changed for a change that waits for what others do at the forge."""
        return await handover.still_waits(self._equipment, run, task, number)

    async def halt(self, run: str, task: str) -> None:
        """End what runs in the task's workspaces."""
        await settle.halt(self._equipment, run, task)

    async def settle(self, run: str, task: str, number: int) -> Record:
        """Clean up behind an ended task."""
        return await settle.settle(self._equipment, run, task, number)

    async def sweep(self) -> None:
        """Remove what a crash kept from being removed."""
        await settle.sweep(self._equipment)

    def shortage(self) -> str:
        """Say what a new try must wait for, because the disk is full; empty when it need not."""
        return self._equipment.shortage()

    async def needs_a_turn(self, run: str, task: str, number: int) -> bool:
        """Say whether a change that waits for a person has something to do in the merge queue."""
        return await proposal.needs_a_turn(self._equipment, run, task, number)
