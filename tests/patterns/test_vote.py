"""Several candidates: who is out, who wins, and that nothing else decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from commandcenter.core.agent import Outcome
from commandcenter.core.pattern import (
    READ_ONLY,
    Answer,
    Conclusion,
    Pick,
    Reply,
    Result,
    Round,
    Until,
    Vote,
)
from commandcenter.patterns import flow_of
from commandcenter.patterns.vote import survives
from commandcenter.testing.playing import (
    BASE,
    Played,
    answered,
    broken,
    goal,
    left,
    play,
    unusable,
)

A = left("a", lines=400)
B = left("b", lines=40)
C = left("c", lines=90)
RED = left("r", failing=["tests"])


def played(*answers: Answer | Reply, pattern: Vote | None = None) -> Played:
    return play(flow_of(pattern or Vote(3), goal()), *answers)


def won(result: Played) -> Conclusion:
    assert result.end is not None
    assert result.end.result is Result.ACCEPTED
    return result.end


def ranked(result: Played, *trees: str) -> Reply:
    """Return the answer of a judge who ranks the candidates with these trees so."""
    label = {shown.commit: shown.label for shown in result.asks[-1].shown}
    return answered("cc.choice/1", ranking=[label[f"head-{t}"] for t in trees], reason="")


def test_candidates_are_made_apart_in_lanes_by_profiles_in_turn() -> None:
    asks = played(pattern=Vote(3, agents=("worker", "other"))).asks

    assert [(ask.lane, ask.profile) for ask in asks] == [
        (1, "worker"),
        (2, "other"),
        (3, "worker"),
    ]


def test_the_judge_decides_among_those_that_pass() -> None:
    before = played((A, B, C))

    assert won(played((A, B, C), ranked(before, "c", "b", "a"))).lane == 3


def test_the_judge_sees_neither_names_nor_lanes() -> None:
    judge = played((A, B, C), pattern=Vote(3, agents=("worker", "other"))).asks[-1]

    assert (judge.lane, judge.gate, judge.options) == (READ_ONLY, False, ("A", "B", "C"))
    assert "worker" not in judge.text
    assert sorted(shown.commit for shown in judge.shown) == ["head-a", "head-b", "head-c"]
    assert [shown.commit for shown in judge.shown] != ["head-a", "head-b", "head-c"]


@pytest.mark.parametrize(
    "answer",
    [
        unusable(),
        broken(),
        answered("cc.choice/1", ranking=["A", "A", "B"]),
        answered("cc.choice/1", ranking=["A"]),
        answered("cc.choice/1", ranking=["X", "Y", "Z"]),
        replace(answered("cc.choice/1", ranking=["A", "B", "C"]), outcome=Outcome.FAILED),
    ],
)
def test_a_judge_that_cannot_be_used_leaves_the_smallest_change(answer: Reply) -> None:
    assert won(played((A, B, C), answer)).lane == 2


def test_without_a_judge_the_smallest_change_wins() -> None:
    assert won(played((A, B, C), pattern=Vote(3, judged=False))).lane == 2


def test_one_survivor_needs_no_judge() -> None:
    assert won(played((RED, broken(), A))).lane == 3


@pytest.mark.parametrize(
    ("out", "why"),
    [
        (RED, "checks did not pass: `tests`"),
        (broken("timeout"), "the agent failed (timeout)"),
        (replace(B, change=None, refused="a symbolic link"), "its result could not be taken"),
        (replace(B, flags=("It deletes a test.",)), "It deletes a test."),
        (replace(B, outcome=Outcome.STOPPED), "it was not needed any more"),
        (replace(B, verdict=None), "the checks were not run on it"),
        (
            replace(B, result={"schema": "cc.result/1", "outcome": "blocked", "summary": "which?"}),
            "it cannot go on without people",
        ),
    ],
)
def test_who_is_out_is_told_with_the_reason(out: Reply, why: str) -> None:
    end = won(played((out, A), pattern=Vote(2)))

    assert not survives(out)
    assert survives(A)
    assert end.lane == 2
    assert why in end.facts["candidates"][0]["out"]


def test_identical_trees_are_one_entry_and_a_true_majority_needs_no_judge() -> None:
    end = won(played((A, B, A)))

    assert end.lane == 1
    assert "2 of them came to the same result" in end.words


def test_half_of_the_survivors_is_no_majority() -> None:
    judged = played((A, A, B, C), pattern=Vote(4))

    assert judged.end is None
    assert judged.asks[-1].options == ("A", "B", "C")


def test_votes_weigh_more_than_lines_where_no_judge_ranks() -> None:
    assert won(played((A, A, B, C), pattern=Vote(4, judged=False))).lane == 1


def test_an_empty_change_wins_only_if_there_is_no_other() -> None:
    assert won(played((left(BASE), left(BASE), A))).lane == 3
    assert won(played((left(BASE), RED, RED))).lane == 1


def test_too_few_for_the_quorum_is_a_rejection() -> None:
    result = played((A, RED, RED), pattern=Vote(3, quorum=2))

    assert result.end is not None
    assert result.end.result is Result.REJECTED
    assert result.end.change is None
    assert "1 of 3 candidates passed, fewer than the 2 needed" in result.end.words


def test_a_quorum_of_identical_candidates_is_met() -> None:
    assert won(played((A, A, RED), pattern=Vote(3, quorum=2))).lane == 1


def test_when_all_fail_the_best_one_is_asked_once_more_in_its_lane() -> None:
    worse = left("w", failing=["tests", "lint"])

    result = played((worse, RED, broken()), left("mended"))

    assert result.asks[3].lane == 2
    assert "$ run tests" in result.asks[3].text
    assert won(result).lane == 2


def test_when_the_best_one_fails_again_the_vote_is_rejected() -> None:
    result = played((RED, RED, RED), RED)

    assert result.end is not None
    assert result.end.result is Result.REJECTED
    assert "tests!" in result.end.feedback


def test_a_candidate_that_weakens_tests_is_told_to_restore_them() -> None:
    weak = replace(A, flags=("It deletes `tests/a.py`.",))

    repair = played((weak, broken()), pattern=Vote(2)).asks[2]

    assert repair.lane == 1
    assert "It deletes `tests/a.py`." in repair.text


def test_the_first_green_one_ends_the_round_without_a_judge() -> None:
    result = played(
        (replace(A, outcome=Outcome.STOPPED), B, C),
        pattern=Vote(3, pick=Pick.FIRST_GREEN),
    )

    assert isinstance(result.steps[0], Round)
    assert result.steps[0].until is Until.GREEN
    assert won(result).lane == 2


def test_a_quorum_waits_for_all_candidates() -> None:
    (step,) = played(pattern=Vote(3, pick=Pick.FIRST_GREEN, quorum=2)).steps

    assert isinstance(step, Round)
    assert step.until is Until.ALL
