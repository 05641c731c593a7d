"""State changes of a task, each to be called inside one transaction.

Every function appends the event, brings the rows up to date and enqueues what follows, so there
is nothing between "done" and "told".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from commandcenter.core.attempt import (
    AlreadyDone,
    Attempt,
    Bounds,
    GiveUp,
    Next,
    TryAgain,
)
from commandcenter.core.disk import WAITS_FOR_DISK
from commandcenter.core.run import Event, EventKind, Phase, Reason, State
from commandcenter.flow.engine import Engine
from commandcenter.store import asks, facts, views

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class TryKey:
    """Names one try of a task."""

    run: str
    task: str
    number: int

    def __str__(self) -> str:
        return f"{self.run}/{self.task}/a{self.number}"


@dataclass(frozen=True)
class Transitions:
    """The transitions, with what they need: the engine, a clock and the bounds of a task."""

    engine: Engine
    now_ms: Callable[[], int]
    bounds: Callable[[Session, TryKey], Bounds]
    """Those of a try's task."""

    async def transact(
        self,
        name: str,
        body: Callable[Concatenate[Session, TryKey, P], R],
        key: TryKey,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run `body` in one transaction that no other change of the run can interleave with."""

        def locked(session: Session) -> R:
            facts.lock(session, key.run)
            return body(session, key, *args, **kwargs)

        return await self.engine.transact(name, locked)

    def event(self, key: TryKey, kind: EventKind, data: Mapping[str, Any]) -> Event:
        """Return an event of this try, now."""
        return Event(key.run, kind, self.now_ms(), key.task, key.number, data)

    def schedule(self, session: Session, run: str, tasks: tuple[str, ...]) -> None:
        """Enqueue the first try, or the first after a retry, of tasks that can start."""
        for task in tasks:
            number = views.last_attempt(session, run, task) + 1
            facts.save_attempt(session, run, task, _first(session, run, task, number))
            self._enqueue_work(session, TryKey(run, task, number))

    def _enqueue_work(
        self, session: Session, key: TryKey, delay_s: float = 0.0, identity: str = ""
    ) -> None:
        ordinal = views.read_task(session, key.run, key.task).ordinal
        self.engine.enqueue(
            session,
            "work",
            identity or str(key),
            key.run,
            key.task,
            key.number,
            priority=ordinal + 1,
            delay_s=delay_s,
        )

    def begin(self, session: Session, key: TryKey, *, room: bool) -> bool:
        """Start a try, unless it is outdated or its run is to be cancelled; say whether.

        Without room on the disk it waits, and `resume` has it begun again.
        """
        if self.outdated(session, key):
            return False
        facts.mark_unsettled(session, key.run, key.task, True)
        if self.cancel_if_requested(session, key):
            return False
        status = views.read_task(session, key.run, key.task)
        if status.state is not State.IN_PROGRESS or status.attempt != key.number:
            facts.append(session, self.event(key, EventKind.TASK_STARTED, {}))
        elif room:  # it was begun, waited, and was resumed
            self.enter(session, key, Phase.PROVISIONING)
        if not room:
            self.enter(session, key, Phase.WAITING, WAITS_FOR_DISK)
        return room

    def resume(self, session: Session, key: TryKey) -> None:
        """Enqueue a try again that waited for room on the disk, if it still does."""
        status = views.read_task(session, key.run, key.task)
        if status.waiting_for == WAITS_FOR_DISK and not self.outdated(session, key):
            self.enter(session, key, Phase.WAITING, "a free worker")
            # It may wait and be woken again: the time tells one wake from the next.
            self._enqueue_work(session, key, identity=f"{key}/room/{self.now_ms()}")

    def cancel_if_requested(self, session: Session, key: TryKey) -> bool:
        """Cancel the task if its run is to be cancelled; say whether it is over."""
        if self.outdated(session, key):
            return True
        if not views.cancel_requested(session, key.run):
            return False
        facts.append(session, facts.cancelled(key.run, key.task, key.number, self.now_ms()))
        self._after_ending(session, key, satisfied=False)
        return True

    def enter(self, session: Session, key: TryKey, phase: Phase, waiting_for: str = "") -> None:
        """Note what is being done for the task now."""
        data = {"phase": phase.value, "waiting_for": waiting_for}
        facts.append(session, self.event(key, EventKind.TASK_PHASE, data))

    def follow(self, session: Session, key: TryKey, decision: Next) -> bool:
        """Carry out a decision; say whether the try goes on to its next stage."""
        match decision:
            case TryAgain():
                self._try_again(session, key, decision)
            case GiveUp(reason, explanation):
                self.fail(session, key, reason, explanation)
            case AlreadyDone():
                explanation = "the tree has it already; no pull request was needed"
                self.complete(session, key, Reason.ALREADY_DONE, explanation)
            case _:
                return True
        return False

    def _try_again(self, session: Session, key: TryKey, decision: TryAgain) -> None:
        attempt, why = decision.attempt, decision.why
        data = {"why": why, "next": attempt.number, "feedback": attempt.feedback[-2000:]}
        facts.append(session, self.event(key, EventKind.TASK_TRY_FAILED, data))
        if self.cancel_if_requested(session, key):
            return
        facts.save_attempt(session, key.run, key.task, attempt)
        following = TryKey(key.run, key.task, attempt.number)
        waiting_for = f"the model provider ({why})" if decision.delay_s else "its next try"
        self.enter(session, following, Phase.WAITING, waiting_for)
        self._enqueue_work(session, following, decision.delay_s)

    def fail(self, session: Session, key: TryKey, reason: Reason, explanation: str) -> None:
        """End the task as failed, unless it has ended."""
        if self.outdated(session, key):
            return
        data = {"reason": reason.value, "explanation": explanation}
        facts.append(session, self.event(key, EventKind.TASK_FAILED, data))
        self._after_ending(session, key, satisfied=False)

    def break_off(self, session: Session, key: TryKey, explanation: str) -> None:
        """End the task after its workflow broke: cancelled if that was asked for, else failed."""
        if not self.cancel_if_requested(session, key):
            self.fail(session, key, Reason.INFRASTRUCTURE, explanation)

    def cancel_waiting(self, session: Session, run: str) -> None:
        """Cancel the tasks whose next try has not begun: nothing runs that could be stopped."""
        for task in views.tasks_in(session, run, State.IN_PROGRESS):
            last = views.last_attempt(session, run, task)
            if last != views.read_task(session, run, task).attempt:
                self.cancel_if_requested(session, TryKey(run, task, last))

    def complete(
        self,
        session: Session,
        key: TryKey,
        reason: Reason,
        explanation: str,
        merge_commit: str = "",
        tip: str = "",
    ) -> None:
        """End the task as completed, and start what waited for it.

        `tip`: what the target was moved to, with the changes of other tasks after this one.
        """
        data = {
            "reason": reason.value,
            "explanation": explanation,
            "merge_commit": merge_commit,
            **({"tip": tip} if tip else {}),
        }
        facts.append(session, self.event(key, EventKind.TASK_COMPLETED, data))
        self._after_ending(session, key, satisfied=True)

    def _after_ending(self, session: Session, key: TryKey, *, satisfied: bool) -> None:
        if satisfied:
            self.schedule(session, key.run, facts.release(session, key.run, key.task))
        else:
            facts.skip_dependants(session, key.run, key.task, self.now_ms())
        self._join_parent(session, key)
        self.engine.enqueue(session, "settle", f"{key}/settle", key.run, key.task, key.number)

    def _join_parent(self, session: Session, key: TryKey) -> None:
        """Let the task go on that was split into this one and others, if they all have ended."""
        parent = views.read_task(session, key.run, key.task).parent
        if not parent or views.open_children(session, key.run, parent):
            return
        number = views.last_attempt(session, key.run, parent)
        above = TryKey(key.run, parent, number)
        if self.outdated(session, above):
            return
        round_ = len(asks.rounds(session, key.run, parent, number))
        self.enter(session, above, Phase.VERIFYING)
        self.engine.enqueue(
            session, "join", f"{above}/join/{round_}", key.run, parent, number, round_
        )

    def settled(self, session: Session, key: TryKey, problems: Sequence[str]) -> None:
        """Note that the task is cleaned up, and end the run if it was the last.

        `problems` name what could not be removed; people are told.
        """
        for problem in problems:
            facts.add_note(session, key.run, f"Task {key.task}: {problem}")
        facts.mark_unsettled(session, key.run, key.task, False)
        facts.end_run_if_over(session, key.run, self.now_ms())

    def update(self, session: Session, key: TryKey, /, **changes: str | int | float) -> Attempt:
        """Change what is known of this try, and return it."""
        attempt = views.read_attempt(session, key.run, key.task, key.number)
        changed = replace(attempt, **changes)  # type: ignore[arg-type]
        facts.save_attempt(session, key.run, key.task, changed)
        return changed

    def outdated(self, session: Session, key: TryKey) -> bool:
        """Say whether this try has nothing to say any more: the task ended, or is at a later one.

        A cancelled task may be retried while an older workflow of it still has a step to go.
        """
        ended = views.read_task(session, key.run, key.task).state.ended
        return ended or views.last_attempt(session, key.run, key.task) != key.number


def _first(session: Session, run: str, task: str, number: int) -> Attempt:
    if number == 1:
        return Attempt(1)
    last = views.read_attempt(session, run, task, number - 1)
    return Attempt(number, generation=last.generation + 1)
