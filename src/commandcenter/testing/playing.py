"""Plays a pattern against a script of answers, without an agent, a workspace or an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from commandcenter.core.agent import Outcome
from commandcenter.core.change import Change
from commandcenter.core.check import Found, Receipt, judge
from commandcenter.core.pattern import (
    Answer,
    Ask,
    Child,
    Conclusion,
    Flow,
    Goal,
    Handoff,
    Joined,
    Reply,
    Round,
    Step,
)
from commandcenter.core.plan import Batch, FileOp, FileUse, Plan, Task

BASE = "base"


class Played(NamedTuple):
    """What a pattern asked, and how it ended; None: it is not over."""

    steps: list[Step]
    end: Conclusion | None

    @property
    def asks(self) -> list[Ask]:
        """Return all that was asked of agents, in order."""
        return [ask for step in self.steps if isinstance(step, Round) for ask in step.asks]


def play(flow: Flow, *answers: Answer | Reply) -> Played:
    """Return what a pattern asks when it is answered so, one reply standing for a round of one."""
    steps: list[Step] = []
    try:
        steps.append(next(flow))
        for answer in answers:
            steps.append(flow.send((answer,) if isinstance(answer, Reply) else answer))
    except StopIteration as end:
        assert len(steps) == len(answers), "the pattern ended before the script did"
        return Played(steps, end.value)
    return Played(steps, None)


def goal(
    task: Task | None = None, *, to: Sequence[str] = (), handoffs_max: int = 3, delegated: int = 0
) -> Goal:
    """Return a goal whose work role is played by `worker`, in a plan of one task."""
    task = task or Task("1.1", "Do it", "1")
    plan = Plan("A plan", batches=(Batch("1", "First", 1),), tasks=(task,))
    handoff = Handoff(tuple(to), handoffs_max)
    return Goal(plan, task, ("worker", "other"), "worker", handoff, delegated=delegated)


def task(*files: str, **labels: str) -> Task:
    """Return task 1.1 that declares these files and labels."""
    uses = tuple(FileUse(path, FileOp.MODIFY) for path in files)
    return Task("1.1", "Do it", "1", files=uses, labels=labels)


def left(
    tree: str,
    *,
    failing: Iterable[str] = (),
    passing: Iterable[str] = ("tests",),
    lines: int = 10,
    words: str = "",
    result: Mapping[str, Any] | None = None,  # Any: JSON
    flags: Sequence[str] = (),
    outcome: Outcome = Outcome.DONE,
    reason: str = "",
    problem: str = "",
) -> Reply:
    """Return what who works left: this tree, on which these checks failed and the others passed.

    The tree `base` is no change at all.
    """
    changed = tree != BASE
    files = (f"{tree}.py",) if changed else ()
    found = {**dict.fromkeys(passing, Found.PASSED), **dict.fromkeys(failing, Found.FAILED)}
    receipts = [
        Receipt(check, f"run {check}", tree, each, int(each is Found.FAILED), 0.1, "", f"{check}!")
        for check, each in found.items()
    ]
    return Reply(
        outcome,
        reason=reason,
        words=words,
        result=result,
        problem=problem,
        change=Change(BASE, f"head-{tree}", tree, files, lines if changed else 0),
        verdict=judge(tree, receipts),
        flags=tuple(flags),
    )


def answered(schema: str, **value: Any) -> Reply:  # Any: JSON
    """Return the valid answer of who only reads."""
    return Reply(Outcome.DONE, result={"schema": schema, **value})


def unusable(problem: str = "The answer holds no JSON object.") -> Reply:
    """Return what comes back when an answer could not be used, asked twice."""
    return Reply(Outcome.DONE, words="LGTM", problem=problem)


def broken(reason: str = "exit") -> Reply:
    """Return what comes back of a run that failed and left nothing."""
    return Reply(Outcome.FAILED, reason=reason, words="oh no")


def passed_on(tree: str, to: str, **more: Any) -> Reply:  # Any: as of `left`
    """Return what who works left, and passes on."""
    handoff = {"schema": "cc.handoff/1", "to": to, "reason": "yours", "summary": "half done"}
    return left(tree, result=handoff, **more)


def ledger(
    profile: str = "worker",
    *,
    satisfied: bool = False,
    in_loop: bool = False,
    progress: bool = True,
) -> Reply:
    """Return a manager's answer that names this profile."""
    return answered(
        "cc.ledger/1",
        facts={"given": ["It is Python"], "lookup": [], "derive": [], "guess": []},
        plan=["Write it", "Test it"],
        satisfied={"answer": satisfied, "reason": ""},
        in_loop={"answer": in_loop, "reason": ""},
        progress={"answer": progress, "reason": ""},
        next={"profile": profile, "instruction": "Write the parser"},
    )


def came_of(children: Mapping[str, bool], *, failing: Iterable[str] = ()) -> Joined:
    """Return what came of a delegation: which landed, and what failed on the result if all did."""
    family = tuple(
        Child(name, f"Task {name}", satisfied, "" if satisfied else f"{name} broke")
        for name, satisfied in children.items()
    )
    if not all(children.values()):
        return Joined(family, commit="tip")
    return Joined(family, left("joined", failing=failing).verdict, "tip")
