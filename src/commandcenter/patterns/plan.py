"""A planner splits the task into tasks of their own, and the task joins them (`plan`)."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.attempt import WORDS_MAX as LOG_MAX
from commandcenter.core.attempt import failing_words
from commandcenter.core.contract import SUBPLAN
from commandcenter.core.markdown import block, code
from commandcenter.core.pattern import (
    READ_ONLY,
    Answer,
    Ask,
    Child,
    Conclusion,
    Delegate,
    Flow,
    Goal,
    Joined,
    Orchestrate,
    Result,
    Step,
)
from commandcenter.core.plan import Diagnostic, Task
from commandcenter.core.plan.subplan import subplan
from commandcenter.core.words import count, one_line
from commandcenter.patterns.work import SUMMARY_MAX, alone, clipped, paragraphs

PLANNER_ROUNDS = 2
"""Times at most that a planner is asked for one split; the second one is told what was wrong."""
SPLITS = 2
"""The first one, and one more when it did not do."""

_ANSWER_SHOWN_MAX = 40_000


def orchestrate(goal: Goal, pattern: Orchestrate) -> Flow:
    """Split the task, have the parts done as tasks of their own, and check what they make together.

    A read-only planner's answer passes the same check as a plan that people write; what is wrong
    is told once, and then the task is rejected with the plan as it was. The parts land one by one.
    When all of them have, and the parent's own checks pass on the result, it is accepted: there is
    no change besides theirs. Else the planner is told once what became of them, and splits what
    is left; what landed stays.

    Source: Anthropic 2024, Building effective agents: orchestrator-workers.
    """
    history = _History()
    for _ in range(SPLITS):
        split = yield from _split(goal, pattern, history)
        if isinstance(split, Conclusion):
            return split
        answer = yield split
        assert isinstance(answer, Joined), "a delegation is answered by what came of it"
        history.add(split, answer)
        if end := _accepted(history, answer):
            return end
        if answer.problem:
            words = f"Nothing was delegated: {one_line(answer.problem)}"
            return Conclusion(Result.REJECTED, words, feedback=words, facts=history.facts)
    told = history.told()
    words = f"After {count(SPLITS, 'split')}, {_wrong(history.joined[-1])}."
    return Conclusion(Result.REJECTED, words, feedback=told, facts=history.facts)


@dataclass
class _History:
    """What was delegated, and what came of it."""

    splits: list[Delegate] = field(default_factory=list)
    joined: list[Joined] = field(default_factory=list)

    def add(self, split: Delegate, joined: Joined) -> None:
        self.splits.append(split)
        self.joined.append(joined)

    @property
    def delegated(self) -> int:
        """Return how many tasks were delegated to."""
        return sum(len(split.tasks) for split in self.splits)

    @property
    def commit(self) -> str:
        """Return the target's tip as far as it is known, with what landed."""
        return self.joined[-1].commit if self.joined else ""

    @property
    def facts(self) -> dict[str, Any]:
        """Return it for people."""
        return {
            "splits": [
                {"tasks": [task.id for task in split.tasks], "rationale": split.reason}
                for split in self.splits
            ],
            "children": [
                {"id": child.id, "satisfied": child.satisfied, "words": child.words}
                for joined in self.joined
                for child in joined.children
            ],
        }

    def told(self) -> str:
        """Return what became of the splits before, for the planner."""
        if not self.joined:
            return ""
        last = self.joined[-1]
        lines = "\n".join(_line(child) for joined in self.joined for child in joined.children)
        log = failing_words(last.verdict)[-LOG_MAX:] if last.verdict else ""
        checks = f"The checks of the whole task did not pass then:\n\n{block(log)}" if log else ""
        return paragraphs(
            f"## What became of your last split\n\n{_capital(_wrong(last))}.",
            lines,
            checks,
        )


def _line(child: Child) -> str:
    title = f"{code(child.id)} {one_line(child.title)}"
    if child.satisfied:
        return f"- {title}: landed"
    return f"- {title}: failed. {clipped(one_line(child.words), SUMMARY_MAX)}"


def _accepted(history: _History, answer: Joined) -> Conclusion | None:
    landed = bool(answer.children) and all(child.satisfied for child in answer.children)
    passed = answer.verdict is not None and answer.verdict.mergeable
    if answer.problem or not landed or not passed:
        return None
    words = (
        f"{count(len(answer.children), 'task')} landed in its place, and its checks pass on that."
    )
    return Conclusion(Result.ACCEPTED, words, facts=history.facts)


def _wrong(joined: Joined) -> str:
    failed = [code(child.id) for child in joined.children if not child.satisfied]
    if failed:
        return f"{', '.join(failed)} did not land"
    if joined.verdict is None:
        return "the checks of the whole task were not run"
    names = ", ".join(map(code, sorted(joined.verdict.failed)))
    return f"its tasks have landed, but checks of the whole task did not pass: {names}"


def _split(
    goal: Goal, pattern: Orchestrate, history: _History
) -> Generator[Step, Answer, Delegate | Conclusion]:
    """Return the tasks that the planner splits it into, or why there are none."""
    wrong = last = ""
    for _ in range(PLANNER_ROUNDS):
        reply = yield from alone(_ask(pattern, history, wrong, last))
        if reply.outcome is not Outcome.DONE or reply.result is None:
            wrong = reply.problem or f"The planner gave no answer: {reply.reason or 'it failed'}."
            continue
        before = goal.delegated + history.delegated
        found = subplan(reply.result, goal.plan, goal.task, before, pattern.tasks_max)
        tasks = tuple(each for each in found if isinstance(each, Task))
        if tasks:
            return Delegate(tasks, clipped(str(reply.result.get("rationale", "")), SUMMARY_MAX))
        wrong = _faults([each for each in found if isinstance(each, Diagnostic)])
        last = json.dumps(dict(reply.result), indent=1, ensure_ascii=False)
    words = f"No split could be used, asked {PLANNER_ROUNDS} times. {one_line(wrong)}"
    return Conclusion(Result.REJECTED, words, feedback=wrong, facts=history.facts)


def _faults(found: Sequence[Diagnostic]) -> str:
    return "\n".join(
        f"- {each.code}: {each.message}{f' ({each.hint})' if each.hint else ''}" for each in found
    )


def _ask(pattern: Orchestrate, history: _History, wrong: str, last: str) -> Ask:
    """Ask for a split; a planner begins a new conversation, so that it is told its last answer."""
    return Ask(
        Role.PLAN,
        paragraphs(
            "Do not do the task. Split it into tasks that agents do apart from each other, each in "
            f"its own checkout: at least 1, at most {pattern.tasks_max}. Read what you need in "
            "the current folder first.",
            "Each task needs an id of your own, a title, and instructions that stand alone: who "
            "does it sees neither this text nor the other tasks. Name in `files` all that it "
            "changes, inside of the files of the task above if it names any; tasks without a file "
            "in common run side by side. Name in `depends_on` ids of tasks of this split that must "
            "land before. Give commands in `verification` that pass as soon as that one task is "
            "done. When all have landed, the checks of the task above run on the result.",
            history.told(),
            f"## What was wrong with your last answer\n\n{wrong}" if wrong else "",
            block(clipped(last, _ANSWER_SHOWN_MAX), "json") if last else "",
        ),
        pattern.planner,
        lane=READ_ONLY,
        commit=history.commit,
        answers=(SUBPLAN,),
        gate=False,
    )


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
