"""A report in Markdown: to be read in a terminal, and on a forge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from commandcenter.api.report_patterns import ending, ledger, rows
from commandcenter.api.report_words import (
    at,
    judged,
    outcome,
    plays,
    spent,
    stands,
    used_words,
)
from commandcenter.core.check import Found, Receipt
from commandcenter.core.explanation import what_decided
from commandcenter.core.forge import Issue
from commandcenter.core.markdown import block, cell, code
from commandcenter.core.rounds import Played
from commandcenter.core.run import Phase, Reason
from commandcenter.core.run_report import (
    Checked,
    Decided,
    External,
    Reviewed,
    RunReport,
    TaskReport,
    Try,
)
from commandcenter.core.words import clean, duration, one_line, price

LINES_MAX = 30
"""Of the last words of a check that failed."""
WIDTH_MAX = 60
"""Up to which cells of a table stand below each other."""


def markdown(report: RunReport) -> str:
    """Return the report as Markdown."""
    run = report.run
    parts = [
        f"# Report of {code(run.execution_id)}: {_code(run.title)}",
        outcome(report),
        "\n".join(_facts(report)),
        *_commands("## How to go on", report.commands),
        *_lost(report),
        *_landed(report),
        *_phases(report),
        *_used(report),
        *_notes(report),
        "## Tasks",
        *(part for task in report.tasks for part in _task(task)),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(report: RunReport) -> Iterator[str]:
    run = report.run
    yield f"- Repository: {_code(run.repository)}"
    yield f"- Lands on: {_code(run.landed_on)}"
    if run.plan_path:
        yield f"- Plan: {_code(run.plan_path)}"
    yield f"- Mode: {_code(run.execution_mode)}"
    yield f"- From {at(run.started_ms)} to {at(report.end_ms)}"
    yield from (f"- {at(each.at_ms)}: {_code(each.words)}" for each in report.happened)


def _commands(title: str, commands: Sequence[str]) -> Iterator[str]:
    if commands:
        yield title
        yield block("\n".join(map(one_line, commands)), "sh")


def _lost(report: RunReport) -> Iterator[str]:
    if not report.lost:
        return
    yield "## What did not land, and why"
    for task in report.lost:
        status = task.status
        yield f"### {_code(f'{status.id} {status.title}')}"
        yield f"{stands(status)}: {_code(status.explanation or status.reason or '')}"
        yield from map(_words, task.failures)
        yield from _commands("To go on:", task.commands)


def _landed(report: RunReport) -> Iterator[str]:
    if report.landed:
        rows = [
            (
                cell(one_line(f"{task.status.id} {task.status.title}")),
                _pull_requests(task),
                code(task.status.merge_commit[:12]) if task.status.merge_commit else "",
                _reason(task),
                judged(task.status),
                task.status.review,
                spent(task.status),
            )
            for task in report.landed
        ]
        yield "## What landed"
        yield _table(("Task", "PR", "Commit", "How", "Checks", "Review", "Time"), rows)


def _reason(task: TaskReport) -> str:
    reason = task.status.reason
    return "" if reason in (None, Reason.MERGED) else str(reason)


def _pull_requests(task: TaskReport) -> str:
    return " ".join(
        f"[#{each.number}](<{each.url}>)" if _links(each.url) else f"#{each.number}"
        for each in task.pull_requests
    )


def _links(url: str) -> bool:
    plain = url.isascii() and url.isprintable() and not set(url) & set(" <>|\\`")
    return plain and url.startswith(("https://", "http://"))


def _phases(report: RunReport) -> Iterator[str]:
    if report.seconds:
        total = sum(report.seconds.values())
        rows = [
            (phase.value, duration(seconds), f"{seconds / total:.0%}")
            for phase, seconds in report.seconds.items()
        ]
        yield "## Time by phase, of all tasks together"
        yield _table(("Phase", "Time", "Share"), rows)


def _used(report: RunReport) -> Iterator[str]:
    if report.used:
        rows = [
            (
                cell(one_line(each.profile)),
                f"{each.asked:,}",
                f"{each.input_tokens:,}",
                f"{each.cached_tokens:,}",
                f"{each.output_tokens:,}",
                price(each.cost_usd, each.unpriced),
            )
            for each in report.used
        ]
        yield "## Tokens and cost"
        yield _table(("Profile", "Asked", "In", "Cached", "Out", "Cost"), rows)
        yield used_words(report)


def _notes(report: RunReport) -> Iterator[str]:
    if report.run.notes:
        yield "## Notes"
        yield "\n".join(f"- {_code(note)}" for note in report.run.notes)


def _task(task: TaskReport) -> Iterator[str]:
    status = task.status
    level = "####" if status.parent else "###"
    yield f"{level} {_code(f'{status.id} {status.title}')}"
    yield "\n".join(_task_facts(task))
    if task.tries:
        yield "\n".join(map(_try, task.tries))
    for played in task.played:
        yield from _played(played)
    for checked in task.checks:
        yield from _checks(checked)
    for external in task.external:
        yield from _external(external)
    yield from map(_review, task.reviews)
    yield from map(_decision, task.decisions)


def _task_facts(task: TaskReport) -> Iterator[str]:
    status = task.status
    why = status.explanation or status.waiting_for
    yield f"- {stands(status)}{f': {_code(why)}' if why else ''}"
    if status.parent:
        yield f"- Sub-task of {_code(status.parent)}"
    if status.pattern:
        yield f"- Pattern: {_code(plays(status))}"
    if task.pull_requests:
        yield f"- Pull request: {_pull_requests(task)}"
    if status.merge_commit:
        yield f"- Merge commit: {code(status.merge_commit)}"
    for handed in task.handed_over:
        yield f"- The forge was to land {code(handed.commit[:12])} from {at(handed.at_ms)} on"
    if task.seconds:
        yield f"- Time: {_seconds(task.seconds)}"
    if status.input_tokens or status.output_tokens:
        yield f"- Tokens: {status.input_tokens:,} in, {status.output_tokens:,} out"
    if task.refused:
        where = ", ".join(f"{_code(each.where)} ({each.times} times)" for each in task.refused)
        yield f"- Connections that were refused: {where}"


def _seconds(seconds: Mapping[Phase, float]) -> str:
    return ", ".join(f"{phase} {duration(spent)}" for phase, spent in seconds.items())


def _try(one: Try) -> str:
    took = f", {duration((one.end_ms - one.start_ms) / 1000)}" if one.end_ms else ", goes on"
    made = one.captured
    change = (
        f", {code(made.commit[:12])} by {_code(made.profile)}: "
        f"{made.files} files, +{made.insertions} -{made.deletions}"
        if made
        else ""
    )
    why = f": {_code(one.why)}" if one.why else ""
    left_out = "".join(f"\n  - left out: {_code(note)}" for note in (made.notes if made else ()))
    return f"- Try {one.number}{took}{change}{why}{left_out}"


def _played(played: Played) -> Iterator[str]:
    of = f" {_code(played.pattern)}" if played.pattern else ""
    end = played.concluded
    how = f"**{end.result}**: {_code(end.words)}" if end else ending(played)
    yield f"Pattern{of} of try {played.attempt}: {how}"
    if told := [*rows(played)]:
        table = [
            (
                str(row.number),
                cell(one_line(row.who)),
                row.lane,
                cell(one_line("; ".join(row.came))) if row.came else "",
                row.change,
                f"{row.checks.replace('_', ' ')} {' '.join(map(_cell, row.failing))}".strip(),
                row.tokens,
                row.cost,
            )
            for row in told
        ]
        head = ("Round", "Who", "Lane", "What came of it", "Change", "Checks", "In / out", "Cost")
        yield _table(head, table)
    if end and (decided := [*what_decided(end.facts)]):
        yield "\n".join(f"- {_code(each)}" for each in decided)
    if kept := ledger(played):
        yield "The last ledger:"
        yield _table(("Of", "What it says"), [(name, _cells(lines)) for name, lines in kept])


def _cells(lines: Sequence[str]) -> str:
    return "; ".join(map(_cell, lines))


def _cell(text: str) -> str:
    return cell(one_line(text))


def _checks(checked: Checked) -> Iterator[str]:
    flaky = f" Flaky: {', '.join(map(_code, checked.flaky))}." if checked.flaky else ""
    said = checked.judgement.replace("_", " ")
    yield f"Checks of try {checked.attempt}, {at(checked.at_ms)}: {said}.{flaky}"
    if checked.receipts:
        rows = [
            (
                receipt.found.replace("_", " "),
                cell(one_line(receipt.command)),
                "" if receipt.exit_code is None else str(receipt.exit_code),
                duration(receipt.duration_s),
                code(receipt.tree[:12]),
                code(receipt.log_sha256[:12]),
            )
            for receipt in checked.receipts
        ]
        yield _table(("Found", "Command", "Exit", "Time", "Tree", "Log"), rows)
    yield from (
        _words(receipt) for receipt in checked.receipts if receipt.found is not Found.PASSED
    )


def _external(external: External) -> Iterator[str]:
    of = code(external.commit[:12])
    yield f"Checks of others on {of}, try {external.attempt}, {at(external.at_ms)}:"
    if external.checks:
        rows = [
            (check.state.value, cell(one_line(check.name)), cell(one_line(check.summary)))
            for check in external.checks
        ]
        yield _table(("State", "Check", "Summary"), rows)
    else:
        yield "The forge showed none."


def _words(receipt: Receipt) -> str:
    lines = clean(receipt.words).strip().splitlines()[-LINES_MAX:]
    exit_code = "" if receipt.exit_code is None else f", exit code {receipt.exit_code}"
    found = receipt.found.replace("_", " ")
    said = block("\n".join(lines)) if lines else "It printed nothing."
    return f"{_code(receipt.command)} {found}{exit_code}:\n\n{said}"


def _review(review: Reviewed) -> str:
    by = f" by {_code(review.reviewer)}" if review.reviewer else ""
    of = f" of {code(review.commit[:12])}" if review.commit else ""
    said = f"Review of try {review.attempt}{by}{of}: **{review.decision}**"
    issues = "".join(f"\n{_issue(issue)}" for issue in review.issues)
    summary = clean(review.summary).strip()
    return "\n\n".join(filter(None, (said, block(summary) if summary else "", issues.strip("\n"))))


def _issue(issue: Issue) -> str:
    line = f":{issue.line}" if issue.line else ""
    place = f" {_code(f'{issue.file}{line}')}" if issue.file else ""
    must = ", must be fixed" if issue.must_fix else ""
    wish = f"; suggested: {_code(issue.suggestion)}" if issue.suggestion else ""
    return f"- {issue.severity}{must}{place}: {_code(issue.problem)}{wish}"


def _decision(decided: Decided) -> str:
    words = f": {_code(decided.words)}" if decided.words.strip() else ""
    return (
        f"Decision of try {decided.attempt} by {_code(decided.by)}: **{decided.decision}**{words}"
    )


def _code(text: str) -> str:
    return code(one_line(text))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [min(max(map(len, column)), WIDTH_MAX) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * max(width, 3) for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(map(str.ljust, line, [max(width, 3) for width in widths]))} |"
        for line in lines
    )
