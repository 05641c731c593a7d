"""The notation of patterns: what each text says, and what is told of one that says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commandcenter.core.agent import Role
from commandcenter.core.pattern import (
    Chain,
    Handoff,
    Magentic,
    Orchestrate,
    Pattern,
    Pick,
    Route,
    Rule,
    Single,
    Stage,
    Vote,
)
from commandcenter.core.plan import ReviewPolicy, TaskLimits
from commandcenter.core.plan.notation import (
    Fault,
    handoff_text,
    limits_text,
    parse_handoff,
    parse_limits,
    parse_pattern,
    parse_profile,
    parse_review,
    parse_roles,
    pattern_text,
    review_text,
    roles_text,
)

RULES = (Rule("docs/**", "docs"), Rule("area=db", "dba"))


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("single", Single()),
        ("single()", Single()),
        ("chain", Chain()),
        ("chain(claude, codex)", Chain((Stage(profile="claude"), Stage(profile="codex")))),
        (
            'chain("write the tests", codex: "make them pass", attempts=3)',
            Chain((Stage("write the tests"), Stage("make them pass", "codex")), 3),
        ),
        ("route(docs, claude)", Route(("docs", "claude"))),
        (
            'route(docs, claude, rules=["docs/** -> docs", "area=db -> dba"], by=rules, '
            "fallback=claude)",
            Route(("docs", "claude"), RULES, ask=False, fallback="claude"),
        ),
        ("vote(3)", Vote(3)),
        (
            " vote( 3 , agents=[claude,codex], judge=none, pick=first-green, quorum=2 ) ",
            Vote(3, ("claude", "codex"), judged=False, pick=Pick.FIRST_GREEN, quorum=2),
        ),
        ("vote(2, judge=opus)", Vote(2, judge="opus")),
        ("plan", Orchestrate()),
        ("plan(4)", Orchestrate(4)),
        ("plan(max_tasks=4, planner=opus)", Orchestrate(4, "opus")),
        ("magentic", Magentic()),
        (
            "magentic(team=[claude, codex], manager=opus, rounds=9, stalls=0, resets=1)",
            Magentic(("claude", "codex"), "opus", 9, 0, 1),
        ),
        ("magentic([claude, codex])", Magentic(("claude", "codex"))),
        ('vote(2, judge="my profile")', Vote(2, judge="my profile")),
    ],
)
def test_a_pattern_is_what_its_text_says(text: str, pattern: Pattern) -> None:
    assert parse_pattern(text) == pattern


@pytest.mark.parametrize(
    ("text", "column", "words", "hint"),
    [
        ("", 1, "the text ends", ""),
        ("voet(3)", 1, "no pattern `voet`", "did you mean `vote`?"),
        ("vote", 5, "needs a number", "write `vote(3)`"),
        ("vote(9)", 6, "is 9, which is not 2 to 7", ""),
        ("vote(three)", 6, "no whole number", ""),
        ("vote(3, quorum=4)", 16, "not 1 to 3", ""),
        ("vote(2, agents=[a, b, c])", 16, "names 3 profiles; 2 are possible", ""),
        ("vote(3, pick=first)", 14, "cannot be `first`", "did you mean `first-green`?"),
        ("vote(3, jugde=opus)", 9, "no `jugde=`", "did you mean `judge`?"),
        ("vote(3, judge=a, judge=b)", 18, "there twice", ""),
        ("vote(3, 4)", 9, "`4` means nothing here", ""),
        ("vote(3", 7, "the text ends where `)` should be", ""),
        ("vote(3) and more", 9, "`and` stands where the end should be", ""),
        ('chain("write', 7, "never closed", ""),
        ('chain("")', 7, "nothing to do", ""),
        ("chain(a:b)", 9, "`b` stands where a quoted text should be", ""),
        ("chain(attempts=99)", 16, "not 1 to 10", ""),
        ("route(docs)", 7, "2 to 12", ""),
        ("route(docs, by=rules)", 16, "has no rules", ""),
        ('route(a, b, rules=["docs"])', 20, "`docs` is no rule", ""),
        ("plan(21)", 6, "not 1 to 20", ""),
        ("plan(4, max_tasks=4)", 19, "there twice", ""),
        ("magentic(rounds=1)", 17, "not 2 to 100", ""),
        ("magentic(manager=[a])", 18, "not a list", ""),
        ("single(3)", 8, "means nothing here", ""),
        (f"chain({'a, ' * 12}a)", 7, "13 stages", ""),
        ("x" * 10_001, 1, "longer than 10,000", ""),
    ],
)
def test_a_fault_says_where_it_is_and_what_was_meant(
    text: str, column: int, words: str, hint: str
) -> None:
    fault = parse_pattern(text)

    assert isinstance(fault, Fault)
    assert fault.column == column
    assert words in fault.message
    assert hint in fault.hint


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_review, "2", ReviewPolicy(2)),
        (parse_review, "0", ReviewPolicy(0)),
        (parse_review, "none", ReviewPolicy(0)),
        (parse_review, "2, reviewer=codex", ReviewPolicy(2, "codex")),
        (parse_review, "reviewer=codex", ReviewPolicy(None, "codex")),
        (parse_review, "reviewer=none", ReviewPolicy(0)),
        (parse_handoff, "none", Handoff()),
        (parse_handoff, "[claude, codex], max=5", Handoff(("claude", "codex"), 5)),
        (parse_handoff, "claude, codex", Handoff(("claude", "codex"))),
        (parse_limits, "attempts=2, timeout=90m, budget_usd=12", TaskLimits(2, 5400.0, 12.0)),
        (parse_limits, "timeout=90, budget_usd=$0.5", TaskLimits(None, 90.0, 0.5)),
        (parse_profile, "codex", "codex"),
        (parse_roles, "judge=opus, plan=opus", {Role.JUDGE: "opus", Role.PLAN: "opus"}),
    ],
)
def test_what_belongs_to_a_pattern_is_read(
    parse: Callable[[str], object], text: str, value: object
) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_review, "", "nothing is said"),
        (parse_review, "21", "not 0 to 20"),
        (parse_review, "by Anna", "should be"),
        (parse_handoff, "", "no profile"),
        (parse_handoff, "[a], max=11", "not 1 to 10"),
        (parse_limits, "", "no limit"),
        (parse_limits, "3", "means nothing"),
        (parse_limits, "attempts=0", "not 1 to 100"),
        (parse_limits, "timeout=soon", "no duration"),
        (parse_limits, "timeout=999h", "not 1s to 168h"),
        (parse_limits, "budget_usd=lots", "no amount"),
        (parse_profile, "", "no profile"),
        (parse_profile, "a, b", "2 profiles"),
        (parse_roles, "", "no role"),
        (parse_roles, "jugde=opus", "no `jugde=`"),
    ],
)
def test_what_cannot_be_read_is_told(parse: Callable[[str], object], text: str, words: str) -> None:
    fault = parse(text)

    assert isinstance(fault, Fault)
    assert words in fault.message


def test_a_fault_names_the_word_that_it_is_about() -> None:
    text = "vote(3, jugde=opus)"
    fault = parse_pattern(text)

    assert isinstance(fault, Fault)
    assert fault.word(text) == "jugde"
    assert Fault(len(text) + 1, "at the end").word(text) == ""


PROFILES = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,8}", fullmatch=True).filter(
    lambda name: name != "none"
)
NOBODY = st.one_of(st.just(""), PROFILES)
TEXTS = st.text(min_size=1, max_size=30).filter(str.strip)
GLOBS = st.text(min_size=1, max_size=12).map(str.strip).filter(bool)


def several(of: st.SearchStrategy[str], least: int = 0, most: int = 5) -> st.SearchStrategy[object]:
    return st.lists(of, min_size=least, max_size=most).map(tuple)


STAGES = st.one_of(st.builds(Stage, TEXTS, NOBODY), st.builds(Stage, profile=PROFILES))
PATTERNS = st.one_of(
    st.just(Single()),
    st.builds(Chain, st.lists(STAGES, max_size=12).map(tuple), st.integers(1, 10)),
    st.builds(
        Route,
        several(PROFILES, 2),
        st.lists(st.builds(Rule, GLOBS, PROFILES), max_size=4).map(tuple),
        st.just(True),
        NOBODY,
    ),
    st.builds(
        Vote,
        st.integers(2, 7),
        several(PROFILES, most=2),
        st.just(True),
        NOBODY,
        st.sampled_from(Pick),
        st.integers(1, 2),
    ),
    st.builds(Vote, st.integers(2, 7), judged=st.just(False)),
    st.builds(Orchestrate, st.integers(1, 20), NOBODY),
    st.builds(
        Magentic,
        several(PROFILES),
        NOBODY,
        st.integers(2, 100),
        st.integers(0, 100),
        st.integers(0, 100),
    ),
)


@given(PATTERNS)
def test_the_text_of_a_pattern_says_that_pattern(pattern: Pattern) -> None:
    assert parse_pattern(pattern_text(pattern)) == pattern


ROLES = st.dictionaries(st.sampled_from(Role), TEXTS, min_size=1)


@given(ROLES)
def test_the_text_of_roles_says_those_roles(roles: Mapping[Role, str]) -> None:
    assert parse_roles(roles_text(roles)) == roles


@given(
    st.builds(
        TaskLimits,
        st.integers(1, 100),
        st.integers(1, 100_000).map(float),
        st.integers(0, 10**8).map(lambda cents: cents / 100),
    )
)
def test_the_text_of_limits_says_those_limits(limits: TaskLimits) -> None:
    assert parse_limits(limits_text(limits)) == limits


@given(several(PROFILES, 1), st.integers(1, 10))
def test_the_text_of_a_handoff_says_that_handoff(to: tuple[str, ...], most: int) -> None:
    assert parse_handoff(handoff_text(Handoff(to, most))) == Handoff(to, most)


@pytest.mark.parametrize("policy", [ReviewPolicy(0), ReviewPolicy(2), ReviewPolicy(None, "b c")])
def test_the_text_of_a_review_says_that_review(policy: ReviewPolicy) -> None:
    assert parse_review(review_text(policy)) == policy


@given(st.text(max_size=80))
def test_any_text_is_a_pattern_or_a_fault_within_it(text: str) -> None:
    found = parse_pattern(text)
    assert not isinstance(found, Fault) or 1 <= found.column <= len(text) + 1


@given(st.text(alphabet='vote(3,ajudge=[]":5 "', max_size=40).map("vote({}".format))
def test_what_is_almost_a_pattern_is_one_or_a_fault_within_it(text: str) -> None:
    found = parse_pattern(text)
    assert not isinstance(found, Fault) or 1 <= found.column <= len(text) + 1
