"""One agent that may pass its work on: to whom it may, so often as it may, and never in circles."""

from __future__ import annotations

from commandcenter.core.contract import HANDOFF, RESULT
from commandcenter.core.pattern import Conclusion, Goal, Result, Single
from commandcenter.patterns import flow_of
from commandcenter.testing.playing import (
    Played,
    broken,
    goal,
    left,
    passed_on,
    play,
)

FREE = goal(to=["worker", "other"])


def played(*answers: object, of: Goal = FREE) -> Played:
    return play(flow_of(Single(), of), *answers)  # type: ignore[arg-type]


def ended(result: Played) -> Conclusion:
    assert result.end is not None
    return result.end


def test_what_passes_the_checks_is_accepted() -> None:
    end = ended(played(left("t1")))

    assert end.result is Result.ACCEPTED
    assert end.change == left("t1").change


def test_what_weakens_tests_is_accepted_aloud_where_only_one_agent_works() -> None:
    end = ended(played(left("t1", flags=["It deletes `tests/a.py`."])))

    assert end.words.endswith("It deletes `tests/a.py`.")
    assert end.facts["flags"] == ["It deletes `tests/a.py`."]


def test_who_fails_the_checks_is_asked_once_more_with_the_log() -> None:
    result = played(left("t1", failing=["tests"]), left("t2"))

    assert ended(result).result is Result.ACCEPTED
    assert "$ run tests" in result.asks[1].text
    assert not result.asks[1].fresh


def test_a_second_failure_is_a_rejection_that_tells_what_failed() -> None:
    end = ended(played(left("t1", failing=["tests"]), left("t2", failing=["tests"])))

    assert end.result is Result.REJECTED
    assert end.words == "After 2 runs, checks did not pass: `tests`."
    assert "tests!" in end.feedback


def test_after_a_run_that_failed_a_new_conversation_begins() -> None:
    result = played(broken("timeout"), left("t1"))

    assert result.asks[1].fresh
    assert "The last run failed: timeout." in result.asks[1].text


def test_work_is_passed_on_in_the_same_lane_with_a_summary_and_no_transcript() -> None:
    result = played(passed_on("t1", "other", words="thousands of words"), left("t2"))

    assert ended(result).result is Result.ACCEPTED
    second = result.asks[1]
    assert (second.profile, second.lane, second.fresh) == ("other", 1, True)
    assert "half done" in second.text
    assert "1 file, +10 -0 lines: `t1.py`" in second.text
    assert "thousands of words" not in second.text


def test_what_is_passed_on_need_not_pass_the_checks() -> None:
    result = played(passed_on("t1", "other", failing=["tests"]), left("t2"))

    assert ended(result).result is Result.ACCEPTED
    assert ended(result).facts["handoffs"] == [{"from": "worker", "to": "other", "reason": "yours"}]


def test_passing_back_what_was_not_touched_is_ping_pong() -> None:
    end = ended(played(passed_on("t1", "other"), passed_on("t1", "worker")))

    assert end.result is Result.STALLED
    assert "goes in circles" in end.words


def test_passing_on_to_oneself_is_ping_pong() -> None:
    assert ended(played(passed_on("t1", "worker"))).result is Result.STALLED


def test_a_circle_of_three_is_ping_pong() -> None:
    three = goal(to=["worker", "other", "third"])

    end = ended(
        played(
            passed_on("t1", "other"), passed_on("t1", "third"), passed_on("t1", "worker"), of=three
        )
    )

    assert end.result is Result.STALLED


def test_passing_back_what_was_worked_on_is_none() -> None:
    result = played(passed_on("t1", "other"), passed_on("t2", "worker"), left("t3"))

    assert ended(result).result is Result.ACCEPTED


def test_more_handoffs_than_allowed_exhaust_it() -> None:
    once = goal(to=["worker", "other"], handoffs_max=1)

    end = ended(played(passed_on("t1", "other"), passed_on("t2", "worker"), of=once))

    assert end.result is Result.EXHAUSTED
    assert end.change is None


def test_whom_the_plan_does_not_name_is_not_asked() -> None:
    assert ended(played(passed_on("t1", "root"))).result is Result.REJECTED


def test_a_handoff_that_could_not_be_used_twice_is_a_rejection_even_when_green() -> None:
    end = ended(played(left("t1", problem="`to` must be one of: worker, other.")))

    assert end.result is Result.REJECTED
    assert "`to` must be one of: worker, other." in end.words


def test_only_who_may_pass_on_is_told_how() -> None:
    assert played().asks[0].answers == (RESULT, HANDOFF)
    assert played(of=goal()).asks[0].answers == (RESULT,)


def test_the_bound_of_handoffs_is_shared_by_all_tries() -> None:
    once = goal(to=["worker", "other"], handoffs_max=1)

    end = ended(
        played(
            passed_on("t1", "other"),
            left("t2", failing=["tests"]),
            passed_on("t3", "worker"),
            of=once,
        )
    )

    assert end.result is Result.EXHAUSTED


def test_an_agent_that_cannot_go_on_without_people_blocks_the_task() -> None:
    needs = {"schema": RESULT, "outcome": "needs_input", "summary": "Which database?"}

    end = ended(played(left("t1", result=needs)))

    assert end.result is Result.BLOCKED
    assert "Which database?" in end.words


def test_an_agent_that_says_it_failed_is_not_accepted_however_green() -> None:
    failed = {"schema": RESULT, "outcome": "failed", "summary": "I could not"}

    assert ended(played(left("t1", result=failed), left("t1", result=failed))).result is (
        Result.REJECTED
    )
