"""How the rounds of a pattern are laid out, in every format that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commandcenter.core.contract import LEDGER
from commandcenter.core.explanation import how_it_went, what_it_said
from commandcenter.core.rounds import Answered, Asked, Played, Round, Standing, Subtask
from commandcenter.core.words import count, price


@dataclass(frozen=True)
class Row:
    """One line: an agent that was asked, or a split into tasks."""

    number: int
    """Of its round."""
    who: str
    lane: str
    came: tuple[str, ...]
    """What came of it, in words."""
    change: str = ""
    checks: str = ""
    """Judgement of the checks."""
    failing: tuple[str, ...] = ()
    tokens: str = ""
    cost: str = ""


def rows(played: Played) -> Iterator[Row]:
    """Give the lines of all rounds."""
    for one in played.rounds:
        for asked in one.asks:
            yield _asked(one.number, asked, played.standing(one.number))
        if not one.asks:
            yield _split(one)


def _asked(number: int, asked: Asked, standing: Standing) -> Row:
    answered, went = asked.answered, tuple(how_it_went(asked, standing))
    who, lane = f"{asked.profile}, {asked.role}", str(asked.lane or "")
    runs = (*asked.uncounted, *((answered,) if answered else ()))
    if answered is None:
        return Row(number, who, lane, went, tokens=_tokens(runs), cost=_cost(runs))
    return Row(
        number,
        who,
        lane,
        (*went, *_refused(answered), *what_it_said(answered)),
        _change(answered),
        answered.checks,
        answered.failing,
        _tokens(runs),
        _cost(runs),
    )


def _refused(answered: Answered) -> Iterator[str]:
    if answered.refused:
        yield f"left what could not be taken: {answered.refused}"


def _change(answered: Answered) -> str:
    if not answered.commit:
        return ""
    size = f"{count(answered.files, 'file')}, +{answered.insertions} -{answered.deletions}"
    still = "" if answered.moved else ", as before"
    return f"{size}{still}" if answered.files else "none"


def _tokens(runs: Sequence[Answered]) -> str:
    asked, answered = sum(r.input_tokens for r in runs), sum(r.output_tokens for r in runs)
    return f"{asked:,} / {answered:,}" if asked or answered else ""


def _cost(runs: Sequence[Answered]) -> str:
    used = [each for each in runs if each.input_tokens or each.output_tokens or each.cost_usd]
    unpriced = sum(each.cost_usd is None for each in used)
    return price(sum(each.cost_usd or 0.0 for each in used), unpriced) if used else ""


def _split(one: Round) -> Row:
    joined = one.joined
    problem = [joined.problem] if joined and joined.problem else []
    return Row(
        one.number,
        f"split into {count(len(one.subtasks), 'task')}",
        "",
        (*([one.reason] if one.reason else []), *map(_ended, one.subtasks), *problem),
        checks=joined.checks if joined else "",
        failing=joined.failing if joined else (),
    )


def _ended(one: Subtask) -> str:
    how = {True: "has landed", False: "did not land", None: "has not been joined"}[one.landed]
    why = f", {one.words}" if one.words else ""
    return f"{one.id} {one.title}: {how}{why}"


def ending(played: Played) -> str:
    """Return how it ended, in a word."""
    if played.concluded:
        return played.concluded.result
    return "broken off" if played.broken_off else "goes on"


def ledger(played: Played) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the last ledger, name by name; nothing where there is none."""
    kept = _last_ledger(played)
    if kept is None:
        return ()
    facts, following = kept["facts"], kept.get("next")
    named = {
        "Given": facts["given"],
        "To look up": facts["lookup"],
        "To derive": facts["derive"],
        "Guessed": facts["guess"],
        "Plan": kept["plan"],
        "Satisfied": [_judged(kept["satisfied"])],
        "In circles": [_judged(kept["in_loop"])],
        "Progress": [_judged(kept["progress"])],
        "Next": [f"{following['profile']}: {following['instruction']}"] if following else [],
        "What went wrong": [kept["what_went_wrong"]] if kept.get("what_went_wrong") else [],
    }
    return tuple((name, tuple(map(str, lines))) for name, lines in named.items() if lines)


def _last_ledger(played: Played) -> Mapping[str, Any] | None:  # Any: JSON, valid `cc.ledger/1`
    if played.concluded and played.concluded.facts.get("ledger"):
        concluded: Mapping[str, Any] = played.concluded.facts["ledger"]
        return concluded
    answers = [asked.answered for one in played.rounds for asked in one.asks if asked.answered]
    kept = [each.result for each in answers if each.result.get("schema") == LEDGER]
    return kept[-1] if kept else None


def _judged(answer: Mapping[str, Any]) -> str:  # Any: JSON
    said = "yes" if answer["answer"] else "no"
    return f"{said}: {answer['reason']}" if answer.get("reason") else said
