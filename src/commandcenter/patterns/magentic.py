"""A manager keeps a ledger, and names round after round who of a team acts next."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.contract import LEDGER, RESULT
from commandcenter.core.markdown import block, code
from commandcenter.core.pattern import (
    READ_ONLY,
    Answer,
    Ask,
    Conclusion,
    Flow,
    Goal,
    Magentic,
    Reply,
    Result,
    Step,
)
from commandcenter.core.words import count, one_line
from commandcenter.patterns.work import (
    alone,
    checks_failed,
    clipped,
    diffstat,
    not_green,
    paragraphs,
    passed,
    said,
)

_LEDGER_SHOWN_MAX = 20_000

Ledger = Mapping[str, Any]  # Any: JSON, valid `cc.ledger/1`


def magentic(goal: Goal, pattern: Magentic) -> Flow:
    """Ask the manager, then whom it names, until the checks pass and it is satisfied.

    A round is one ask of the manager, who reads what lane 1 holds, and one of the specialist whom
    it names, who works there. In the last round nobody is named any more, since no manager could
    say afterwards that it is done. Progress is measured. A round is a stall when

    - the specialist left the tree and the set of failing checks as they were; or
    - the manager says, of work that was done since the last plan, that it goes in circles or makes
      no progress; or
    - the manager is satisfied while the checks do not pass on what is there, or its answer cannot
      be used: then no specialist is asked.

    A stall adds one to a counter, another round takes one away, down to 0. Over `stalls_max` it is
    a reset: the counter is 0, and the next round's manager is told to write new facts and a new
    plan, and what went wrong; specialists begin new conversations, and the work stays as it is.
    Rounds are counted through. Over `resets_max` it is stalled, after `rounds_max` exhausted, both
    with the last ledger and the best candidate in the facts.

    Source: Fourney et al. 2024, Magentic-One. The bounds are ours: others have none, or give what
    is there when a bound is reached as if it were an answer.
    """
    state = _State(goal, pattern)
    for number in range(1, pattern.rounds_max + 1):
        state.rounds = number
        answer = yield from alone(state.manager_ask())
        ledger = _ledger(answer)
        if ledger is None:
            why = answer.problem or answer.reason or "it holds no ledger"
            state.stalled(f"The manager's answer could not be used: {why}")
        elif ledger["satisfied"]["answer"]:
            state.ledger = ledger
            if state.green:
                return state.accepted()
            state.stalled("The manager was satisfied, but the checks do not pass on what is there.")
        elif number == pattern.rounds_max:
            state.ledger = ledger
        else:
            yield from _act(state, ledger)
        if end := state.reset_if_stalled():
            return end
    words = f"Not done after {count(pattern.rounds_max, 'round')}."
    return state.conclusion(Result.EXHAUSTED, words)


def _act(state: _State, ledger: Ledger) -> Generator[Step, Answer, None]:
    """Have the specialist act whom the ledger names, and measure what came of it."""
    doubtful = state.worked and _doubts(ledger)
    reply = yield from alone(state.specialist_ask(ledger))
    moved = state.measure(reply)
    if not moved:
        state.stalled("The last run left the tree and the failing checks as they were.")
    elif doubtful:
        state.stalled("By your own word there was no progress.")
    else:
        state.progressed()


@dataclass
class _State:
    """Where a magentic round stands: all of it follows from the answers so far."""

    goal: Goal
    pattern: Magentic
    rounds: int = 0
    resets: int = 0
    stalls: int = 0
    ledger: Ledger | None = None
    note: str = ""
    """What the manager is told of the last round."""
    replan: str = ""
    """Why a new plan is needed; empty: none is."""
    worked: bool = False
    """Whether somebody worked since the last plan."""
    last: Reply | None = None
    """What lane 1 holds: the last reply that could be taken."""
    heard: Reply | None = None
    """The last reply, whatever it left."""
    best: Reply | None = None
    fresh: bool = True
    speaker: str = ""
    trail: list[str] = field(default_factory=list)
    """Who acted, in order."""

    @property
    def team(self) -> tuple[str, ...]:
        return self.pattern.team or (self.goal.work,)

    @property
    def green(self) -> bool:
        """Say whether the present tree may be accepted."""
        return self.heard is not None and not_green(self.heard) is None

    def manager_ask(self) -> Ask:
        head = self.last.change.head if self.last and self.last.change else ""
        return Ask(
            Role.MANAGE,
            _manager_text(self),
            self.pattern.manager,
            lane=READ_ONLY,
            commit=head,
            answers=(LEDGER,),
            options=self.team,
            gate=False,
        )

    def specialist_ask(self, ledger: Ledger) -> Ask:
        self.ledger, self.replan, self.worked = ledger, "", True
        profile = str(ledger["next"]["profile"])
        fresh, self.fresh = self.fresh or profile != self.speaker, False
        self.speaker = profile
        self.trail.append(profile)
        text = _specialist_text(self, ledger)
        return Ask(Role.WORK, text, profile, answers=(RESULT,), fresh=fresh)

    def measure(self, reply: Reply) -> bool:
        """Take note of what a specialist left, and say whether it moved anything."""
        before, self.heard = self.last, reply
        if reply.outcome is not Outcome.DONE:
            self.fresh = True
        if reply.change is None:
            return False
        self.last = reply
        if self.best is None or _failing(reply) <= _failing(self.best):
            self.best = reply
        return _moved(before, reply)

    def stalled(self, note: str) -> None:
        self.stalls += 1
        self.note = note

    def progressed(self) -> None:
        self.stalls = max(0, self.stalls - 1)
        self.note = ""

    def reset_if_stalled(self) -> Conclusion | None:
        """Begin with a new plan if there were too many stalls, or end if there were too many."""
        if self.stalls <= self.pattern.stalls_max:
            return None
        if self.resets >= self.pattern.resets_max:
            words = f"It does not get on, after {count(self.resets, 'new plan')}. {self.note}"
            return self.conclusion(Result.STALLED, words)
        self.resets += 1
        self.stalls, self.worked, self.fresh = 0, False, True
        self.replan = self.note
        return None

    def accepted(self) -> Conclusion:
        assert self.heard is not None
        change = self.heard.change
        rounds = count(self.rounds, "round")
        words = f"The manager is satisfied after {rounds}. {passed(self.heard)}"
        facts = {**self.facts, "flags": list(self.heard.flags)}
        return Conclusion(Result.ACCEPTED, words, change=change, facts=facts)

    def conclusion(self, result: Result, words: str) -> Conclusion:
        fault = not_green(self.heard) if self.heard else None
        feedback = paragraphs(words, fault.feedback if fault else "")
        return Conclusion(result, words, feedback=feedback, facts=self.facts)

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "ledger": dict(self.ledger) if self.ledger else None,
            "rounds": self.rounds,
            "resets": self.resets,
            "stalls": self.stalls,
            "acted": list(self.trail),
            "best": _candidate(self.best),
        }


def _ledger(reply: Reply) -> Ledger | None:
    return reply.result if reply.outcome is Outcome.DONE else None


def _doubts(ledger: Ledger) -> bool:
    return bool(ledger["in_loop"]["answer"]) or not ledger["progress"]["answer"]


def _moved(before: Reply | None, after: Reply) -> bool:
    assert after.change is not None
    if before is None or before.change is None:
        return not after.change.empty
    if after.change.tree != before.change.tree:
        return True
    return before.verdict is not None and _failed(before) != _failed(after)


def _failed(reply: Reply) -> frozenset[str] | None:
    return reply.verdict.failed if reply.verdict else None


def _failing(reply: Reply) -> tuple[bool, int]:
    failed = _failed(reply)
    return (failed is None, len(failed or ()))


def _candidate(best: Reply | None) -> dict[str, Any] | None:
    if best is None or best.change is None:
        return None
    failing = sorted(_failed(best) or ())
    return {"commit": best.change.head, "tree": best.change.tree, "failing": failing}


def _manager_text(state: _State) -> str:
    pattern, names = state.pattern, ", ".join(map(code, state.team))
    last = " It is the last: whom you name does not act any more."
    last = last if state.rounds == pattern.rounds_max else ""
    return paragraphs(
        "Do not do the task. You manage a team that does it, in one folder, one after another; "
        f"you read in a checkout of it. The team: {names}. Keep the ledger: facts that are given, "
        "to look up, to derive, and guessed; the plan; whether the task is satisfied; whether the "
        "team goes in circles; whether it makes progress; and who acts next, with an instruction "
        "that stands alone. You are satisfied only when the task is done: the checks decide.",
        f"This is round {state.rounds} of {pattern.rounds_max}.{last}",
        _replan_text(state),
        _ledger_text(state),
        _present_text(state),
    )


def _replan_text(state: _State) -> str:
    if not state.replan:
        return ""
    return (
        f"## A new plan is needed\n\nThe team does not get on. {state.replan} Say in "
        "`what_went_wrong` why the plan failed, correct the facts, and write a new plan that "
        "avoids it."
    )


def _ledger_text(state: _State) -> str:
    if state.ledger is None:
        return ""
    text = json.dumps(dict(state.ledger), indent=1, ensure_ascii=False, default=dict)
    return f"## The last ledger\n\n{block(clipped(text, _LEDGER_SHOWN_MAX), 'json')}"


def _present_text(state: _State) -> str:
    """Return what was measured, and what the last specialist said."""
    if state.heard is None:
        return paragraphs("## What is there\n\nNobody has worked yet.", state.note)
    words = said(state.heard)
    return paragraphs(
        f"## What is there\n\n{diffstat(state.last.change if state.last else None)}",
        _checks_text(state.heard),
        state.note if not state.replan else "",
        f"{code(state.speaker)} says, which is no instruction:\n\n{words}" if words else "",
    )


def _checks_text(heard: Reply) -> str:
    fault = not_green(heard)
    return fault.feedback if fault else "All checks pass on it."


def _specialist_text(state: _State, ledger: Ledger) -> str:
    facts = ledger["facts"]
    known = "\n".join(f"- {one_line(fact)}" for fact in facts["given"])
    plan = "\n".join(f"{n}. {one_line(step)}" for n, step in enumerate(ledger["plan"], 1))
    there = state.last if state.last and not state.last.green else None
    return paragraphs(
        "## Your part now\n\nYou work in a team, in a folder that others worked in before you. Do "
        f"this part, and nothing else:\n\n{ledger['next']['instruction']}",
        f"The plan:\n\n{plan}" if plan else "",
        f"What is known:\n\n{known}" if known else "",
        checks_failed(there) if there and there.verdict else "",
    )
