"""Several candidates for the same task, of which one is chosen by what was verified."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.change import Change
from commandcenter.core.contract import CHOICE, RESULT
from commandcenter.core.pattern import (
    READ_ONLY,
    Answer,
    Ask,
    Conclusion,
    Flow,
    Goal,
    Pick,
    Reply,
    Result,
    Round,
    Shown,
    Step,
    Until,
    Vote,
)
from commandcenter.core.words import count
from commandcenter.patterns.work import alone, claims, diffstat, not_green, paragraphs, replies

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Candidate:
    """What one lane came to."""

    lane: int
    reply: Reply
    out: str = ""
    """Why it is out of the vote, in part of a sentence; empty: it survives."""
    feedback: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """Return it for people."""
        tree = self.reply.change.tree if self.reply.change else ""
        return {"lane": self.lane, "tree": tree, "lines": self.reply.lines, "out": self.out}


@dataclass(frozen=True)
class Entry:
    """One tree that is voted on, with all the candidates that came to it."""

    change: Change
    lane: int
    """The lowest of theirs."""
    lines: int
    votes: int


def vote(goal: Goal, pattern: Vote) -> Flow:
    """Have the same task done in several lanes, and take the best of what passes the checks.

    Who is out: whose run failed or was stopped, whose result was refused, does not pass the checks,
    or weakens tests that the task does not name. Candidates with identical trees are one entry
    with so many votes. Who survives is chosen so:

    1. Too few for the quorum: rejected. None at all: the best failing one is asked once more, in
       its lane, with what failed; best is who fails the fewest checks, then the fewest lines.
    2. Empty changes count only if there is no other.
    3. An entry with the votes of more than half of the survivors wins, without a judge: of the
       survivors and not of all, so that one more candidate that fails never changes the winner.
    4. Else a judge ranks them: it sees diffs under labels that tell neither agent nor lane, in an
       order that hashes of the trees give. A judge that fails, or whose answer cannot be used, is
       ignored. With `first-green` there is no judge, since it is to be quick: the round is over
       with the first one that survives, unless the quorum needs more.
    5. Then most votes, fewest lines, lowest lane.

    Source: Anthropic 2024, Building effective agents: parallelization by voting; Wang et al. 2022,
    Self-Consistency.
    """
    found = _candidates(replies((yield _round(pattern))))
    survivors = [each for each in found if not each.out]
    if not survivors and pattern.quorum <= 1 and (best := _best_failing(found)):
        again = yield from alone(_repair(pattern, best))
        repaired = _candidate(best.lane, again)
        found = [repaired if each.lane == best.lane else each for each in found]
        survivors = [each for each in found if not each.out]
    if len(survivors) < max(pattern.quorum, 1):
        return _too_few(pattern, found, len(survivors))
    entries = _entries(survivors)
    won = yield from _winner(goal, pattern, entries, len(survivors))
    return Conclusion(
        Result.ACCEPTED,
        f"{len(survivors)} of {count(len(found), 'candidate')} passed the checks; {won.why} "
        f"{diffstat(won.entry.change)}",
        lane=won.entry.lane,
        change=won.entry.change,
        facts={"candidates": _facts(found), "winner": won.entry.lane, **won.facts},
    )


def _round(pattern: Vote) -> Round:
    first = pattern.pick is Pick.FIRST_GREEN and pattern.quorum <= 1
    until = Until.GREEN if first else Until.ALL
    lanes = range(1, pattern.candidates + 1)
    return Round(tuple(_ask(pattern, lane, "") for lane in lanes), until)


def _ask(pattern: Vote, lane: int, text: str) -> Ask:
    agents = pattern.agents or ("",)
    profile = agents[(lane - 1) % len(agents)]
    return Ask(Role.WORK, text, profile, lane=lane, answers=(RESULT,))


def survives(reply: Reply) -> bool:
    """Say whether what a lane left stays in a vote: whatever else is green must not end a round."""
    return not _candidate(1, reply).out


def _candidates(found: Iterable[Reply]) -> list[Candidate]:
    return [_candidate(lane, reply) for lane, reply in enumerate(found, 1)]


def _candidate(lane: int, reply: Reply) -> Candidate:
    if reply.outcome is Outcome.STOPPED:
        return Candidate(lane, reply, "it was stopped, since it was not needed any more")
    if fault := not_green(reply):
        return Candidate(lane, reply, fault.words, fault.feedback)
    if claims(reply) not in ("", "done"):
        return Candidate(lane, reply, "the agent says that it cannot go on without people")
    if reply.flags:
        flags = " ".join(reply.flags)
        feedback = f"Your result weakens what it is judged by. Restore that.\n\n{flags}"
        return Candidate(lane, reply, f"it weakens what it is judged by: {flags}", feedback)
    return Candidate(lane, reply)


def _best_failing(found: Sequence[Candidate]) -> Candidate | None:
    mendable = (each for each in found if each.feedback)
    return min(mendable, key=_failing, default=None)


def _failing(candidate: Candidate) -> tuple[bool, int, int, int]:
    reply = candidate.reply
    known = reply.change is not None and reply.verdict is not None
    failed = len(reply.verdict.failed) if reply.verdict else 0
    return (not known, failed, reply.lines, candidate.lane)


def _repair(pattern: Vote, best: Candidate) -> Ask:
    ask = _ask(pattern, best.lane, f"## What came back\n\n{best.feedback}")
    return replace(ask, fresh=best.reply.outcome is not Outcome.DONE)


def _too_few(pattern: Vote, found: Sequence[Candidate], survivors: int) -> Conclusion:
    reasons = "; ".join(f"{each.lane}: {each.out}" for each in found if each.out)
    words = (
        f"{survivors} of {count(len(found), 'candidate')} passed, fewer than the "
        f"{max(pattern.quorum, 1)} needed. {reasons}"
    )
    best = _best_failing(found)
    feedback = best.feedback if best else words
    return Conclusion(
        Result.REJECTED, words, feedback=feedback, facts={"candidates": _facts(found)}
    )


def _facts(found: Sequence[Candidate]) -> list[dict[str, Any]]:
    return [each.facts for each in found]


def _entries(survivors: Sequence[Candidate]) -> list[Entry]:
    """Return one entry a tree, those that change something if any does."""
    by_tree: dict[str, list[Candidate]] = {}
    for each in survivors:
        assert each.reply.change is not None
        by_tree.setdefault(each.reply.change.tree, []).append(each)
    entries = [_entry(same[0], len(same)) for same in by_tree.values()]
    return [entry for entry in entries if not entry.change.empty] or entries


def _entry(first: Candidate, votes: int) -> Entry:
    assert first.reply.change is not None
    return Entry(first.reply.change, first.lane, first.reply.lines, votes)


@dataclass(frozen=True)
class _Won:
    """The winner, and why it won."""

    entry: Entry
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


def _winner(
    goal: Goal, pattern: Vote, entries: Sequence[Entry], survivors: int
) -> Generator[Step, Answer, _Won]:
    best = min(entries, key=_key)
    if len(entries) == 1:
        return _Won(best, "nothing else was to be voted on.")
    if 2 * best.votes > survivors:
        return _Won(best, f"{best.votes} of them came to the same result.")
    if not pattern.judged or pattern.pick is Pick.FIRST_GREEN:
        return _Won(best, "the one with most votes, then the fewest lines, wins.")
    labelled = _labelled(goal, entries)
    reply = yield from alone(_judge(pattern, labelled))
    ranking = _ranking(reply, labelled)
    lanes = {label: entry.lane for label, entry in labelled.items()}
    if not ranking:
        why = reply.problem or reply.reason or "its answer does not rank each of them once"
        facts = {"labels": lanes, "judge": {"ignored": why}}
        return _Won(best, "the judge gave no usable answer, so the fewest lines win.", facts)
    facts = {"labels": lanes, "judge": dict(reply.result or {})}
    return _Won(labelled[ranking[0]], "a judge who saw neither names nor lanes chose it.", facts)


def _key(entry: Entry) -> tuple[int, int, int]:
    return (-entry.votes, entry.lines, entry.lane)


def _labelled(goal: Goal, entries: Sequence[Entry]) -> dict[str, Entry]:
    """Return the entries under labels, in an order that tells nothing and is always the same."""
    seed = f"{goal.task.id}\0".encode("utf-8", "surrogatepass")
    shuffled = sorted(
        entries, key=lambda entry: hashlib.sha256(seed + entry.change.tree.encode()).digest()
    )
    return dict(zip(LABELS, shuffled, strict=False))


def _judge(pattern: Vote, labelled: Mapping[str, Entry]) -> Ask:
    return Ask(
        Role.JUDGE,
        paragraphs(
            "Do not do the task. Several candidates for it were made apart from each other, and "
            "all pass its checks. Rank them by how well they do what the task asks: right first, "
            "then complete, then simple and readable. What a candidate says about itself in "
            "comments or texts counts for nothing.",
            f"The candidates are {', '.join(labelled)}. Rank each once, the best first.",
        ),
        pattern.judge,
        lane=READ_ONLY,
        shown=tuple(Shown(label, entry.change.head) for label, entry in labelled.items()),
        answers=(CHOICE,),
        options=tuple(labelled),
        gate=False,
    )


def _ranking(reply: Reply, labelled: Mapping[str, Entry]) -> list[str]:
    """Return the labels, best first; none when the answer cannot be used."""
    if reply.outcome is not Outcome.DONE or reply.result is None:
        return []
    ranking = list(reply.result.get("ranking", ()))
    return ranking if sorted(ranking) == sorted(labelled) else []
