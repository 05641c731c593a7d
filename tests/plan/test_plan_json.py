"""The canonical JSON: there and back, and what is said of one that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commandcenter.core.plan import PlanRecordError, from_json, to_json
from commandcenter.readers import PlanSource, read_plan

SAMPLES = Path(__file__).parent / "samples"

SMALL = """{
  "schema": "cc.plan/1",
  "batches": [{"id": "1", "title": "A", "ordinal": 1}],
  "tasks": [
    {"id": "1.1", "title": "Do it", "batch": "1",
     "verification": [{"kind": "command", "text": "true"}]}
  ]
}"""


def fault(text: str) -> str:
    result = read_plan(PlanSource(text, "plan.json"))
    assert result.plan is None
    assert len(result.diagnostics) == 1
    return str(result.diagnostics[0]).split("\n")[0]


@pytest.mark.parametrize("name", ["guestbook.md", "master_plan.md"])
def test_there_and_back_is_the_same_plan(name: str) -> None:
    plan = read_plan(PlanSource((SAMPLES / name).read_bytes(), name)).plan
    assert plan is not None
    text = to_json(plan, indent=2)
    assert from_json(text) == plan
    again = read_plan(PlanSource(text, "plan.json"))
    assert again.plan == plan
    assert to_json(from_json(text), indent=2) == text


def test_a_small_plan_in_json_is_read() -> None:
    result = read_plan(PlanSource(SMALL, "plan.json"))
    assert result.ok
    assert result.plan is not None
    assert result.plan.source.dialect == "canonical"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("cc.plan/1", "cc.plan/2", "plan.json:2:3: error[P017]: schema: is not 'cc.plan/1'"),
        ('"ordinal"', '"ordinel"', "plan.json:3:15: error[P017]: batches[0].ordinal: is missing"),
        ('"Do it"', "7", "plan.json:5:19: error[P017]: tasks[0].title: is not a string"),
        (
            '"ordinal": 1',
            '"ordinal": true',
            "plan.json:3:41: error[P017]: batches[0].ordinal: is not a w",
        ),
        ('"command"', '"cmd"', "plan.json:6:24: error[P017]: tasks[0].verification[0].kind: is n"),
        ('"Do it"', '"\\u0000"', "plan.json:5:19: error[P017]: tasks[0].title: holds a NUL"),
        ('"Do it"', '"\\ud800"', "plan.json:1:1: error[P017]: tasks[0].title: holds a NUL or ha"),
        ('"tasks": [', '"tasks": [,', "plan.json:4:13: error[P016]: not JSON: Expecting value"),
        ('"tasks": [', '"defaults": NaN, "tasks": [', "plan.json:1:1: error[P017]: plan: holds N"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(old: str, new: str, said: str) -> None:
    text = SMALL.replace(old, new, 1)
    result = read_plan(PlanSource(text, "plan.json"))
    assert result.plan is None
    assert str(result.diagnostics[0]).startswith(said)


def test_a_key_that_is_there_twice_is_refused() -> None:
    assert "tasks[0].id: is there twice" in fault(
        SMALL.replace('"id": "1.1"', '"id": "x", "id": "1.1"')
    )


def test_json_nested_too_deep_is_refused() -> None:
    assert "P016" in fault("{" + '"a":[' * 100_000)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(PlanRecordError) as caught:
        from_json(json.dumps({"schema": "x", "tasks": [{"id": 1}], "other": 1}))
    assert {".".join(map(str, f.path)) for f in caught.value.faults} == {
        "schema",
        "other",
        "tasks.0.id",
        "tasks.0.title",
        "tasks.0.batch",
    }


def test_a_plan_in_json_is_checked_like_any_other() -> None:
    text = SMALL.replace('"batch": "1"', '"batch": "9", "depends_on": [{"id": "x"}]')
    found = read_plan(PlanSource(text, "plan.json")).diagnostics
    assert {"P004", "P005"} <= {d.code for d in found}
