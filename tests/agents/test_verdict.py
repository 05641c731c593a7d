"""A reviewer's verdict: parsed strictly, refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from commandcenter.core.forge import Decision, Issue, Review, Severity
from commandcenter.core.verdict import VERDICT_SCHEMA, InvalidVerdict, parse_verdict

ISSUE = {
    "problem": "Says hallo",
    "severity": "minor",
    "must_fix": False,
    "file": "a.py",
    "line": 3,
    "suggestion": "Say hello",
}
MUST = {"problem": "Does not compile", "severity": "blocker", "must_fix": True}


def parsed(result: Any) -> Review | InvalidVerdict:
    return parse_verdict(result, commit="c0ffee", reviewer="second")


def verdict(decision: object = "approve", **more: object) -> dict[str, object]:
    return {"decision": decision, "summary": "Fine.", "issues": [], **more}


def test_a_whole_verdict_becomes_a_review_of_that_commit() -> None:
    assert parsed(verdict(issues=[ISSUE], id="extra")) == Review(
        commit="c0ffee",
        decision=Decision.APPROVE,
        summary="Fine.",
        issues=(Issue("Says hallo", Severity.MINOR, False, "a.py", 3, "Say hello"),),
        reviewer="second",
    )


def test_an_approval_with_something_left_to_fix_is_none() -> None:
    review = parsed(verdict(issues=[ISSUE, MUST]))

    assert isinstance(review, Review)
    assert review.decision is Decision.REVISE


def test_a_rejection_needs_no_issue_but_a_revision_does() -> None:
    assert isinstance(parsed(verdict("reject")), Review)
    assert isinstance(parsed(verdict("revise")), InvalidVerdict)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "holds no JSON object"),
        ({}, "`decision` must be one of: approve, revise, reject"),
        (verdict("APPROVE"), "`decision`"),
        (verdict(["approve"]), "`decision`"),
        (verdict(summary=""), "`summary` must not be empty"),
        (verdict(summary=5), "`summary` must be a string"),
        (verdict(summary="\ud800"), "`summary` is not valid Unicode"),
        (verdict(summary="x" * 10_001), "`summary` is longer than 10,000"),
        (verdict(issues="none"), "`issues` must be a list"),
        (verdict(issues=["bad"]), "`issues[0]` must be an object"),
        (verdict(issues=[MUST] * 101), "holds 101 issues"),
        (verdict(issues=[{**MUST, "problem": " "}]), "`issues[0].problem` must not be empty"),
        (verdict(issues=[{**MUST, "severity": "huge"}]), "`issues[0].severity`"),
        (verdict(issues=[{**MUST, "must_fix": "yes"}]), "`issues[0].must_fix`"),
        (verdict(issues=[ISSUE, {**MUST, "line": -1}]), "`issues[1].line`"),
        (verdict(issues=[{**MUST, "line": True}]), "`issues[0].line`"),
        (verdict(issues=[{**MUST, "file": None}]), "`issues[0].file`"),
    ],
)
def test_anything_else_is_refused_and_the_words_say_why(result: object, words: str) -> None:
    answer = parsed(result)

    assert isinstance(answer, InvalidVerdict)
    assert words in answer.problem


def test_the_schema_names_the_words_that_the_parser_takes() -> None:
    assert VERDICT_SCHEMA["properties"]["decision"]["enum"] == ["approve", "revise", "reject"]
