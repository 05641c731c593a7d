"""What agents answer to each other: versioned schemas, parsed strictly or refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

RESULT = "cc.result/1"
"""How somebody who works says that the work went."""
CHOICE = "cc.choice/1"
"""A judge's ranking of labelled candidates."""
ROUTE = "cc.route/1"
"""Whom a task is routed to."""
HANDOFF = "cc.handoff/1"
"""To whom work is passed on."""
SUBPLAN = "cc.subplan/1"
"""The tasks that a planner splits one into."""
LEDGER = "cc.ledger/1"
"""A manager's ledger, and who acts next."""

WORDS_MAX = 2_000
TEXT_MAX = 10_000
"""Most characters of what a task or a specialist is told to do."""
LINE_MAX = 500
ITEMS_MAX = 50
ANSWER_MAX = 250_000
"""Most characters of a whole answer, as JSON."""

Schema = Mapping[str, Any]  # Any: a JSON schema


def _object(required: Sequence[str], **properties: Schema) -> Schema:
    return MappingProxyType(
        {
            "type": "object",
            "required": tuple(required),
            "additionalProperties": False,
            "properties": MappingProxyType(properties),
        }
    )


def _text(most: int, least: int = 0) -> Schema:
    return MappingProxyType({"type": "string", **_least("minLength", least), "maxLength": most})


def _list(items: Schema, most: int = ITEMS_MAX, least: int = 0) -> Schema:
    return MappingProxyType(
        {"type": "array", **_least("minItems", least), "maxItems": most, "items": items}
    )


def _least(name: str, least: int) -> Mapping[str, int]:
    return {name: least} if least else {}


def _one_of(*words: str) -> Schema:
    return MappingProxyType({"enum": words})


_LINE = _text(LINE_MAX, 1)
_WORDS = _text(WORDS_MAX)
_LINES = _list(_LINE)
_BOOLEAN: Schema = MappingProxyType({"type": "boolean"})
_INTEGER: Schema = MappingProxyType({"type": "integer"})
_SCORE: Schema = MappingProxyType({"type": "number", "minimum": 0, "maximum": 10})
_ANSWERED = _object(["answer", "reason"], answer=_BOOLEAN, reason=_WORDS)


def _versioned(name: str, required: Sequence[str], **properties: Schema) -> Schema:
    return _object(["schema", *required], schema=_one_of(name), **properties)


SCHEMAS: Mapping[str, Schema] = MappingProxyType(
    {
        RESULT: _versioned(
            RESULT,
            ["outcome", "summary"],
            outcome=_one_of("done", "blocked", "failed", "needs_input"),
            summary=_WORDS,
            notes=_WORDS,
            claims=_list(_object(["command", "exit_code"], command=_LINE, exit_code=_INTEGER)),
            follow_ups=_LINES,
        ),
        CHOICE: _versioned(
            CHOICE,
            ["ranking", "reason"],
            ranking=_list(_LINE, least=1),
            scores=MappingProxyType(
                {"type": "object", "maxProperties": ITEMS_MAX, "additionalProperties": _SCORE}
            ),
            disqualified=_list(_object(["id", "reason"], id=_LINE, reason=_WORDS)),
            reason=_WORDS,
        ),
        ROUTE: _versioned(ROUTE, ["profile", "reason"], profile=_LINE, reason=_WORDS),
        HANDOFF: _versioned(
            HANDOFF,
            ["to", "reason", "summary"],
            to=_LINE,
            reason=_WORDS,
            summary=_WORDS,
            files=_LINES,
        ),
        SUBPLAN: _versioned(
            SUBPLAN,
            ["tasks"],
            tasks=_list(
                _object(
                    ["id", "title", "instructions"],
                    id=_LINE,
                    title=_LINE,
                    instructions=_text(TEXT_MAX, 1),
                    depends_on=_LINES,
                    files=_LINES,
                    verification=_list(_text(WORDS_MAX, 1)),
                ),
                least=1,
            ),
            rationale=_WORDS,
        ),
        LEDGER: _versioned(
            LEDGER,
            ["facts", "plan", "satisfied", "in_loop", "progress"],
            facts=_object(
                ["given", "lookup", "derive", "guess"],
                given=_LINES,
                lookup=_LINES,
                derive=_LINES,
                guess=_LINES,
            ),
            plan=_LINES,
            satisfied=_ANSWERED,
            in_loop=_ANSWERED,
            progress=_ANSWERED,
            next=_object(
                ["profile", "instruction"],
                profile=_LINE,
                instruction=_text(TEXT_MAX, 1),
                reason=_WORDS,
            ),
            what_went_wrong=_WORDS,
        ),
    }
)
"""The JSON schema of every answer by its name and major version; shown to who is asked."""


