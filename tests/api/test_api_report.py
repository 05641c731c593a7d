"""A run's report over HTTP: its three formats, and foreign text in each of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest
from markdown_it import MarkdownIt

from commandcenter.api.report_answer import ReportAnswer
from commandcenter.api.report_markdown import markdown
from commandcenter.api.report_page import page
from commandcenter.core.run import Event, EventKind, RunStatus, TaskStatus, fold, overall
from commandcenter.core.run_report import RunReport, report_of

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

RUN = "exec_0badcafe"
REPORT = f"/api/v1/autonomous/{RUN}/report"
EVIL = (
    "</script></title></pre></svg><script>alert(1)</script>"
    "<img src=x onerror=alert(1)>\" onload='x' \x1b[31mred\x1b]0;title\x07 \u202egnp.exe "
    "\n\n# Heading\n\n```\n[x](javascript:alert(1)) <b>`|` \udc80"
)
VOID = {"meta", "img", "br", "input", "link", "hr"}
DANGEROUS = {"script", "img", "b", "iframe", "object", "embed", "form", "base", "link", "style"}


def happened(
    task: str,
    kind: EventKind,
    at_s: int,
    attempt: int = 1,
    data: dict[str, Any] | None = None,
    **more: Any,
) -> Event:
    return Event(
        RUN, kind, 1_700_000_000_000 + at_s * 1000, task, attempt, {**(data or {}), **more}
    )


def lived(task: str, words: str) -> Iterator[Event]:
    """Give all that can happen to a task, with these words wherever others write."""
    used = {"profile": words, "input_tokens": 10, "output_tokens": 2, "cost_usd": None}
    captured: dict[str, Any] = {
        "branch": words,
        "base": "0",
        "head": "h" * 40,
        "tree": "t" * 40,
        "files": [words],
        "insertions": 1,
        "deletions": 1,
        "notes": [words],
        "claim": words,
        **used,
    }
    receipt = {
        "check": words,
        "command": words,
        "tree": "t" * 40,
        "found": "failed",
        "exit_code": 1,
        "duration_s": 1.0,
        "log_sha256": "d" * 64,
        "words": words,
    }
    checked: dict[str, Any] = {
        "tree": "t" * 40,
        "judgement": "failed",
        "receipts": [receipt, {**receipt, "found": "passed", "exit_code": 0}],
        "flaky": [words],
    }
    issue = {
        "problem": words,
        "severity": "major",
        "must_fix": True,
        "file": words,
        "line": 3,
        "suggestion": words,
    }
    review: dict[str, Any] = {
        "decision": "revise",
        "summary": words,
        "issues": [issue],
        "reviewer": words,
        "commit": "h" * 40,
        "problem": "",
        **used,
    }
    external = {"name": words, "state": "failed", "run": words, "summary": words}
    looked_at: dict[str, Any] = {
        "schema": 1,
        "head": "h" * 40,
        "failed": [words],
        "again": [[words, words]],
        "checks": [{**external, "url": f"javascript:{words}"}],
    }
    decided = {"decision": "revise", "words": words, "by": words, "head": "h" * 40}
    yield happened(task, EventKind.TASK_STARTED, 1)
    yield from played(task, words)
    yield happened(task, EventKind.TASK_PHASE, 4, phase="waiting", waiting_for=words)
    yield happened(task, EventKind.TASK_CAPTURED, 5, data=captured)
    yield happened(task, EventKind.TASK_CHECKED, 6, data=checked)
    yield happened(task, EventKind.TASK_PROPOSED, 7, number=7, url=f"javascript:{words}")
    yield happened(task, EventKind.TASK_LOOKED_AT, 7, data=looked_at)
    yield happened(task, EventKind.TASK_HANDED_OVER, 7, schema=1, head="h" * 40, since_ms=1)
    yield happened(task, EventKind.TASK_REVIEWED, 8, data=review)
    yield happened(task, EventKind.TASK_DECIDED, 9, data=decided)
    yield happened(task, EventKind.TASK_TRY_FAILED, 9, why=words, next=2, feedback=words)
    yield happened(task, EventKind.TASK_STARTED, 10, 2)
    yield happened(task, EventKind.TASK_FAILED, 20, 2, reason="checks", explanation=words)


LEDGER = "cc.ledger/1"


def played(task: str, words: str) -> Iterator[Event]:
    """Give all that a pattern can come to, with these words wherever others write."""
    used = {"profile": words, "input_tokens": 10, "output_tokens": 2, "cost_usd": 0.5}
    answer = {"answer": False, "reason": words}
    kept = {
        "schema": LEDGER,
        "facts": {"given": [words], "lookup": [words], "derive": [words], "guess": [words]},
        "plan": [words],
        "satisfied": answer,
        "in_loop": answer,
        "progress": answer,
        "next": {"profile": words, "instruction": words},
        "what_went_wrong": words,
    }
    left: dict[str, Any] = {
        "outcome": "failed",
        "reason": "timeout",
        "words": words,
        "problem": words,
        "refused": words,
        "head": "h" * 40,
        "files": 1,
        "insertions": 2,
        "deletions": 3,
        "checks": "failed",
        "failing": [words],
        "flags": [words],
        "left": [words],
        **used,
    }
    asks = [{"role": "work", "profile": words, "lane": lane, "text": words} for lane in (1, 2, 3)]
    subtasks = [{"id": words, "title": words}]
    receipt = {"check": words, "command": words, "tree": "t" * 40, "found": "failed"}
    verdict = {
        "tree": "t" * 40,
        "judgement": "failed",
        "receipts": [{**receipt, "exit_code": 1, "duration_s": 1.0, "log_sha256": "", "words": ""}],
    }
    facts = {
        "candidates": [{"lane": 1, "out": words}],
        "labels": {"A": 2},
        "judge": {"ignored": words},
        "winner": 2,
        "route": {"profile": words, "by": "agent", "reason": words},
        "ledger": kept,
        "rounds": 2,
        "resets": 1,
        "stalls": 3,
        "acted": [words],
        "best": {"commit": "h" * 40, "failing": [words]},
    }
    yield happened(task, EventKind.TASK_ROUND, 1, pattern=words, round=1, until="green", asks=asks)
    yield happened(task, EventKind.TASK_ANSWERED, 2, round=1, position=1, counts=True, data=left)
    stopped = {"outcome": words, "left": [], **used}
    yield happened(
        task, EventKind.TASK_ANSWERED, 2, round=1, position=2, counts=False, data=stopped
    )
    manager = [{"role": "manage", "profile": words, "lane": 0, "text": words}]
    yield happened(task, EventKind.TASK_ROUND, 2, pattern=words, round=2, asks=manager)
    said = {"outcome": "done", "result": kept, **used}
    yield happened(task, EventKind.TASK_ANSWERED, 3, round=2, position=1, counts=True, data=said)
    yield happened(
        task, EventKind.TASK_ROUND, 3, pattern=words, round=3, tasks=subtasks, reason=words
    )
    ended = {"id": words, "title": words, "satisfied": False, "words": words}
    yield happened(
        task, EventKind.TASK_JOINED, 3, round=3, children=[ended], verdict=verdict, commit="h" * 40
    )
    yield happened(
        *(task, EventKind.TASK_CONCLUDED, 4),
        data={"result": "exhausted", "words": words, "lane": 1, "feedback": words, "facts": facts},
    )


def told(tasks: int, words: str) -> RunReport:
    """Return the report of a run with so many tasks, all of which failed."""
    ids = [f"1.{number}" for number in range(1, tasks + 1)]
    events = [event for task in ids for event in lived(task, words)]
    statuses = {task: TaskStatus(RUN, task, words, "1", place) for place, task in enumerate(ids)}
    for event in events:
        statuses[event.task] = fold(statuses[event.task], event)
    found = tuple(statuses.values())
    run = RunStatus(
        *(RUN, overall(found), None, words, words, words, words, words, words, "local", True, ""),
        *(found, (words,), 1_700_000_000_000, 1_700_000_030_000),
    )
    whole = [Event(RUN, EventKind.RUN_LANDING_MOVED, 1_700_000_000_000, data={"branch": words})]
    return report_of(
        run,
        [*whole, *events],
        refused={"1.1": {words: 2}},
        salvaged={"1.1": [words]},
        now_ms=1_700_000_060_000,
    )


class Elements(HTMLParser):
    """What a browser makes of a page: its elements, its text, and whether they are closed."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.unclosed: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag


