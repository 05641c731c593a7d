"""What agents answer each other: parsed by its schema, or refused in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commandcenter.core.contract import (
    CHOICE,
    HANDOFF,
    LEDGER,
    RESULT,
    ROUTE,
    SCHEMAS,
    SUBPLAN,
    Invalid,
    Valid,
    parse,
)

YES = {"answer": True, "reason": ""}
NO = {"answer": False, "reason": "not yet"}
FACTS: dict[str, list[str]] = {"given": ["a"], "lookup": [], "derive": [], "guess": []}
PART = {"id": "a", "title": "A", "instructions": "Do it"}
GOOD: dict[str, dict[str, Any]] = {
    RESULT: {
        "outcome": "done",
        "summary": "Did it",
        "claims": [{"command": "make", "exit_code": 0}],
    },
    CHOICE: {"ranking": ["b", "a"], "scores": {"a": 3, "b": 9.5}, "reason": "smaller"},
    ROUTE: {"profile": "a", "reason": "docs"},
    HANDOFF: {"to": "b", "reason": "yours", "summary": "half", "files": ["a.py"]},
    SUBPLAN: {"tasks": [PART], "rationale": "one is enough"},
    LEDGER: {
        "facts": FACTS,
        "plan": ["do"],
        "satisfied": NO,
        "in_loop": NO,
        "progress": YES,
        "next": {"profile": "a", "instruction": "go"},
    },
}
OPTIONS = ("a", "b")


def parsed(schema: str, **changed: object) -> Valid | Invalid:
    return parse({"schema": schema, **GOOD[schema], **changed}, [schema], OPTIONS)


def problem(answer: Valid | Invalid) -> str:
    assert isinstance(answer, Invalid)
    return answer.problem


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=dict))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_whole_answer_is_given_as_it_is(schema: str) -> None:
    assert parsed(schema) == Valid(schema, {"schema": schema, **GOOD[schema]})


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_is_shown_to_agents_is_a_json_schema_that_good_answers_fit(schema: str) -> None:
    shown = plain(SCHEMAS[schema])

    jsonschema.Draft202012Validator.check_schema(shown)
    jsonschema.validate({"schema": schema, **GOOD[schema]}, shown)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_key_that_the_schema_does_not_have_is_refused(schema: str) -> None:
    assert problem(parsed(schema, extra=1)) == (
        "`extra` is not a part of the schema: leave it out."
    )


def test_the_schema_may_be_left_out_where_only_one_is_allowed() -> None:
    assert parse(GOOD[ROUTE], [ROUTE], OPTIONS) == Valid(ROUTE, {"schema": ROUTE, **GOOD[ROUTE]})
    assert problem(parse(GOOD[HANDOFF], [RESULT, HANDOFF], OPTIONS)) == (
        "`schema` is missing: it must be `cc.result/1` or `cc.handoff/1`."
    )


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        ("cc.route/2", "has the version '2', which is not known here"),
        ("cc.verdict/1", "is 'cc.verdict/1', which was not asked for"),
        ("cc.route/\ud800", "has the version '\\ud800'"),
        ("", "is '', which was not asked for"),
        (1, "must be a string"),
        ([], "must be a string"),
    ],
)
def test_another_schema_is_refused_in_words(claimed: object, words: str) -> None:
    said = problem(parse({**GOOD[ROUTE], "schema": claimed}, [ROUTE], OPTIONS))

    assert words in said.replace("\\\\", "\\")
    assert "`cc.route/1`" in said
    assert said.isascii()


def test_nothing_at_all_is_told_how_to_answer() -> None:
    assert "`cc.route/1`" in problem(parse(None, [ROUTE], OPTIONS))


def test_what_is_wrong_says_which_schema_it_claimed() -> None:
    answer = parse({"schema": HANDOFF, **GOOD[HANDOFF], "to": "x"}, [RESULT, HANDOFF], OPTIONS)

    assert isinstance(answer, Invalid)
    assert answer.schema == HANDOFF


@pytest.mark.parametrize(
    ("schema", "changed", "words"),
    [
        (RESULT, {"outcome": "great"}, "`outcome` must be one of: done, blocked, failed"),
        (RESULT, {"outcome": ["done"]}, "`outcome` must be one of"),
        (RESULT, {"summary": "x" * 2001}, "`summary` is longer than 2,000 characters."),
        (RESULT, {"summary": "\ud800"}, "`summary` is not valid Unicode."),
        (RESULT, {"summary": None}, "`summary` must be a string."),
        (RESULT, {"follow_ups": ["x"] * 51}, "`follow_ups` holds 51 items, more than 50."),
        (RESULT, {"follow_ups": "x"}, "`follow_ups` must be a list."),
        (RESULT, {"claims": ["make"]}, "`claims[0]` must be an object."),
        (RESULT, {"claims": [{"command": "make"}]}, "`claims[0].exit_code` is missing."),
        (
            RESULT,
            {"claims": [{"command": "make", "exit_code": True}]},
            "`claims[0].exit_code` must be a whole number of 32 bits.",
        ),
        (CHOICE, {"ranking": ["a"]}, "`ranking` must name each of a, b once"),
        (CHOICE, {"ranking": ["a", "a"]}, "`ranking` must name each of a, b once"),
        (CHOICE, {"ranking": []}, "`ranking` must not be empty."),
        (CHOICE, {"scores": {"a": 11}}, "`scores.a` must be a number from 0 to 10."),
        (CHOICE, {"scores": {"a": float("nan")}}, "`scores.a` must be a number from 0 to 10."),
        (CHOICE, {"scores": {"c": 1}}, "must be one of: a, b."),
        (CHOICE, {"scores": {"\ud800": 1}}, "is not valid Unicode."),
        (CHOICE, {"disqualified": [{"id": "c", "reason": ""}]}, "must be one of: a, b."),
        (ROUTE, {"profile": "root"}, "`profile` must be one of: a, b."),
        (HANDOFF, {"to": "root"}, "`to` must be one of: a, b."),
        (SUBPLAN, {"tasks": []}, "`tasks` must not be empty."),
        (SUBPLAN, {"tasks": [{**PART, "title": " "}]}, "`tasks[0].title` must not be empty."),
        (LEDGER, {"satisfied": {"answer": "yes", "reason": ""}}, "must be true or false."),
        (LEDGER, {"next": {"profile": "c", "instruction": "x"}}, "`next.profile` must be one of"),
    ],
)
def test_what_does_not_fit_is_told_by_its_place(
    schema: str, changed: dict[str, object], words: str
) -> None:
    assert words in problem(parsed(schema, **changed)).replace("`Next", "`next")


def test_who_is_next_may_be_left_out_only_when_satisfied() -> None:
    without = {key: value for key, value in GOOD[LEDGER].items() if key != "next"}

    assert "`next` is missing" in problem(parse(without, [LEDGER], OPTIONS))
    assert isinstance(parse({**without, "satisfied": YES}, [LEDGER], OPTIONS), Valid)


def test_an_answer_is_bounded_as_a_whole_too() -> None:
    long = [{**PART, "id": str(n), "instructions": "x" * 9_000} for n in range(30)]

    assert problem(parsed(SUBPLAN, tasks=long)) == "The answer is longer than 250,000 characters."


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.just("\udc80"),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)


@st.composite
def near_misses(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Return a good answer of which some part is replaced by any JSON."""
    schema = draw(st.sampled_from(sorted(SCHEMAS)))
    value = plain({"schema": schema, **GOOD[schema]})
    at: Any = value
    while isinstance(at, Mapping) and at:
        key = draw(st.sampled_from(sorted(at)))
        if not isinstance(at[key], Mapping) or draw(st.booleans()):
            at[key] = draw(JSON)  # type: ignore[index]
            break
        at = at[key]
    return schema, value


@settings(deadline=None, max_examples=150)
@given(near_misses())
def test_whatever_is_said_is_either_valid_json_of_the_schema_or_refused(
    case: tuple[str, dict[str, Any]],
) -> None:
    schema, value = case

    answer = parse(value, [schema], OPTIONS)

    if isinstance(answer, Valid):
        jsonschema.validate(answer.value, plain(SCHEMAS[schema]))
        json.dumps(answer.value, ensure_ascii=False, allow_nan=False).encode()
    else:
        answer.problem.encode()
        assert len(answer.problem) < 600
