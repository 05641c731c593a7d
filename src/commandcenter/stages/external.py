"""What keeps a change from landing that is not ours to decide: the checks that the forge shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from commandcenter.core.external_checks import (
    Clear,
    Demand,
    Failed,
    Overdue,
    Rerun,
    Seen,
    Step,
    Wait,
    flaky_words,
    known,
    next_step,
    noted,
    waiting_words,
)
from commandcenter.core.forge import ExternalCheck, Forge, Protection
from commandcenter.core.run import Event, EventKind
from commandcenter.stages.equipment import Equipment
from commandcenter.stages.job import Job, Record
from commandcenter.store import facts, views

CHECKS_MAX = 100
"""Of a commit, so many are put on record."""
FAILED_MAX = 10
FIELD_CHARACTERS_MAX = 300


@dataclass(frozen=True)
class Gate:
    """Whether changes may get onto one branch, by what its forge demands."""

    equipment: Equipment
    protection: Protection

    @classmethod
    async def of(cls, equipment: Equipment, job: Job) -> Gate:
        """Ask what the forge demands of the branch that a change lands on."""
        forge = equipment.forge(job.run.upstream, job.run.target)
        return cls(equipment, await forge.protection(job.run.landed_on))

    async def held(self, job: Job) -> Record | None:
        """Return what keeps a change from landing; None when nothing does.

        It is {outcome: `external`, step: `wait`, `failed` or `overdue`} with {names}, and of what
        failed the {checks}. A check that fails for the first time is run again, if that can be.
        """
        seen, shown = await self._look(job)
        step = self._step(seen, shown)
        if isinstance(step, Rerun):
            step, seen = await self._run_again(job, step, seen, shown)
        else:
            seen = noted(seen, step)
        await self._keep(job, step, seen, shown)
        match step:
            case Failed(checks):
                return _held("failed", [check.name for check in checks], checks)
            case Wait(names):
                return _held("wait", names)
            case Overdue(names):
                wait_s = self.equipment.external_checks_wait_s
                return {**_held("overdue", names), "wait_s": wait_s}
            case _:
                return None

    async def is_free(self, job: Job) -> bool:
        """Say whether nothing keeps a change from landing, and do nothing about what does."""
        seen, shown = await self._look(job)
        step = self._step(seen, shown)
        if isinstance(step, Clear):
            await self._keep(job, step, noted(seen, step), shown)
        return isinstance(step, Clear)

    async def is_as_told(self, job: Job) -> bool:
        """Say whether a change still waits for just what its status says."""
        step = self._step(*await self._look(job))
        return isinstance(step, Wait) and waiting_words(step.names) == job.status.waiting_for

    async def _look(self, job: Job) -> tuple[Seen, Sequence[ExternalCheck]]:
        """Return what is known of a change's checks, and what is shown of them now."""
        head = job.attempt.head
        last = await self.equipment.database.transact(_last, job) if self._asks else None
        seen = known(last, head, self.equipment.now_ms())
        if not self._asks:
            return seen, ()
        return seen, await self._forge(job).external_checks(job.status.proposal, head)

    def _step(self, seen: Seen, shown: Sequence[ExternalCheck]) -> Step:
        return next_step(
            self.equipment.external_checks,
            self.protection,
            shown,
            seen,
            now_ms=self.equipment.now_ms(),
            wait_ms=int(self.equipment.external_checks_wait_s * 1000),
        )

    @property
    def _asks(self) -> bool:
        """Say whether it matters which checks are shown."""
        demand = self.equipment.external_checks
        some = bool(self.protection.required) or self.protection.some
        return demand is Demand.ALL or (demand is Demand.REQUIRED and some)

    async def _run_again(
        self, job: Job, step: Rerun, seen: Seen, shown: Sequence[ExternalCheck]
    ) -> tuple[Step, Seen]:
        """Have what failed for the first time run again; return what follows, and what is known."""
        asked = await self._forge(job).rerun(job.status.proposal, step.checks)
        seen = noted(seen, step, asked)
        refused = tuple(check for check in step.checks if check.name not in asked)
        return Failed(refused) if refused else self._step(seen, shown), seen

    def _forge(self, job: Job) -> Forge:
        return self.equipment.forge(job.run.upstream, job.run.target)

    async def _keep(self, job: Job, step: Step, seen: Seen, shown: Sequence[ExternalCheck]) -> None:
        """Put what is known on record, and name what is flaky; of a branch that asks something."""
        if not self._asks:
            return
        flaky = [flaky_words(name) for name in step.flaky] if isinstance(step, Clear) else []
        told = {**seen.to_json(), "checks": [_brief(check) for check in shown[:CHECKS_MAX]]}
        now_ms = self.equipment.now_ms()
        await self.equipment.database.transact(_record, job, told, flaky, now_ms)


def _held(step: str, names: Sequence[str], checks: Sequence[ExternalCheck] = ()) -> Record:
    told = [asdict(check) for check in checks[:FAILED_MAX]]
    return {"outcome": "external", "step": step, "names": list(names), "checks": told}


def _brief(check: ExternalCheck) -> Record:
    cut = {name: text[:FIELD_CHARACTERS_MAX] for name, text in asdict(check).items()}
    return {**cut, "state": check.state.value}


def _last(session: Session, job: Job) -> Seen | None:
    key = (job.run.id, job.task.id, job.attempt.number)
    last = views.last_event_of(session, *key, EventKind.TASK_LOOKED_AT)
    return None if last is None else Seen.from_json(last.data)


def _record(session: Session, job: Job, data: Record, flaky: list[str], now_ms: int) -> None:
    facts.lock(session, job.run.id)
    key = (job.run.id, job.task.id, job.attempt.number)
    if views.read_task(session, job.run.id, job.task.id).state.ended:
        return
    last = views.last_event_of(session, *key, EventKind.TASK_LOOKED_AT)
    if last is None or last.data != data:
        facts.append(session, _event(job, EventKind.TASK_LOOKED_AT, data, now_ms))
    checked = views.last_event_of(session, *key, EventKind.TASK_CHECKED)
    if flaky and checked is not None:
        told = {**checked.data, "flaky": flaky}
        facts.append(session, _event(job, EventKind.TASK_CHECKED, told, now_ms))
    for words in flaky:
        facts.add_note(session, job.run.id, words)


def _event(job: Job, kind: EventKind, data: Record, now_ms: int) -> Event:
    return Event(job.run.id, kind, now_ms, job.task.id, job.attempt.number, data)
