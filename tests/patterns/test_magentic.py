"""A manager and a team: progress is measured, and every bound ends it as what it is."""

from __future__ import annotations

from dataclasses import replace

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.pattern import READ_ONLY, Conclusion, Magentic, Reply, Result
from commandcenter.patterns import flow_of
from commandcenter.testing.playing import (
    BASE,
    Played,
    broken,
    goal,
    ledger,
    left,
    play,
    unusable,
)

RED = left("t1", failing=["tests"])
SATISFIED = ledger(satisfied=True)


def played(*answers: Reply, pattern: Magentic | None = None) -> Played:
    return play(flow_of(pattern or Magentic(("worker", "other")), goal()), *answers)


def ended(result: Played) -> Conclusion:
    assert result.end is not None
    return result.end


def test_whom_the_manager_names_works_in_lane_1_with_the_instruction() -> None:
    manager, specialist = played(ledger("other")).asks

    assert (manager.role, manager.lane, manager.options) == (
        Role.MANAGE,
        READ_ONLY,
        ("worker", "other"),
    )
    assert (specialist.role, specialist.lane, specialist.profile) == (Role.WORK, 1, "other")
    assert "Write the parser" in specialist.text


def test_satisfied_and_green_is_accepted() -> None:
    end = ended(played(ledger(), left("t1"), SATISFIED))

    assert end.result is Result.ACCEPTED
    assert end.change == left("t1").change


def test_satisfied_while_the_checks_fail_is_a_stall_and_not_accepted() -> None:
    result = played(ledger(), RED, SATISFIED)

    assert result.end is None
    assert result.asks[-1].role is Role.MANAGE
    assert "satisfied, but the checks do not pass" in result.asks[-1].text
    assert "$ run tests" in result.asks[-1].text


def test_satisfied_before_anybody_worked_is_not_accepted() -> None:
    assert played(SATISFIED).end is None


def test_satisfied_after_a_run_that_failed_is_not_accepted() -> None:
    failed = left("t1", outcome=Outcome.FAILED, reason="timeout")

    assert played(ledger(), failed, SATISFIED).end is None


def test_the_manager_reads_what_lane_1_holds() -> None:
    result = played(ledger(), RED)

    assert result.asks[0].commit == ""
    assert result.asks[2].commit == "head-t1"
    assert "1 file, +10 -0 lines" in result.asks[2].text


def test_a_claim_of_progress_counts_for_nothing_while_nothing_moves() -> None:
    few = Magentic(("worker",), stalls_max=1, resets_max=1)

    result = played(ledger(), RED, ledger(), RED, ledger(), RED, pattern=few)

    assert "A new plan is needed" in result.asks[-1].text


def test_after_a_new_plan_a_specialist_begins_a_new_conversation() -> None:
    few = Magentic(("worker",), stalls_max=0, resets_max=1)

    asks = played(ledger(), left(BASE), ledger(), RED, ledger(), pattern=few).asks

    assert [ask.fresh for ask in asks if ask.role is Role.WORK] == [True, True, False]
    assert "A new plan is needed" in asks[2].text
    assert "A new plan is needed" not in asks[4].text


def test_another_specialist_begins_a_conversation_of_its_own() -> None:
    asks = played(ledger("worker"), RED, ledger("other"), left("t2"), ledger("other")).asks

    assert [ask.fresh for ask in asks if ask.role is Role.WORK] == [True, True, False]


def test_other_failing_checks_on_the_same_tree_are_a_movement() -> None:
    few = Magentic(("worker",), stalls_max=0, resets_max=0)

    result = played(ledger(), RED, ledger(), left("t1", failing=["lint"]), pattern=few)

    assert result.end is None


def test_the_managers_own_doubt_is_a_stall_though_something_moved() -> None:
    few = Magentic(("worker",), stalls_max=0, resets_max=0)

    end = ended(played(ledger(), RED, ledger(in_loop=True), left("t2"), pattern=few))

    assert end.result is Result.STALLED
    assert end.facts["stalls"] == 1


def test_a_doubt_before_anybody_worked_is_none() -> None:
    few = Magentic(("worker",), stalls_max=0, resets_max=0)

    assert played(ledger(progress=False), RED, pattern=few).end is None


def test_progress_takes_a_stall_away() -> None:
    few = Magentic(("worker",), stalls_max=1, resets_max=0)
    stall, move = (ledger(), left("t1")), (ledger(), left("t2"))

    result = played(*(ledger(), left("t1")), *stall, *move, *(ledger(), left("t2")), pattern=few)

    assert result.end is None


def test_an_answer_that_cannot_be_used_is_a_stall_and_names_nobody() -> None:
    result = played(unusable("`next` is missing."))

    assert [ask.role for ask in result.asks] == [Role.MANAGE, Role.MANAGE]
    assert "`next` is missing." in result.asks[1].text


def test_too_many_new_plans_are_told_as_stalled_with_ledger_and_best_candidate() -> None:
    few = Magentic(("worker",), stalls_max=0, resets_max=0)

    end = ended(played(ledger(), RED, ledger(), RED, pattern=few))

    assert end.result is Result.STALLED
    assert end.change is None
    assert end.facts["ledger"]["plan"] == ["Write it", "Test it"]
    assert end.facts["best"] == {"commit": "head-t1", "tree": "t1", "failing": ["tests"]}


def test_too_many_rounds_are_told_as_exhausted_however_green() -> None:
    end = ended(played(ledger(), left("t1"), ledger(), pattern=Magentic(rounds_max=2)))

    assert end.result is Result.EXHAUSTED
    assert end.change is None
    assert end.facts["rounds"] == 2


def test_in_the_last_round_the_manager_can_still_be_satisfied() -> None:
    end = ended(played(ledger(), left("t1"), SATISFIED, pattern=Magentic(rounds_max=2)))

    assert end.result is Result.ACCEPTED


def test_a_result_that_could_not_be_taken_moves_nothing() -> None:
    few = Magentic(("worker",), stalls_max=0, resets_max=0)
    refused = replace(left("t2"), change=None, verdict=None, refused="a symbolic link")

    assert ended(played(ledger(), refused, pattern=few)).result is Result.STALLED
    assert ended(played(ledger(), broken(), pattern=few)).result is Result.STALLED


def test_without_a_team_the_work_role_is_all_of_it() -> None:
    assert played(pattern=Magentic()).asks[0].options == ("worker",)
