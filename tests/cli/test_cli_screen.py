"""What a person sees: the live picture and the summary, without colour and at 80 columns."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console

from commandcenter.api.schema import SpendingAnswer, Tokens
from commandcenter.cli.screen import Picture, draw
from commandcenter.cli.summary import summarize
from commandcenter.core.run import Phase, Reason, State, TaskStatus

if TYPE_CHECKING:
    from tests.cli.conftest import Shown

RUN = "exec_0badcafe"
NOW = datetime.fromtimestamp(1_700_000_065, UTC)
STARTED_MS = 1_700_000_000_000

LANDED = TaskStatus(
    RUN,
    "1.1",
    "Create the greeting",
    "1",
    0,
    State.COMPLETED,
    reason=Reason.MERGED,
    proposal=7,
    merge_commit="c0ffee" * 6 + "abcd",
    checks="passed",
    checks_passed=3,
    checks_total=3,
    review="approve",
    started_ms=STARTED_MS,
    ended_ms=STARTED_MS + 2500,
)
WORKING = TaskStatus(
    RUN,
    "1.2",
    "Add the tests",
    "1",
    1,
    State.IN_PROGRESS,
    Phase.WORKING,
    attempt=2,
    started_ms=STARTED_MS,
)
FAILED = TaskStatus(
    RUN,
    "2.1",
    "Command line",
    "2",
    2,
    State.FAILED,
    reason=Reason.CHECKS,
    explanation="`make test` still fails",
)


def _summary(shown: Shown, used: Sequence[SpendingAnswer] = (), *, whole: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80, markup=False, highlight=False, no_color=True)
    summarize(console, *shown, used, whole=whole)
    return out.getvalue()


def _many(states: dict[State, int]) -> list[TaskStatus]:
    expanded = [state for state, number in states.items() for _ in range(number)]
    return [
        TaskStatus(RUN, f"1.{n}", f"Task {n}", "1", n, state, Phase.WORKING)
        for n, state in enumerate(expanded, 1)
    ]


def test_the_picture_shows_where_each_task_stands(shown: Callable[..., Shown]) -> None:
    status, batches = shown([LANDED, WORKING, FAILED], ended_ms=0)
    picture = Picture(status, batches, {"1.2": "Edit tests/test_greeting.py"})
    lines = draw(picture, now=NOW, width=80, height=24).plain.splitlines()
    assert lines[0] == "Greeting service  2/3 tasks  1m05s"
    assert lines[3].startswith("Batch 1: Title of 1 ")
    assert "in progress" in lines[3]
    assert " ".join(lines[4].split()) == "1.1 Create the greeting completed 3/3 #7 2.5s"
    assert " ".join(lines[5].split()) == "1.2 Add the tests working, attempt 2 1m05s"
    assert lines[6] == "      Edit tests/test_greeting.py"


VOTING = replace(
    WORKING, attempt=1, pattern="vote(3)", rounds=2, id="1.3", title="Choose the words"
)
SPLIT = TaskStatus(
    RUN,
    "2.1",
    "Command line",
    "2",
    2,
    State.COMPLETED,
    reason=Reason.JOINED,
    explanation="2 tasks landed in its place.",
    pattern="plan",
    rounds=4,
    outcome="accepted",
)
REPLACED = replace(FAILED, id="2.1-1", title="All at once", parent="2.1")
SUBTASK = replace(LANDED, id="2.1-2", title="Arguments", batch="2", parent="2.1", proposal=8)


def test_the_picture_shows_the_round_of_a_pattern_and_in_the_end_its_outcome(
    shown: Callable[..., Shown],
) -> None:
    status, batches = shown([LANDED, VOTING, SPLIT, REPLACED, SUBTASK], ended_ms=0)
    picture = Picture(status, batches, {"1.3": "Edit words.txt"})
    lines = draw(picture, now=NOW, width=80, height=24).plain.splitlines()
    text = [" ".join(line.split()) for line in lines]
    assert lines[0] == "Greeting service  2/3 tasks  1m05s"
    assert text[5] == "1.3 Choose the words working 1m05s"
    assert lines[6] == "      vote(3), round 2: Edit words.txt"
    assert text[7] == "Batch 2: Title of 2 completed 1/1 2.5s"
    assert text[8] == "2.1 Command line completed, accepted"
    assert lines[9].startswith("    2.1-1 All at once ")
    assert lines[10].startswith("    2.1-2 Arguments ")


def test_the_summary_tells_patterns_and_sub_tasks_below_what_was_split(
    shown: Callable[..., Shown],
) -> None:
    text = _summary(shown([LANDED, VOTING, SPLIT, REPLACED, SUBTASK]), whole=True)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("2.1", "  2.1"))] == [
        "2.1",
        "2.1-1",
        "2.1-2",
    ]
    assert sum(line.startswith("  2.1-") for line in lines) == 2
    assert "vote(3), round 2" in text
    assert "plan, accepted:" in text
    assert "2 completed of 3 tasks" in text


def test_a_sub_task_that_was_replaced_is_nothing_to_look_into(shown: Callable[..., Shown]) -> None:
    text = _summary(shown([SPLIT, REPLACED, SUBTASK]))
    assert "Run exec_0badcafe has completed: 1 completed of 1 task, in 10s." in text
    assert "hint:" not in text


def test_the_picture_of_a_thousand_tasks_fits_the_screen(shown: Callable[..., Shown]) -> None:
    states = {State.COMPLETED: 400, State.IN_PROGRESS: 4, State.FAILED: 2, State.PENDING: 594}
    status, batches = shown(_many(states), ended_ms=0)
    lines = draw(Picture(status, batches), now=NOW, width=80, height=24).plain.splitlines()
    text = "\n".join(lines)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert text.count("working") == 4
    assert text.count("failed") == 2
    assert lines[-1] == "982 more tasks not shown"


def test_a_hostile_title_does_not_reach_the_terminal(shown: Callable[..., Shown]) -> None:
    hostile = TaskStatus(RUN, "1.1", "[bold]x\x1b[2J\ny", "1", 0)
    status, batches = shown([hostile])
    picture = draw(Picture(status, batches), now=NOW, width=80, height=24).plain
    for text in (picture, _summary((status, batches))):
        assert "1.1 [bold]x y" in text
        assert "\x1b" not in text


def test_the_summary_has_a_row_a_task_and_says_where_the_result_is(
    shown: Callable[..., Shown],
) -> None:
    status, batches = shown([LANDED, FAILED])
    text = _summary((status, batches))
    words = [line.split() for line in text.splitlines()]
    assert max(map(len, text.splitlines())) <= 80
    assert words[0] == ["Task", "Status", "PR", "Checks", "Review", "Time", "Why"]
    assert "completed #7 3/3 approve 2.5s" in " ".join(words[2])
    assert "`make test` still fails" in text
    assert "Run exec_0badcafe has failed: 1 completed, 1 failed of 2 tasks, in 10s." in text
    assert "Result: branch main of /repositories/one, commit c0ffeec0ffee" in text
    assert "hint: see commandcenter logs exec_0badcafe 2.1" in text
    assert "hint: how it came to that: commandcenter explain exec_0badcafe 2.1" in text
    assert "hint: try again with commandcenter retry exec_0badcafe" in text


def test_the_summary_of_a_thousand_tasks_lists_what_did_not_land(
    shown: Callable[..., Shown],
) -> None:
    status, batches = shown(_many({State.COMPLETED: 990, State.FAILED: 10}))
    short, whole = _summary((status, batches)), _summary((status, batches), whole=True)
    assert len(short.splitlines()) < 40
    assert "990 tasks not listed: commandcenter status exec_0badcafe" in short
    assert len(whole.splitlines()) > 1000


def test_an_interrupted_run_says_how_to_go_on(shown: Callable[..., Shown]) -> None:
    status, batches = shown([WORKING], phase=Phase.RECOVERING, ended_ms=0)
    text = _summary((status, batches))
    assert "Run exec_0badcafe is interrupted" in text
    assert "commandcenter serve, or commandcenter run --resume exec_0badcafe" in text


def test_a_task_without_checks_is_named_aloud(shown: Callable[..., Shown]) -> None:
    unverified = TaskStatus(RUN, "1.1", "One", "1", 0, State.COMPLETED, checks="unverified")
    assert "note: without any check: 1 task" in _summary(shown([unverified]))


def _used(profile: str, cost_usd: float, unpriced: int) -> SpendingAnswer:
    tokens = Tokens(input=12_000, output=300)
    return SpendingAnswer(
        profile=profile,
        asked=2,
        tokens=tokens,
        cached_tokens=0,
        cost_usd=cost_usd,
        unpriced=unpriced,
    )


def test_the_summary_says_what_each_profile_used(shown: Callable[..., Shown]) -> None:
    text = _summary(shown([LANDED]), [_used("opus", 1.5, 0), _used("scripted", 0.0, 2)])

    assert "Used: 24,000 tokens in, 600 out, at least $1.50" in text
    assert "by opus: 12,000 in, 300 out, $1.50" in text
    assert "by scripted: 12,000 in, 300 out, cost unknown" in text


def test_the_summary_of_one_profile_has_one_line_of_what_was_used(
    shown: Callable[..., Shown],
) -> None:
    text = _summary(shown([LANDED]), [_used("opus", 1.5, 0)])

    assert "Used: 12,000 tokens in, 300 out, $1.50" in text
    assert "by opus" not in text