async def test_json_is_what_a_report_is_by_default(
    http: httpx.AsyncClient, service: MemoryService
) -> None:
    await service.happen(EventKind.RUN_ENDED)
    said = (await http.get(REPORT)).json()
    assert said["schema"] == "cc.report/1"
    assert said["going"] is False
    assert said["run"] == (await http.get(f"/api/v1/autonomous/{RUN}/status")).json()
    assert [task["task"]["task_number"] for task in said["tasks"]] == ["1.1", "1.2"]


async def test_a_report_is_what_the_api_describes(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    schema = described["components"]["schemas"]["ReportAnswer"]
    said = ReportAnswer.of(told(1, "words")).model_dump(mode="json", by_alias=True)
    jsonschema.validate(said, {**schema, "components": described["components"]})
    wrong = {**said, "schema": "cc.report/0"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, {**schema, "components": described["components"]})


async def test_a_status_says_where_the_report_is(http: httpx.AsyncClient) -> None:
    status = (await http.get(f"/api/v1/autonomous/{RUN}/status")).json()
    answer = await http.get(status["report"])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


async def test_a_page_is_served_so_that_it_can_do_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.get(REPORT, params={"format": "html"})
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_markdown_is_served_as_text(http: httpx.AsyncClient) -> None:
    answer = await http.get(REPORT, params={"format": "md"})
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text.startswith(f"# Report of `{RUN}`: `A plan`\n")


async def test_a_run_that_goes_on_is_said_to(http: httpx.AsyncClient) -> None:
    said = "The run is not over: none ended of 2 tasks, 1m00s after its start."
    assert said in (await http.get(REPORT, params={"format": "md"})).text
    assert said in (await http.get(REPORT, params={"format": "html"})).text
    assert (await http.get(REPORT)).json()["going"] is True


@pytest.mark.parametrize(
    ("path", "format_", "status"),
    [(REPORT.replace(RUN, "exec_0"), "md", 404), (REPORT, "pdf", 422), (REPORT, "", 422)],
)
async def test_a_report_that_there_is_not_is_a_problem(
    http: httpx.AsyncClient, path: str, format_: str, status: int
) -> None:
    answer = await http.get(path, params={"format": format_})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_foreign_text_stays_text_in_the_page() -> None:
    seen = Elements(page(told(2, EVIL)))
    assert seen.unclosed == []
    assert [name for name in seen.names if name in DANGEROUS] == ["style"]
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert [value for name, value in seen.attributes if name in ("href", "src")] == []


def test_the_probe_sees_foreign_text_that_is_not_escaped() -> None:
    content = page(told(1, "WORDS")).replace("WORDS", "<img src=x onerror=alert(1)>")
    seen = Elements(content)
    assert "img" in seen.names
    assert ("onerror", "alert(1)") in seen.attributes


@pytest.mark.parametrize("render", [page, markdown])
def test_no_character_changes_how_the_others_read(render: Any) -> None:
    content = render(told(2, EVIL))
    assert not set(content) & {"\x1b", "\x07", "\u202e", "\udc80"}
    assert content.encode()
    assert "red" in content


def test_a_page_needs_nothing_from_elsewhere() -> None:
    content = page(told(1, "words"))
    assert re.findall(r"(?:src|href|url)\s*[=(]", content) == []
    assert "<script" not in content
    assert "@import" not in content


def test_a_pull_request_is_linked_where_it_is_a_page() -> None:
    report = told(1, "words")
    link = replace(report.tasks[0].pull_requests[0], url="https://example.org/pull/7")
    task = replace(report.tasks[0], pull_requests=(link,))
    content = page(replace(report, tasks=(task,)))
    assert '<a href="https://example.org/pull/7" rel="noreferrer noopener">#7</a>' in content


def test_foreign_text_stays_within_its_markdown() -> None:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(markdown(told(2, EVIL)))
    inline = [token for token in tokens if token.type == "inline"]
    leaves = {leaf.type for token in inline for leaf in token.children or ()}
    headings = [
        inside.content for token, inside in pairwise(tokens) if token.type == "heading_open"
    ]
    assert leaves <= {"text", "code_inline", "softbreak", "strong_open", "strong_close"}
    assert not [token for token in tokens if token.type.startswith("html")]
    assert "Heading" not in headings
    assert len(headings) == 11


def test_a_failure_is_told_with_its_words_and_what_to_do() -> None:
    content = markdown(told(1, "1 failed"))
    assert "failed, checks: `1 failed`" in content
    assert "`1 failed` failed, exit code 1:\n\n```\n1 failed\n```" in content
    assert f"commandcenter logs {RUN} 1.1\n" in content
    assert f"commandcenter retry {RUN} 1.1\n" in content


def test_checks_of_others_and_what_the_forge_lands_are_told() -> None:
    content = markdown(told(1, "ci/build"))
    assert f"Checks of others on `{'h' * 12}`, try 1, " in content
    assert "| failed | `ci/build` | `ci/build` |" in content
    assert f"The forge was to land `{'h' * 12}` from " in content


def test_every_round_of_a_pattern_is_a_row_with_what_came_of_it() -> None:
    content = markdown(told(1, "vote(3)"))
    rows = [" ".join(line.split()) for line in content.splitlines() if line.startswith("| ")]
    assert "Pattern `vote(3)` of try 1: **exhausted**: `vote(3)`" in content
    assert [row for row in rows if row.startswith("| 1 | `vote(3), work` |")] == [
        '| 1 | `vote(3), work` | 1 | `failed (timeout), saying "vote(3)"; left what could not be '
        "taken: vote(3); gave an answer that could not be used: vote(3); is flagged: vote(3); was "
        "only to read; what it changed was thrown away: vote(3)` | 1 file, +2 -3 | failed "
        "`vote(3)` | 10 / 2 | $0.50 |",
        "| 1 | `vote(3), work` | 2 | `was interrupted 1 time (vote(3)), which does not count; was "
        "stopped, since it was not needed any more` | | | 10 / 2 | $0.50 |",
        "| 1 | `vote(3), work` | 3 | `was stopped, since it was not needed any more` | | | | |",
    ]
    assert any(row.startswith("| 3 | `split into 1 task` | | `vote(3); vote(3)") for row in rows)
    assert "- `The candidate of lane 1 was out: vote(3)`" in content
    assert "- Pattern: `vote(3), exhausted`" in content


def test_the_last_ledger_is_a_table_of_its_own() -> None:
    report = told(1, "look")
    rows = [" ".join(line.split()) for line in markdown(report).splitlines()]
    assert "| Next | `look: look` |" in rows
    assert "| Satisfied | `no: look` |" in rows
    assert '<tr><th>Next</th><td class="wide"><p>look: look</p></td></tr>' in page(report)


def test_a_pattern_is_told_on_the_wire_round_by_round() -> None:
    (pattern,) = _wire(told(1, "words"))["tasks"][0]["patterns"]
    assert (pattern["attempt"], pattern["pattern"]) == (1, "words")
    asked, managed, split = pattern["rounds"]
    assert [ask["answer"] is None for ask in asked["asks"]] == [False, True, True]
    assert asked["asks"][0]["answer"]["failing"] == ["words"]
    assert asked["asks"][1]["uncounted"][0]["cost_usd"] == 0.5
    assert managed["asks"][0]["answer"]["result"]["schema"] == LEDGER
    assert (split["tasks"][0]["landed"], split["joined"]["checks"]) == (False, "failed")
    assert (pattern["conclusion"]["result"], pattern["conclusion"]["facts"]["stalls"]) == (
        "exhausted",
        3,
    )


def test_what_a_task_was_split_into_is_told_below_it() -> None:
    report = told(2, "words")
    parent, subtask = report.tasks
    subtask = replace(subtask, status=replace(subtask.status, parent="1.1"), parent=parent.status)
    report = replace(report, tasks=(parent, subtask))
    assert "\n### `1.1 words`\n" in markdown(report)
    assert "\n#### `1.2 words`\n\n- failed, checks: `words`\n- Sub-task of `1.1`\n" in markdown(
        report
    )
    assert page(report).count('<details class="subtask">') == 1


def test_a_pattern_that_goes_on_is_told_as_far_as_it_came() -> None:
    report = told(1, "words")
    (one,) = report.tasks[0].played
    going = replace(one, rounds=one.rounds[:1], concluded=None)
    report = replace(report, tasks=(replace(report.tasks[0], played=(going,)),))
    assert "Pattern `words` of try 1: goes on" in markdown(report)
    assert "has not answered yet" in markdown(report)
    assert "has not answered yet" in page(report)
    assert _wire(report)["tasks"][0]["patterns"][0]["conclusion"] is None
    broken = replace(report.tasks[0], played=(replace(going, broken_off=True),))
    assert "Pattern `words` of try 1: broken off" in markdown(replace(report, tasks=(broken,)))


def test_every_task_has_a_lane_with_its_phases() -> None:
    content = page(told(3, "words"))
    bars = content.partition('<svg class="bars"')[2].partition("</ul>")[0]
    assert bars.count("<g>") == 3
    assert bars.count('<rect class="p-provisioning" x="3.333%" width="10.0%"') == 3
    assert bars.count('<rect class="p-waiting" x="13.333%" width="20.0%"') == 3


def test_a_thousand_tasks_are_told_at_once() -> None:
    begun = time.process_time()
    report = told(1000, "words")
    sizes = [len(page(report)), len(markdown(report)), len(json.dumps(_wire(report)))]
    assert min(sizes) > 500_000
    # Of the processor's own time, which others do not lengthen; mostly it is one second.
    assert time.process_time() - begun < 20


def _wire(report: RunReport) -> Any:
    return ReportAnswer.of(report).model_dump(mode="json", by_alias=True)