def plain(schema: Schema) -> dict[str, Any]:
    """Return a schema, made of read-only mappings, as plain JSON."""
    return {key: _plain(value) for key, value in schema.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Valid:
    """An answer that can be used. Still a claim."""

    schema: str
    value: dict[str, Any]  # Any: JSON, valid by the schema


@dataclass(frozen=True)
class Invalid:
    """What was said is no answer. Never counts as one."""

    problem: str
    """A sentence or more that tells who is asked what to mend."""
    schema: str = ""
    """Which of the allowed schemas it claims to have, if any."""


def parse(
    result: Mapping[str, Any] | None,  # Any: JSON as the agent wrote it
    answers: Sequence[str],
    options: Sequence[str],
) -> Valid | Invalid:
    """Return the answer by one of the schemas `answers`, or what is wrong with it.

    `options` are the names that it may choose among: labels for `cc.choice/1`, which ranks each
    once; profiles for the others. `schema` may be left out where only one is allowed.
    """
    if result is None:
        return Invalid(
            "The answer holds no JSON object: write one, by "
            f"{_listed(answers)}, to the file named by `$CC_RESULT_FILE`, or as your last message."
        )
    claimed = result.get("schema", answers[0] if len(answers) == 1 else None)
    if not isinstance(claimed, str) or claimed not in answers:
        return Invalid(_unknown(claimed, answers))
    value = {**result, "schema": claimed}
    try:
        _fits(value, SCHEMAS[claimed], "")
        _CHOICES.get(claimed, _chooses_nothing)(value, options)
        _is_short(value)
    except _Wrong as wrong:
        return Invalid(str(wrong), claimed)
    return Valid(claimed, value)


class _Wrong(Exception):  # noqa: N818 - leaves this module as `Invalid`
    """The sentence that says what is wrong."""


def _unknown(claimed: object, answers: Sequence[str]) -> str:
    if claimed is None:
        return f"`schema` is missing: it must be {_listed(answers)}."
    if not isinstance(claimed, str):
        return f"`schema` must be a string: {_listed(answers)}."
    family, _, version = claimed.rpartition("/")
    if any(family and family == answer.rpartition("/")[0] for answer in answers):
        return (
            f"`schema` has the version {_brief(version)!r}, which is not known here: it must be "
            f"{_listed(answers)}."
        )
    return (
        f"`schema` is {_brief(claimed)!r}, which was not asked for: it must be {_listed(answers)}."
    )


def _listed(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _brief(text: str) -> str:
    return ascii(text[:60])[1:-1]


# Does it fit the schema? Any below: JSON that is not yet known to be valid.


def _fits(value: Any, schema: Schema, where: str) -> None:
    if "enum" in schema:
        if not isinstance(value, str) or value not in schema["enum"]:
            raise _Wrong(f"{_at(where)} must be one of: {', '.join(schema['enum'])}.")
        return
    _KINDS[schema["type"]](value, schema, where)


def _fits_object(value: Any, schema: Schema, where: str) -> None:
    if not isinstance(value, Mapping):
        raise _Wrong(f"{_at(where)} must be an object.")
    known, others = schema.get("properties", {}), schema["additionalProperties"]
    for key in schema.get("required", ()):
        if key not in value:
            raise _Wrong(f"{_at(_inside(where, key))} is missing.")
    if len(value) > schema.get("maxProperties", len(value)):
        raise _Wrong(f"{_at(where)} has {len(value)} keys, more than {schema['maxProperties']}.")
    for key, item in value.items():
        _fits_text(key, _LINE, f"{where}, a key" if where else "a key")
        if key not in known and others is False:
            raise _Wrong(f"{_at(_inside(where, key))} is not a part of the schema: leave it out.")
        _fits(item, known.get(key, others), _inside(where, key))


def _fits_array(value: Any, schema: Schema, where: str) -> None:
    if not isinstance(value, list | tuple):
        raise _Wrong(f"{_at(where)} must be a list.")
    if len(value) > schema["maxItems"]:
        raise _Wrong(f"{_at(where)} holds {len(value)} items, more than {schema['maxItems']}.")
    if len(value) < schema.get("minItems", 0):
        raise _Wrong(f"{_at(where)} must not be empty.")
    for index, item in enumerate(value):
        _fits(item, schema["items"], f"{where}[{index}]")


def _fits_text(value: Any, schema: Schema, where: str) -> None:
    if not isinstance(value, str):
        raise _Wrong(f"{_at(where)} must be a string.")
    if len(value) > schema["maxLength"]:
        raise _Wrong(f"{_at(where)} is longer than {schema['maxLength']:,} characters.")
    if "minLength" in schema and not value.strip():
        raise _Wrong(f"{_at(where)} must not be empty.")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        # JSON can spell lone surrogates, which no file, database or forge can store.
        raise _Wrong(f"{_at(where)} is not valid Unicode.")


def _fits_boolean(value: Any, schema: Schema, where: str) -> None:
    if type(value) is not bool:
        raise _Wrong(f"{_at(where)} must be true or false.")


def _fits_integer(value: Any, schema: Schema, where: str) -> None:
    if type(value) is not int or abs(value) >= 2**31:
        raise _Wrong(f"{_at(where)} must be a whole number of 32 bits.")


def _fits_number(value: Any, schema: Schema, where: str) -> None:
    low, high = schema["minimum"], schema["maximum"]
    if type(value) not in (int, float) or not low <= value <= high:
        raise _Wrong(f"{_at(where)} must be a number from {low} to {high}.")


_KINDS: Mapping[str, Callable[[Any, Schema, str], None]] = {
    "object": _fits_object,
    "array": _fits_array,
    "string": _fits_text,
    "boolean": _fits_boolean,
    "integer": _fits_integer,
    "number": _fits_number,
}


def _inside(where: str, key: str) -> str:
    return f"{where}.{_brief(key)}" if where else _brief(key)


def _at(where: str) -> str:
    return f"`{where}`" if where else "The answer"


# Does it choose among what there is?


def _chooses_nothing(value: Mapping[str, Any], options: Sequence[str]) -> None:
    """All that the schema says is all that there is to say."""


def _ranks_each_once(value: Mapping[str, Any], options: Sequence[str]) -> None:
    if sorted(value["ranking"]) != sorted(options):
        raise _Wrong(f"`ranking` must name each of {', '.join(options)} once, the best first.")
    for label in [
        *value.get("scores", {}),
        *(each["id"] for each in value.get("disqualified", ())),
    ]:
        _is_option(label, options, "each label in `scores` and `disqualified`")


def _routes(value: Mapping[str, Any], options: Sequence[str]) -> None:
    _is_option(value["profile"], options, "`profile`")


def _hands_on(value: Mapping[str, Any], options: Sequence[str]) -> None:
    _is_option(value["to"], options, "`to`")


def _names_the_next(value: Mapping[str, Any], options: Sequence[str]) -> None:
    if "next" in value:
        _is_option(value["next"]["profile"], options, "`next.profile`")
    elif not value["satisfied"]["answer"]:
        raise _Wrong("`next` is missing: who is to act next, as `satisfied.answer` is false?")


def _is_short(value: Mapping[str, Any]) -> None:
    if len(json.dumps(value, ensure_ascii=False)) > ANSWER_MAX:
        raise _Wrong(f"The answer is longer than {ANSWER_MAX:,} characters.")


def _is_option(name: str, options: Sequence[str], where: str) -> None:
    if name not in options:
        raise _Wrong(f"{where[0].upper()}{where[1:]} must be one of: {', '.join(options)}.")


_CHOICES: Mapping[str, Callable[[Mapping[str, Any], Sequence[str]], None]] = {
    CHOICE: _ranks_each_once,
    ROUTE: _routes,
    HANDOFF: _hands_on,
    LEDGER: _names_the_next,
}
