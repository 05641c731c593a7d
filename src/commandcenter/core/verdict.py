"""A reviewing agent's verdict (`cc.verdict/1`): parsed strictly, or refused in words it can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from commandcenter.core.forge import Decision, Issue, Review, Severity

ISSUES_MAX = 100
WORDS_MAX = 10_000

VERDICT_SCHEMA: Mapping[str, Any] = MappingProxyType(  # Any: a JSON schema
    {
        "type": "object",
        "required": ["decision", "summary", "issues"],
        "properties": {
            "decision": {"enum": [decision.value for decision in Decision]},
            "summary": {"type": "string", "minLength": 1, "maxLength": WORDS_MAX},
            "issues": {
                "type": "array",
                "maxItems": ISSUES_MAX,
                "items": {
                    "type": "object",
                    "required": ["problem", "severity", "must_fix"],
                    "properties": {
                        "problem": {"type": "string", "minLength": 1, "maxLength": WORDS_MAX},
                        "severity": {"enum": [severity.value for severity in Severity]},
                        "must_fix": {"type": "boolean"},
                        "file": {"type": "string"},
                        "line": {"type": "integer", "minimum": 0},
                        "suggestion": {"type": "string", "maxLength": WORDS_MAX},
                    },
                },
            },
        },
    }
)
"""What a reviewer is asked for; goes into its prompt."""


@dataclass(frozen=True)
class InvalidVerdict:
    """What a reviewer said is not a verdict. Never counts as an approval."""

    problem: str
    """One sentence that tells the reviewer what to mend."""


def parse_verdict(
    result: Mapping[str, Any] | None,  # Any: JSON as the agent wrote it
    *,
    commit: str,
    reviewer: str,
) -> Review | InvalidVerdict:
    """Return the review of `commit` that this structured result is, or what is wrong with it.

    An approval that leaves a must-fix issue open is a request for changes. Keys that the schema
    does not name are ignored.
    """
    if result is None:
        return InvalidVerdict(
            "The answer holds no JSON object: answer with one, as the schema says."
        )
    try:
        review = _review(result, commit, reviewer)
    except _Wrong as wrong:
        return InvalidVerdict(str(wrong))
    must_fix = any(issue.must_fix for issue in review.issues)
    if review.decision is Decision.APPROVE and must_fix:
        return replace(review, decision=Decision.REVISE)
    if review.decision is Decision.REVISE and not review.issues:
        return InvalidVerdict("The decision is `revise`, but `issues` names nothing to revise.")
    return review


class _Wrong(Exception):  # noqa: N818 - leaves this module as `InvalidVerdict`
    """The sentence that says what is wrong."""


def _review(result: Mapping[str, Any], commit: str, reviewer: str) -> Review:
    issues = result.get("issues", [])
    if not isinstance(issues, list):
        raise _Wrong("`issues` must be a list.")
    if len(issues) > ISSUES_MAX:
        raise _Wrong(f"`issues` holds {len(issues)} issues, more than {ISSUES_MAX}.")
    return Review(
        commit=commit,
        decision=_choice(result.get("decision"), Decision, "decision"),
        summary=_words(result.get("summary"), "summary"),
        issues=_issues(issues),
        reviewer=reviewer,
    )


def _issues(issues: Sequence[Any]) -> tuple[Issue, ...]:
    return tuple(_issue(issue, f"issues[{index}]") for index, issue in enumerate(issues))


def _issue(issue: Any, where: str) -> Issue:
    if not isinstance(issue, dict):
        raise _Wrong(f"`{where}` must be an object.")
    line = issue.get("line", 0)
    if type(line) is not int or line < 0:
        raise _Wrong(f"`{where}.line` must be a line number, or 0.")
    must_fix = issue.get("must_fix", True)
    if type(must_fix) is not bool:
        raise _Wrong(f"`{where}.must_fix` must be true or false.")
    return Issue(
        problem=_words(issue.get("problem"), f"{where}.problem"),
        severity=_choice(issue.get("severity", "major"), Severity, f"{where}.severity"),
        must_fix=must_fix,
        file=_words(issue.get("file", ""), f"{where}.file", empty=True),
        line=line,
        suggestion=_words(issue.get("suggestion", ""), f"{where}.suggestion", empty=True),
    )


_Word = TypeVar("_Word", bound=StrEnum)


def _choice(value: Any, words: type[_Word], where: str) -> _Word:
    if isinstance(value, str) and value in set(words):
        return words(value)
    raise _Wrong(f"`{where}` must be one of: {', '.join(words)}.")


def _words(value: Any, where: str, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"`{where}` must be a string.")
    if not empty and not value.strip():
        raise _Wrong(f"`{where}` must not be empty.")
    if len(value) > WORDS_MAX:
        raise _Wrong(f"`{where}` is longer than {WORDS_MAX:,} characters.")
    try:
        value.encode()
    except UnicodeEncodeError:
        # JSON can spell lone surrogates, which no file, database or forge can store.
        raise _Wrong(f"`{where}` is not valid Unicode.") from None
    return value
