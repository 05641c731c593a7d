"""Stages after one another: the gate between them, and what each is told."""

from __future__ import annotations

from dataclasses import replace

from commandcenter.core.pattern import Chain, Goal, Reply, Result, Stage
from commandcenter.core.plan import Step
from commandcenter.patterns import flow_of
from commandcenter.testing.playing import (
    Played,
    broken,
    goal,
    left,
    passed_on,
    play,
    task,
)

TWO = Chain((Stage("Write the tests"), Stage("Make them pass", "other")))


def played(*answers: Reply, pattern: Chain = TWO, of: Goal | None = None) -> Played:
    return play(flow_of(pattern, of or goal()), *answers)


def boxes(*titles: str) -> Goal:
    steps = tuple(Step(title.lstrip("x "), title.startswith("x ")) for title in titles)
    return goal(replace(task(), steps=steps))


def test_what_the_last_stage_leaves_is_accepted_when_it_passes_the_checks() -> None:
    result = played(left("t1", failing=["tests"], passing=[]), left("t2"))

    assert result.end is not None
    assert result.end.result is Result.ACCEPTED
    assert result.end.change == left("t2").change


def test_a_stage_is_a_new_conversation_of_its_own_profile_in_the_same_lane() -> None:
    asks = played(left("t1")).asks

    assert [(ask.profile, ask.lane, ask.fresh) for ask in asks] == [
        ("", 1, False),
        ("other", 1, True),
    ]


def test_the_next_stage_is_told_what_the_earlier_ones_said_and_left() -> None:
    second = played(left("t1", words="Two tests, in a.py")).asks[1].text

    assert "Two tests, in a.py" in second
    assert "1 file, +10 -0 lines: `t1.py`" in second
    assert "Make them pass" in second


def test_a_stage_that_breaks_what_passed_before_it_is_asked_again() -> None:
    three = Chain((*TWO.stages, Stage("Polish")))

    result = played(
        left("t1", passing=["lint"], failing=["tests"]),
        left("t2", passing=["tests"], failing=["lint"]),
        pattern=three,
    )

    assert result.asks[2].profile == "other"
    assert "Before this stage these checks passed, and now they do not: `lint`." in (
        result.asks[2].text
    )


def test_a_check_that_failed_before_may_go_on_failing_until_the_last_stage() -> None:
    three = Chain((*TWO.stages, Stage("Polish")))
    red = {"failing": ["tests"], "passing": ["lint"]}

    result = played(left("t1", **red), left("t2", **red), left("t3", **red), pattern=three)  # type: ignore[arg-type]

    assert result.end is None
    assert "$ run tests" in result.asks[3].text


def test_a_stage_whose_checks_were_not_run_has_not_kept_what_passed() -> None:
    three = Chain((*TWO.stages, Stage("Polish")))
    unchecked = replace(left("t2"), verdict=None)

    result = played(left("t1"), unchecked, pattern=three)

    assert "Do only this stage now:\n\nMake them pass" in result.asks[2].text


def test_a_stage_that_fails_twice_rejects_the_task() -> None:
    result = played(left("t1"), broken(), broken())

    assert result.end is not None
    assert result.end.result is Result.REJECTED
    assert result.end.words == "Stage 2 of 2: After 2 runs, the agent failed (exit)."
    assert result.end.change is None


def test_the_open_checkboxes_of_a_task_are_its_stages() -> None:
    result = played(pattern=Chain(), of=boxes("x Think", "Write", "Test"))

    assert "## Stage 1 of 2\n\nDo only this stage now:\n\nWrite" in result.asks[0].text


def test_one_open_checkbox_makes_a_single_ask_for_the_whole_task() -> None:
    result = played(left("t1"), pattern=Chain(), of=boxes("x Think", "Write"))

    assert [ask.text for ask in result.asks] == [""]
    assert result.end is not None
    assert result.end.result is Result.ACCEPTED


def test_a_stage_may_pass_its_work_on() -> None:
    result = played(passed_on("t1", "other"), left("t2"), left("t3"), of=goal(to=["other"]))

    assert result.end is not None
    assert result.end.result is Result.ACCEPTED
    assert result.end.facts["stages"] == ["", ""]
