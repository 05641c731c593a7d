"""What follows from how a try went: every branch, and that no sequence goes on for ever."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.agent import Outcome
from commandcenter.core.attempt import (
    DELAY_MAX_S,
    WORDS_MAX,
    AlreadyDone,
    Attempt,
    Bounds,
    GiveUp,
    Next,
    Proceed,
    TryAgain,
    Worked,
    after_checks,
    after_combined_checks,
    after_conflict,
    after_review,
    after_work,
)
from commandcenter.core.check import Found, Judgement, Receipt, Verdict, judge
from commandcenter.core.conflict import Clash
from commandcenter.core.errors import CommandCenterError
from commandcenter.core.forge import Decision, Issue, Review, Severity
from commandcenter.core.run import Reason

BOUNDS = Bounds(tries_max=3, review_rounds_max=3, stops_max=8)
TREE = "a" * 40
WORKING = Attempt(
    4, generation=2, base="b" * 40, session="s", resume=True, session_cost_usd=1.5, tries=2
)
LAST = replace(WORKING, tries=3)


def receipt(found: Found, words: str = "printed") -> Receipt:
    return Receipt("check", "make check", TREE, found, 1, 0.1, "0" * 64, words)


FAILED = judge(TREE, [receipt(Found.FAILED)])
PASSED = judge(TREE, [receipt(Found.PASSED)])
UNVERIFIED = judge(TREE, [])


def again(decision: Next) -> TryAgain:
    assert isinstance(decision, TryAgain)
    return decision


def given_up(decision: Next) -> GiveUp:
    assert isinstance(decision, GiveUp)
    return decision


def test_work_that_is_done_and_taken_goes_on() -> None:
    assert after_work(Worked(Outcome.DONE), WORKING, BOUNDS) == Proceed()


def test_a_failed_agent_begins_afresh_and_is_told_why() -> None:
    decision = again(after_work(Worked(Outcome.FAILED, "exit", "it broke"), WORKING, BOUNDS))
    attempt = decision.attempt
    assert (attempt.number, attempt.tries, attempt.generation) == (5, 3, 3)
    assert (attempt.base, attempt.session, attempt.resume) == ("", "", False)
    assert attempt.session_cost_usd == 0
    assert "exit" in attempt.feedback
    assert "it broke" in attempt.feedback
    assert decision.delay_s == 0


def test_a_failed_agent_on_its_last_try_gives_the_task_up_with_its_words() -> None:
    decision = given_up(after_work(Worked(Outcome.FAILED, "exit", "it broke"), LAST, BOUNDS))
    assert decision.reason is Reason.AGENT
    assert decision.explanation == "after 3 tries, the agent failed (exit): it broke"


def test_a_broken_limit_is_told_in_words_to_the_user_and_to_the_next_try() -> None:
    broke = Worked(Outcome.FAILED, "memory", "Killed", problem="It used more than 4.0 GiB.")

    decision, last = after_work(broke, WORKING, BOUNDS), after_work(broke, LAST, BOUNDS)

    assert "failed: memory: It used more than 4.0 GiB." in again(decision).attempt.feedback
    assert again(decision).why == "the agent failed (memory: It used more than 4.0 GiB)"
    assert "(memory: It used more than 4.0 GiB): Killed" in given_up(last).explanation


def test_one_try_is_not_called_tries() -> None:
    only = Bounds(1, 1, 1)
    decision = given_up(after_work(Worked(Outcome.FAILED, "idle"), Attempt(1), only))
    assert decision.explanation == "after 1 try, the agent failed (idle)"


def test_a_refused_credential_is_not_tried_again() -> None:
    decision = given_up(after_work(Worked(Outcome.FAILED, "auth", "401"), Attempt(1), BOUNDS))
    assert decision.reason is Reason.AGENT
    assert "credential" in decision.explanation
    assert decision.explanation.endswith(": 401")


def test_a_program_that_is_not_there_is_not_looked_for_again() -> None:
    worked = Worked(Outcome.FAILED, "no_program", "sh: 1: x: not found")
    decision = given_up(after_work(worked, Attempt(1), BOUNDS))
    assert decision.reason is Reason.AGENT
    assert "cannot be started" in decision.explanation
    assert decision.explanation.endswith("x: not found")


def test_a_result_that_cannot_be_taken_goes_back_into_the_same_conversation() -> None:
    worked = Worked(Outcome.DONE, words="a link leads out", refused=True)
    attempt = again(after_work(worked, WORKING, BOUNDS)).attempt
    assert (attempt.session, attempt.resume, attempt.generation) == ("s", True, 2)
    assert (attempt.base, attempt.tries) == (WORKING.base, 3)
    assert attempt.feedback == "Your result cannot be taken: a link leads out"
    assert given_up(after_work(worked, LAST, BOUNDS)).reason is Reason.REFUSED


@pytest.mark.parametrize("outcome", [Outcome.TRY_AGAIN, Outcome.STOPPED])
def test_what_the_world_ended_uses_up_no_try_and_keeps_the_workspace(outcome: Outcome) -> None:
    worked = Worked(outcome, "lost", session="t")
    attempt = again(after_work(worked, WORKING, BOUNDS)).attempt
    assert (attempt.tries, attempt.stops, attempt.generation) == (2, 1, 2)
    assert (attempt.session, attempt.resume) == ("t", True)
    assert attempt.session_cost_usd == WORKING.session_cost_usd
    assert attempt.feedback == "You were interrupted (lost). Go on."


def test_without_a_conversation_to_resume_the_whole_task_is_asked_again() -> None:
    told = replace(WORKING, feedback="mend it")
    attempt = again(after_work(Worked(Outcome.STOPPED, "stopped"), told, BOUNDS)).attempt
    assert (attempt.session, attempt.resume, attempt.session_cost_usd) == ("", False, 0.0)
    assert (attempt.base, attempt.feedback) == (WORKING.base, "mend it")


def test_a_full_context_begins_a_new_conversation() -> None:
    worked = Worked(Outcome.TRY_AGAIN, "context", session="t")
    attempt = again(after_work(worked, WORKING, BOUNDS)).attempt
    assert (attempt.session, attempt.resume) == ("", False)


@pytest.mark.parametrize("reason", ["rate_limit", "overloaded", "api"])
@pytest.mark.parametrize("stops", [0, 1, 4, 6])
def test_a_busy_provider_is_waited_for_longer_each_time_and_never_too_long(
    reason: str, stops: int
) -> None:
    attempt = replace(WORKING, stops=stops)
    decision = again(after_work(Worked(Outcome.TRY_AGAIN, reason), attempt, BOUNDS))
    assert decision.delay_s == min(2.0 ** (stops + 1), DELAY_MAX_S)


def test_what_is_not_the_providers_fault_is_not_waited_for() -> None:
    assert again(after_work(Worked(Outcome.STOPPED, "lost"), WORKING, BOUNDS)).delay_s == 0


def test_too_many_interruptions_are_the_infrastructures_failure() -> None:
    attempt = replace(WORKING, stops=7)
    decision = given_up(after_work(Worked(Outcome.TRY_AGAIN, "api", "502"), attempt, BOUNDS))
    assert decision.reason is Reason.INFRASTRUCTURE
    assert decision.explanation == "the agent was interrupted 8 times (api): 502"


def test_a_change_that_passes_goes_on_and_so_does_one_without_checks() -> None:
    for verdict in (PASSED, UNVERIFIED):
        decision = after_checks(verdict, WORKING, BOUNDS, changed=True, evident=False)
        assert decision == Proceed()


@pytest.mark.parametrize("found", [Found.FAILED, Found.NOT_RUN])
@pytest.mark.parametrize("changed", [True, False])
def test_checks_that_did_not_pass_go_back_to_the_agent(found: Found, changed: bool) -> None:
    verdict = judge(TREE, [receipt(Found.PASSED, "fine"), receipt(found, "3 errors")])
    decision = again(after_checks(verdict, WORKING, BOUNDS, changed=changed, evident=True))
    assert (decision.attempt.session, decision.attempt.tries) == ("s", 3)
    assert "3 errors" in decision.attempt.feedback
    assert "$ make check" in decision.attempt.feedback
    assert "fine" not in decision.attempt.feedback
    assert "`check`" in decision.why
    last = given_up(after_checks(verdict, LAST, BOUNDS, changed=changed, evident=True))
    assert last.reason is Reason.CHECKS
    assert "3 errors" in last.explanation


@pytest.mark.parametrize(
    ("verdict", "evident", "decision"),
    [
        (PASSED, False, AlreadyDone()),
        (PASSED, True, AlreadyDone()),
        (UNVERIFIED, True, AlreadyDone()),
    ],
)
def test_no_change_is_fine_where_something_shows_that_it_was_done(
    verdict: Verdict, evident: bool, decision: Next
) -> None:
    assert after_checks(verdict, WORKING, BOUNDS, changed=False, evident=evident) == decision


def test_no_change_without_any_evidence_is_not_done() -> None:
    decision = again(after_checks(UNVERIFIED, WORKING, BOUNDS, changed=False, evident=False))
    assert "changed no file" in decision.attempt.feedback
    last = given_up(after_checks(UNVERIFIED, LAST, BOUNDS, changed=False, evident=False))
    assert last.reason is Reason.NOTHING_CHANGED


def review(decision: Decision, *issues: Issue) -> Review:
    return Review("c" * 40, decision, "in short", issues, "judge")


def test_an_approval_goes_on() -> None:
    assert after_review(review(Decision.APPROVE), "", WORKING, BOUNDS) == Proceed()


def test_a_rejection_and_an_answer_that_is_no_verdict_end_the_task() -> None:
    rejected = given_up(after_review(review(Decision.REJECT), "", WORKING, BOUNDS))
    assert rejected == GiveUp(Reason.REVIEW, "the reviewer rejected it: in short")
    silent = given_up(after_review(None, "no JSON", WORKING, BOUNDS))
    assert silent == GiveUp(Reason.REVIEW, "the reviewer gave no valid verdict: no JSON")


def test_a_request_for_changes_goes_back_issue_by_issue_and_costs_no_try() -> None:
    seen = replace(WORKING, tree=TREE)
    issues = (
        Issue("it leaks", Severity.BLOCKER, True, "a.py", 3, "close it"),
        Issue("a nit", Severity.MINOR, False),
    )
    decision = again(after_review(review(Decision.REVISE, *issues), "", seen, BOUNDS))
    attempt = decision.attempt
    assert (attempt.tries, attempt.review_rounds, attempt.last_tree) == (2, 1, TREE)
    assert (attempt.session, attempt.resume, attempt.generation) == ("s", True, 2)
    assert attempt.feedback.splitlines() == [
        "A reviewer read your change and asks for more. in short",
        "",
        "1. [blocker, must be fixed] (a.py:3) it leaks",
        "   Suggestion: close it",
        "2. [minor, optional] a nit",
    ]


def test_the_same_tree_reviewed_twice_is_a_stall() -> None:
    same = replace(WORKING, tree=TREE, last_tree=TREE, review_rounds=1)
    decision = given_up(after_review(review(Decision.REVISE), "", same, BOUNDS))
    assert decision.reason is Reason.STALLED
    assert "stalled" in decision.explanation


LEAK = Issue("it  leaks", Severity.BLOCKER, True, "a.py", 3)
SLOW = Issue("it is slow", Severity.MAJOR, True, "a.py", 9)


@pytest.mark.parametrize(
    ("first", "then", "stalled"),
    [
        ((LEAK,), (LEAK,), True),
        ((LEAK,), (replace(LEAK, problem="it leaks", line=7, severity=Severity.MINOR),), True),
        ((LEAK,), (SLOW, LEAK), True),
        ((LEAK, SLOW), (LEAK,), False),
        ((LEAK,), (replace(LEAK, file="b.py"),), False),
        ((LEAK,), (SLOW,), False),
    ],
)
def test_a_reviewer_that_asks_again_for_all_it_asked_for_is_a_stall(
    first: tuple[Issue, ...], then: tuple[Issue, ...], stalled: bool
) -> None:
    seen = replace(WORKING, tree=TREE)
    once = again(after_review(review(Decision.REVISE, *first), "", seen, BOUNDS)).attempt
    changed = replace(Attempt.from_json(once.to_json()), tree="d" * 40)

    decision = after_review(review(Decision.REVISE, *then), "", changed, BOUNDS)

    assert isinstance(decision, GiveUp) is stalled
    assert not stalled or "asks again" in given_up(decision).explanation


def test_a_fresh_start_is_not_held_against_the_issues_of_the_work_before() -> None:
    seen = replace(WORKING, tree=TREE)
    once = again(after_review(review(Decision.REVISE, LEAK), "", seen, BOUNDS)).attempt
    fresh = replace(again(after_conflict(Clash(("a.py",)), once, BOUNDS)).attempt, tree="d" * 40)

    assert isinstance(after_review(review(Decision.REVISE, LEAK), "", fresh, BOUNDS), TryAgain)


def test_reviews_end_at_their_bound() -> None:
    late = replace(WORKING, tree=TREE, last_tree="d" * 40, review_rounds=2)
    decision = given_up(after_review(review(Decision.REVISE), "", late, BOUNDS))
    assert decision.explanation == "not approved after 3 reviews: in short"


def test_a_conflict_begins_afresh_from_what_landed() -> None:
    files = tuple(f"{n}.py" for n in range(50))
    decision = again(after_conflict(Clash(files), WORKING, BOUNDS))
    assert (decision.attempt.base, decision.attempt.generation) == ("", 3)
    assert "19.py" in decision.attempt.feedback
    assert "20.py" not in decision.attempt.feedback
    assert given_up(after_conflict(Clash(("a.py",)), LAST, BOUNDS)).reason is Reason.CONFLICT


def test_checks_of_the_combined_tree_begin_afresh_with_their_words() -> None:
    assert after_combined_checks(PASSED, WORKING, BOUNDS) == Proceed()
    decision = again(after_combined_checks(FAILED, WORKING, BOUNDS))
    assert decision.attempt.base == ""
    assert "printed" in decision.attempt.feedback
    assert given_up(after_combined_checks(FAILED, LAST, BOUNDS)).reason is Reason.CHECKS


def test_nothing_of_the_last_trys_result_is_taken_for_the_next_ones() -> None:
    worked = replace(WORKING, head="e" * 40, tree=TREE, verified_tree=TREE)
    following = worked.again("more", fresh=False)
    assert (following.head, following.tree, following.verified_tree) == ("", "", "")


def test_feedback_is_bounded() -> None:
    words = "x" * 100_000
    assert len(WORKING.again(words, fresh=True).feedback) == WORDS_MAX


def test_an_explanation_is_bounded() -> None:
    decision = given_up(after_work(Worked(Outcome.FAILED, "exit", "x" * 9_000), LAST, BOUNDS))
    assert len(decision.explanation) < 700


attempts = st.builds(
    Attempt,
    **{
        field.name: {
            "int": st.integers(0, 99),
            "str": st.text(max_size=20),
            "bool": st.booleans(),
            "float": st.floats(0, 99),
            "tuple[str, ...]": st.lists(st.text(max_size=16), max_size=3).map(tuple),
        }[str(field.type)]
        for field in fields(Attempt)
    },
)


@given(attempts)
def test_an_attempt_survives_its_storage(attempt: Attempt) -> None:
    assert Attempt.from_json(attempt.to_json()) == attempt


def test_a_newer_record_is_refused_and_not_misread() -> None:
    with pytest.raises(CommandCenterError, match="newer"):
        Attempt.from_json({**Attempt(1).to_json(), "schema": 2})


# One word for each thing that can happen to a try, in the order of the stages.
HAPPENINGS = (
    "exit", "auth", "no_program", "refused", "lost", "rate_limit", "context",
    "red", "red-not-run", "nothing", "done", "revise", "revise-same", "reject", "invalid",
    "conflict", "combined", "landed",
)  # fmt: skip


def play(attempt: Attempt, happening: str, number: int) -> Next:
    """Return what follows when this happens to a try."""
    attempt = replace(attempt, base="b" * 40, session="s", tree=str(number))
    match happening:
        case "exit" | "auth" | "no_program":
            return after_work(Worked(Outcome.FAILED, happening), attempt, BOUNDS)
        case "refused":
            return after_work(Worked(Outcome.DONE, refused=True), attempt, BOUNDS)
        case "lost" | "rate_limit" | "context":
            return after_work(Worked(Outcome.STOPPED, happening, session="s"), attempt, BOUNDS)
        case "red":
            return after_checks(FAILED, attempt, BOUNDS, changed=True, evident=False)
        case "red-not-run":
            verdict = judge(TREE, [receipt(Found.NOT_RUN)])
            return after_checks(verdict, attempt, BOUNDS, changed=True, evident=False)
        case "nothing" | "done":
            evident = happening == "done"
            return after_checks(UNVERIFIED, attempt, BOUNDS, changed=False, evident=evident)
        case "revise":
            return after_review(review(Decision.REVISE), "", attempt, BOUNDS)
        case "revise-same":
            same = replace(attempt, tree=attempt.last_tree)
            return after_review(review(Decision.REVISE), "", same, BOUNDS)
        case "reject":
            return after_review(review(Decision.REJECT), "", attempt, BOUNDS)
        case "invalid":
            return after_review(None, "", attempt, BOUNDS)
        case "conflict":
            return after_conflict(Clash(("a",)), attempt, BOUNDS)
        case "combined":
            return after_combined_checks(FAILED, attempt, BOUNDS)
        case _:
            return after_combined_checks(PASSED, attempt, BOUNDS)


# The endless ones, mostly: those that end a task at once prove nothing.
unending = st.sampled_from(
    ["exit", "refused", "lost", "rate_limit", "context", "red", "nothing", "revise", "conflict"]
)


@given(st.lists(st.one_of(unending, unending, st.sampled_from(HAPPENINGS)), min_size=40))
def test_whatever_happens_a_task_ends_within_its_bounds(happenings: list[str]) -> None:
    attempt, tries = Attempt(1), 0
    for number, happening in enumerate(happenings):
        tries += 1
        decision = play(attempt, happening, number)
        if not isinstance(decision, TryAgain):
            break
        assert decision.attempt.number == attempt.number + 1
        attempt = decision.attempt
        assert attempt.tries <= BOUNDS.tries_max
        assert attempt.review_rounds < BOUNDS.review_rounds_max
        assert attempt.stops < BOUNDS.stops_max
    else:
        pytest.fail("it went on")
    assert tries <= BOUNDS.tries_max + BOUNDS.review_rounds_max + BOUNDS.stops_max


def test_judgement_names_are_stored_and_stay() -> None:
    assert [each.value for each in Judgement] == ["passed", "failed", "not_run", "unverified"]
