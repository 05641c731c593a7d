"""What holds for every pattern, whatever its agents do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.contract import HANDOFF, Valid, parse
from commandcenter.core.pattern import (
    Answer,
    Ask,
    Chain,
    Conclusion,
    Delegate,
    Flow,
    Goal,
    Handoff,
    Joined,
    Magentic,
    Orchestrate,
    Pattern,
    Pick,
    Reply,
    Result,
    Round,
    Route,
    Rule,
    Single,
    Stage,
    Step,
    Vote,
)
from commandcenter.core.plan import Step as Box
from commandcenter.patterns import flow_of, replay, runs_max, subtasks_max
from commandcenter.testing.playing import (
    BASE,
    answered,
    broken,
    came_of,
    goal,
    ledger,
    left,
    passed_on,
    play,
    task,
    unusable,
)

NAMES = ("worker", "other", "third")
PROFILE = st.sampled_from(NAMES)
PATTERNS = st.one_of(
    st.just(Single()),
    st.builds(
        Chain,
        st.lists(st.builds(Stage, st.text(max_size=3), PROFILE), max_size=4).map(tuple),
        st.integers(1, 3),
    ),
    st.builds(
        Route,
        st.just(NAMES),
        st.lists(st.builds(Rule, st.sampled_from(["*.py", "docs/**", "a=b"]), PROFILE)).map(tuple),
        st.booleans(),
        st.sampled_from(["", "other"]),
    ),
    st.builds(
        Vote,
        st.integers(1, 7),
        st.lists(PROFILE, max_size=3).map(tuple),
        st.booleans(),
        st.just(""),
        st.sampled_from(Pick),
        st.integers(1, 3),
    ),
    st.builds(Orchestrate, st.integers(1, 4)),
    st.builds(
        Magentic,
        st.lists(PROFILE, max_size=3, unique=True).map(tuple),
        st.just("other"),
        st.integers(1, 8),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
)
GOALS = st.builds(
    lambda files, boxes, to, most: goal(
        replace(task(*files), steps=tuple(Box(f"Box {n}", done) for n, done in enumerate(boxes))),
        to=to,
        handoffs_max=most,
    ),
    st.lists(st.sampled_from(["a.py", "docs/a.md"]), max_size=2),
    st.lists(st.booleans(), max_size=4),
    st.lists(PROFILE, max_size=3, unique=True),
    st.integers(1, 3),
)


class Told(NamedTuple):
    """A whole life of a pattern."""

    steps: list[Step]
    answers: list[Answer]
    end: Conclusion

    @property
    def asks(self) -> list[Ask]:
        return [ask for step in self.steps if isinstance(step, Round) for ask in step.asks]

    @property
    def replies(self) -> list[Reply]:
        return [reply for each in self.answers if isinstance(each, tuple) for reply in each]


def live(flow: Flow, chance: Random, most: int) -> Told:
    """Play a pattern to its end with agents that do anything."""
    steps: list[Step] = []
    answers: list[Answer] = []
    try:
        steps.append(next(flow))
        while len(steps) <= most:
            answers.append(any_answer(steps[-1], chance))
            steps.append(flow.send(answers[-1]))
    except StopIteration as end:
        return Told(steps, answers, end.value)
    raise AssertionError(f"it goes on after {most} steps")


def any_answer(step: Step, chance: Random) -> Answer:
    if isinstance(step, Delegate):
        if chance.random() < 0.1:
            return Joined((), problem="No room.")
        failing = chance.choice([[], ["tests"]])
        return came_of({t.id: chance.random() < 0.8 for t in step.tasks}, failing=failing)
    return tuple(
        any_work(a, chance) if a.role is Role.WORK else any_word(a, chance) for a in step.asks
    )


def any_work(ask: Ask, chance: Random) -> Reply:
    tree = chance.choice([BASE, "t1", "t2", "t3"])
    failing = chance.choice([[], [], ["tests"], ["tests", "lint"]])
    reply = left(tree, failing=failing, lines=chance.randint(0, 9))
    if HANDOFF in ask.answers and chance.random() < 0.4:
        return passed_on(tree, chance.choice(ask.options), failing=failing)
    outcome = chance.choice(["done", "done", "blocked", "failed"])
    result = {"schema": "cc.result/1", "outcome": outcome, "summary": "x" * 2000}
    return chance.choice(
        [
            *(reply, reply, reply, replace(reply, result=result)),
            *(broken(), replace(reply, outcome=Outcome.FAILED), replace(reply, flags=("Weak.",))),
            replace(reply, problem="`to` must be one of these." if HANDOFF in ask.answers else ""),
            replace(reply, change=None, verdict=None, refused="A pipe."),
        ]
    )


def any_word(ask: Ask, chance: Random) -> Reply:
    if chance.random() < 0.2:
        return chance.choice([unusable(), broken(), replace(unusable(), words="x" * 4000)])
    match ask.role:
        case Role.ROUTE:
            return answered("cc.route/1", profile=chance.choice(ask.options), reason="so")
        case Role.JUDGE:
            ranking = chance.sample(ask.options, len(ask.options))
            return answered("cc.choice/1", ranking=ranking, reason="so")
        case Role.PLAN:
            return any_split(chance)
        case _:
            yes = [chance.random() < 0.5 for _ in range(3)]
            who = chance.choice(ask.options)
            return ledger(who, satisfied=yes[0], in_loop=yes[1], progress=yes[2])


def any_split(chance: Random) -> Reply:
    names = chance.sample("abcdef", chance.randint(1, 5))
    waits = {name: chance.sample("abcdef", chance.randint(0, 1)) for name in names}
    parts = [{"id": n, "title": n, "instructions": n, "depends_on": on} for n, on in waits.items()]
    return answered("cc.subplan/1", tasks=parts)


def runs(asks: Sequence[Ask]) -> int:
    """Return how many runs these asks may cause, each one with its repetition."""
    return sum(1 + (ask.role.reads_only or HANDOFF in ask.answers) for ask in asks)


def boxes(of: Goal) -> int:
    return len(of.task.steps)


ANY = given(PATTERNS, GOALS, st.randoms(use_true_random=False))
OFTEN = settings(deadline=None, max_examples=150)


@OFTEN
@ANY
def test_it_ends_within_the_runs_that_were_told_before(
    pattern: Pattern, of: Goal, chance: Random
) -> None:
    most = runs_max(pattern, of.handoff, boxes(of))

    told = live(flow_of(pattern, of), chance, most + 4)

    assert runs(told.asks) <= most


@OFTEN
@ANY
def test_only_what_passed_the_checks_is_accepted(
    pattern: Pattern, of: Goal, chance: Random
) -> None:
    told = live(flow_of(pattern, of), chance, 200)

    accepted = told.end.result is Result.ACCEPTED
    held = {ask.lane: reply for ask, reply in zip(told.asks, told.replies, strict=True)}
    assert accepted or told.end.change is None
    assert not accepted or sound(held.get(told.end.lane), told.end) or joined(told)
    assert told.end.words


def sound(last: Reply | None, end: Conclusion) -> bool:
    """Say whether what is taken is what a lane holds, and passed."""
    return (
        last is not None
        and last.green
        and last.outcome is Outcome.DONE
        and last.change == end.change
    )


def joined(told: Told) -> bool:
    """Say whether tasks that it delegated to have all landed, and the checks pass on that."""
    last = told.answers[-1]
    return (
        isinstance(last, Joined)
        and all(child.satisfied for child in last.children)
        and last.verdict is not None
        and last.verdict.mergeable
    )


@OFTEN
@ANY
def test_the_same_answers_make_it_ask_the_same_from_any_point_on(
    pattern: Pattern, of: Goal, chance: Random
) -> None:
    told = live(flow_of(pattern, of), chance, 200)

    again = [replay(flow_of(pattern, of), told.answers[:n]) for n in range(len(told.answers) + 1)]

    assert again == [*told.steps, told.end]


@OFTEN
@ANY
def test_nobody_who_only_reads_gets_a_lane_and_lanes_begin_at_1(
    pattern: Pattern, of: Goal, chance: Random
) -> None:
    asks = live(flow_of(pattern, of), chance, 200).asks

    assert all(ask.role.reads_only == (ask.lane == 0) for ask in asks)
    assert all(ask.role.reads_only != ask.gate for ask in asks)
    assert {ask.lane for ask in asks} - {0} <= set(range(1, 8))


@OFTEN
@ANY
def test_bounds_of_its_own_hold(pattern: Pattern, of: Goal, chance: Random) -> None:
    told = live(flow_of(pattern, of), chance, 200)
    facts = told.end.facts

    delegated = [t.id for step in told.steps if isinstance(step, Delegate) for t in step.tasks]
    assert len(delegated) == len(set(delegated)) <= subtasks_max(pattern)
    assert len(facts.get("handoffs", ())) <= of.handoff.handoffs_max
    assert not isinstance(pattern, Magentic) or bounded(pattern, told)


def bounded(pattern: Magentic, told: Told) -> bool:
    managed = [ask for ask in told.asks if ask.role is Role.MANAGE]
    facts = told.end.facts
    return bool(
        facts["rounds"] == len(managed)
        and len(managed) <= pattern.rounds_max
        and facts["stalls"] in range(pattern.stalls_max + 2)
        and facts["resets"] in range(pattern.resets_max + 1)
    )


MUTE = st.sampled_from([unusable(), broken(), replace(unusable(), words="x" * 4000)])


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([Route(NAMES), Orchestrate(), Magentic(rounds_max=4)]),
    st.lists(MUTE, min_size=4, max_size=4),
)
def test_who_gives_no_usable_answer_never_makes_a_success(
    pattern: Pattern, answers: list[Reply]
) -> None:
    flow, end = flow_of(pattern, goal()), None
    for count in range(1, 5):
        end = replay(flow_of(pattern, goal()), [(each,) for each in answers[:count]])
        if isinstance(end, Conclusion):
            break
    flow.close()

    assert isinstance(end, Conclusion)
    assert end.result in (Result.REJECTED, Result.STALLED, Result.EXHAUSTED)


def worst() -> Iterator[tuple[Pattern, Goal, Sequence[Answer | Reply]]]:
    red, free = left("r", failing=["tests"]), goal(to=NAMES, handoffs_max=1)
    yield Single(), goal(), [red, red]
    yield Single(), free, [passed_on("t", "other"), red, red]
    yield Chain((Stage(), Stage())), goal(), [broken(), left("a"), red, red]
    yield Route(NAMES), goal(), [answered("cc.route/1", profile="other"), red, red]
    yield Vote(3), goal(), [(left("a"), left("b"), left("c")), unusable()]
    yield Vote(3, judged=False), goal(), [(red, red, red), red]
    split = answered("cc.subplan/1", tasks=[{"id": "a", "title": "A", "instructions": "A"}])
    plan: list[Answer | Reply] = [unusable(), split, came_of({"1.1-1": False}), unusable(), split]
    yield Orchestrate(), goal(), [*plan, came_of({"1.1-2": False})]
    rounds = [each for n in range(3) for each in (ledger(), left(f"t{n}"))]
    yield Magentic(rounds_max=4), goal(), [*rounds, ledger()]


@pytest.mark.parametrize(("pattern", "of", "answers"), list(worst()))
def test_the_bound_is_met_at_the_worst(
    pattern: Pattern, of: Goal, answers: Sequence[Answer | Reply]
) -> None:
    result = play(flow_of(pattern, of), *answers)

    assert result.end is not None
    assert runs(result.asks) == runs_max(pattern, of.handoff, 0)


def test_a_chain_of_checkboxes_has_the_bound_of_its_stages() -> None:
    assert runs_max(Chain(), Handoff(), 3) == runs_max(Chain((Stage(),) * 3), Handoff(), 0) == 6
    assert runs_max(Chain(), Handoff(), 1) == 2


# Votes

TREES = st.lists(st.sampled_from(["a", "b", "c", "d", BASE]), min_size=1, max_size=5)
TASTES = st.permutations(["a", "b", "c", "d", BASE])
LINES = {"a": 4, "b": 3, "c": 2, "d": 1, BASE: 0}


def candidate(tree: str) -> Reply:
    return left(tree, lines=LINES[tree])


def winner(
    candidates: Sequence[Reply],
    taste: Sequence[str] | None,
    name: str = "1.1",
    *,
    judged: bool = True,
) -> str:
    """Return the tree that wins, before a judge with this taste; None is one who says nothing."""
    of = goal(replace(task(), id=name))
    pattern = Vote(len(candidates), judged=judged)
    answers: list[Answer] = [tuple(candidates)]
    step = replay(flow_of(pattern, of), answers)
    if isinstance(step, Round):
        answers.append((judgement(step.asks[0], taste),))
        step = replay(flow_of(pattern, of), answers)
    assert isinstance(step, Conclusion)
    assert step.result is Result.ACCEPTED
    assert step.change is not None
    return step.change.tree


def judgement(ask: Ask, taste: Sequence[str] | None) -> Reply:
    if taste is None:
        return unusable()
    liked = sorted(ask.shown, key=lambda shown: taste.index(shown.commit.removeprefix("head-")))
    reply = answered("cc.choice/1", ranking=[shown.label for shown in liked], reason="so")
    assert isinstance(parse(reply.result, ask.answers, ask.options), Valid)
    return reply


@OFTEN
@given(TREES, st.none() | TASTES, st.booleans(), st.data())
def test_neither_the_order_of_candidates_nor_labels_change_the_winner(
    trees: list[str], taste: list[str] | None, judged: bool, data: st.DataObject
) -> None:
    found = list(map(candidate, trees))
    shuffled = data.draw(st.permutations(found))
    name = data.draw(st.sampled_from(["1.1", "2", "x", "long-name"]))

    first = winner(found, taste, judged=judged)

    assert winner(shuffled, taste, judged=judged) == first
    assert winner(found, taste, name, judged=judged) == first


@OFTEN
@given(TREES, st.none() | TASTES, st.data())
def test_one_more_candidate_that_fails_never_changes_the_winner(
    trees: list[str], taste: list[str] | None, data: st.DataObject
) -> None:
    found = list(map(candidate, trees))
    at = data.draw(st.integers(0, len(found)))
    red = left(data.draw(st.sampled_from(["a", "b", "e"])), failing=["tests"], lines=0)

    assert winner([*found[:at], red, *found[at:]], taste) == winner(found, taste)


@OFTEN
@given(st.lists(st.sampled_from(["a", "b", "c", "d", BASE]), min_size=2, max_size=7))
def test_identical_trees_are_shown_once(trees: list[str]) -> None:
    step = replay(flow_of(Vote(len(trees)), goal()), [tuple(map(candidate, trees))])

    shown = [each.commit for each in step.asks[0].shown] if isinstance(step, Round) else []
    assert len(shown) == len(set(shown))
    assert set(shown) in ({f"head-{tree}" for tree in trees if tree != BASE}, set())
