"""What a pattern asked and was answered, as JSON (`schema` 1), and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from commandcenter.core.agent import Outcome, Role
from commandcenter.core.change import Change
from commandcenter.core.check import Verdict
from commandcenter.core.errors import newer_record
from commandcenter.core.pattern import Ask, Child, Delegate, Joined, Reply, Shown

Record = dict[str, Any]  # Any: JSON


def ask_to_json(ask: Ask) -> Record:
    """Return the stored form of an ask."""
    return {"schema": 1, "kind": "ask", **asdict(ask)}


def ask_from_json(record: Mapping[str, Any]) -> Ask:  # Any: JSON written by `ask_to_json`
    """Return the ask that was stored.

    Raises:
        InputError: a newer version stored it.
    """
    values = _values(record)
    assert values.pop("kind") == "ask"
    return Ask(
        **{
            **values,
            "role": Role(values["role"]),
            "shown": tuple(Shown(**each) for each in values["shown"]),
            "answers": tuple(values["answers"]),
            "options": tuple(values["options"]),
        }
    )


def delegate_to_json(delegate: Delegate) -> Record:
    """Return the stored form of a delegation: the tasks are in the run's plan."""
    tasks = [task.id for task in delegate.tasks]
    return {"schema": 1, "kind": "delegate", "tasks": tasks, "reason": delegate.reason}


def reply_to_json(reply: Reply) -> Record:
    """Return the stored form of a reply."""
    return {
        "schema": 1,
        "kind": "reply",
        **asdict(reply),
        "result": None if reply.result is None else dict(reply.result),
        "verdict": reply.verdict.to_json() if reply.verdict else None,
    }


def joined_to_json(joined: Joined) -> Record:
    """Return the stored form of what came of a delegation."""
    verdict = joined.verdict.to_json() if joined.verdict else None
    return {"schema": 1, "kind": "joined", **asdict(joined), "verdict": verdict}


def answer_from_json(record: Mapping[str, Any]) -> Reply | Joined:  # Any: JSON written here
    """Return the reply, or what came of a delegation, that was stored.

    Raises:
        InputError: a newer version stored it.
    """
    values = _values(record)
    verdict = Verdict.from_json(values["verdict"]) if values["verdict"] else None
    if values.pop("kind") == "joined":
        children = tuple(Child(**each) for each in values["children"])
        return Joined(**{**values, "children": children, "verdict": verdict})
    return Reply(
        **{
            **values,
            "outcome": Outcome(values["outcome"]),
            "change": _change(values["change"]),
            "verdict": verdict,
            "flags": tuple(values["flags"]),
        }
    )


def _change(record: Mapping[str, Any] | None) -> Change | None:
    if record is None:
        return None
    lists = {"files": tuple(record["files"]), "notes": tuple(record["notes"])}
    return Change(**{**record, **lists})


def _values(record: Mapping[str, Any]) -> Record:
    if record["schema"] != 1:
        raise newer_record("a pattern's round")
    # `by` is who gave it: for the flow alone.
    return {key: value for key, value in record.items() if key not in ("schema", "by")}
