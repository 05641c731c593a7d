"""The wire schema of a report, `cc.report/1`: only ever added to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, Field

from commandcenter.api.report_rounds import PatternAnswer
from commandcenter.api.schema import SpendingAnswer, StatusAnswer, TaskAnswer, iso
from commandcenter.core.check import Found, Receipt
from commandcenter.core.forge import ExternalCheck, Issue
from commandcenter.core.run import Phase, State
from commandcenter.core.run_report import (
    SCHEMA,
    Checked,
    Decided,
    External,
    HandedOver,
    Happened,
    Reviewed,
    RunReport,
    Span,
    TaskReport,
    Try,
)


class SpanAnswer(BaseModel):
    """A time in which one thing was done for a task."""

    phase: Phase
    waiting_for: str | None
    attempt: int
    started_at: str | None
    ended_at: str | None

    @classmethod
    def of(cls, span: Span) -> Self:
        """Return the wire form."""
        return cls(
            phase=span.phase,
            waiting_for=span.waiting_for or None,
            attempt=span.attempt,
            started_at=iso(span.start_ms),
            ended_at=iso(span.end_ms),
        )


class TryAnswer(BaseModel):
    """One run of the agent at a task."""

    number: int
    ending: State | None = Field(description="Null when it goes on, or another try followed.")
    why: str
    profile: str | None
    commit: str | None
    files: int
    insertions: int
    deletions: int
    claim: str | None = Field(description="What the agent says of it. Never trusted.")
    left_out: list[str]
    started_at: str | None
    ended_at: str | None

    @classmethod
    def of(cls, one: Try) -> Self:
        """Return the wire form."""
        captured = one.captured
        return cls(
            number=one.number,
            ending=one.ending,
            why=one.why,
            profile=captured.profile if captured else None,
            commit=captured.commit if captured else None,
            files=captured.files if captured else 0,
            insertions=captured.insertions if captured else 0,
            deletions=captured.deletions if captured else 0,
            claim=captured.claim if captured else None,
            left_out=list(captured.notes) if captured else [],
            started_at=iso(one.start_ms),
            ended_at=iso(one.end_ms),
        )


class ReceiptAnswer(BaseModel):
    """Evidence of one check on one tree."""

    check: str
    command: str
    tree: str
    found: Found
    exit_code: int | None
    duration_s: float
    log_sha256: str
    words: str | None = Field(description="Its last words, unless it passed.")

    @classmethod
    def of(cls, receipt: Receipt) -> Self:
        """Return the wire form."""
        return cls(
            check=receipt.check,
            command=receipt.command,
            tree=receipt.tree,
            found=receipt.found,
            exit_code=receipt.exit_code,
            duration_s=receipt.duration_s,
            log_sha256=receipt.log_sha256,
            words=None if receipt.found is Found.PASSED else receipt.words,
        )


class CheckedAnswer(BaseModel):
    """What the checks found on one tree."""

    attempt: int
    at: str | None
    judgement: str
    receipts: list[ReceiptAnswer]
    flaky: list[str]

    @classmethod
    def of(cls, checked: Checked) -> Self:
        """Return the wire form."""
        return cls(
            attempt=checked.attempt,
            at=iso(checked.at_ms),
            judgement=checked.judgement,
            receipts=[ReceiptAnswer.of(receipt) for receipt in checked.receipts],
            flaky=list(checked.flaky),
        )


class ExternalCheckAnswer(BaseModel):
    """What the forge showed of one check that is not ours."""

    name: str
    state: str
    summary: str
    url: str | None

    @classmethod
    def of(cls, check: ExternalCheck) -> Self:
        """Return the wire form."""
        return cls(name=check.name, state=check.state, summary=check.summary, url=check.url or None)


class ExternalAnswer(BaseModel):
    """What the forge showed last of the checks of others, for one commit."""

    attempt: int
    at: str | None
    commit: str
    checks: list[ExternalCheckAnswer]
    failed: list[str] = Field(description="Those that failed and were not seen to pass since.")

    @classmethod
    def of(cls, external: External) -> Self:
        """Return the wire form."""
        return cls(
            attempt=external.attempt,
            at=iso(external.at_ms),
            commit=external.commit,
            checks=[ExternalCheckAnswer.of(check) for check in external.checks],
            failed=list(external.failed),
        )


class HandedOverAnswer(BaseModel):
    """From when on the forge was to land a commit."""

    at: str | None
    commit: str

    @classmethod
    def of(cls, handed: HandedOver) -> Self:
        """Return the wire form."""
        return cls(at=iso(handed.at_ms), commit=handed.commit)


class IssueAnswer(BaseModel):
    """One thing that a reviewer found."""

    problem: str
    severity: str
    must_fix: bool
    file: str | None
    line: int | None
    suggestion: str | None

    @classmethod
    def of(cls, issue: Issue) -> Self:
        """Return the wire form."""
        return cls(
            problem=issue.problem,
            severity=issue.severity,
            must_fix=issue.must_fix,
            file=issue.file or None,
            line=issue.line or None,
            suggestion=issue.suggestion or None,
        )


class ReviewedAnswer(BaseModel):
    """What a reviewing agent said of one commit."""

    attempt: int
    at: str | None
    decision: str
    reviewer: str | None
    commit: str | None
    summary: str
    issues: list[IssueAnswer]

    @classmethod
    def of(cls, review: Reviewed) -> Self:
        """Return the wire form."""
        return cls(
            attempt=review.attempt,
            at=iso(review.at_ms),
            decision=review.decision,
            reviewer=review.reviewer or None,
            commit=review.commit or None,
            summary=review.summary,
            issues=[IssueAnswer.of(issue) for issue in review.issues],
        )


class DecidedAnswer(BaseModel):
    """What a person said of a change."""

    attempt: int
    at: str | None
    decision: str
    by: str
    words: str
    commit: str

    @classmethod
    def of(cls, decided: Decided) -> Self:
        """Return the wire form."""
        return cls(
            attempt=decided.attempt,
            at=iso(decided.at_ms),
            decision=decided.decision,
            by=decided.by,
            words=decided.words,
            commit=decided.commit,
        )


class PullRequestAnswer(BaseModel):
    """Where a change was proposed."""

    number: int
    url: str


class RefusedAnswer(BaseModel):
    """A place of the network that a command asked for and was not let to."""

    where: str
    times: int


class TaskReportAnswer(BaseModel):
    """All that happened to one task."""

    task: TaskAnswer
    phases_s: dict[str, float] = Field(description="Seconds, by phase.")
    spans: list[SpanAnswer]
    tries: list[TryAnswer]
    patterns: list[PatternAnswer] = Field(description="Of each try that played one.")
    checks: list[CheckedAnswer]
    external_checks: list[ExternalAnswer]
    handed_over: list[HandedOverAnswer]
    reviews: list[ReviewedAnswer]
    decisions: list[DecidedAnswer]
    pull_requests: list[PullRequestAnswer]
    refused: list[RefusedAnswer]
    commands: list[str] = Field(description="What a person can do about it now.")

    @classmethod
    def of(cls, task: TaskReport) -> Self:
        """Return the wire form."""
        return cls(
            task=TaskAnswer.of(task.status),
            phases_s=_by_name(task.seconds),
            spans=[SpanAnswer.of(each) for each in task.spans],
            tries=[TryAnswer.of(each) for each in task.tries],
            patterns=[PatternAnswer.of(each) for each in task.played],
            checks=[CheckedAnswer.of(each) for each in task.checks],
            external_checks=[ExternalAnswer.of(each) for each in task.external],
            handed_over=[HandedOverAnswer.of(each) for each in task.handed_over],
            reviews=[ReviewedAnswer.of(each) for each in task.reviews],
            decisions=[DecidedAnswer.of(each) for each in task.decisions],
            pull_requests=[
                PullRequestAnswer(number=each.number, url=each.url) for each in task.pull_requests
            ],
            refused=[RefusedAnswer(where=each.where, times=each.times) for each in task.refused],
            commands=list(task.commands),
        )


class HappenedAnswer(BaseModel):
    """Something that concerns the run as a whole."""

    at: str | None
    words: str

    @classmethod
    def of(cls, happened: Happened) -> Self:
        """Return the wire form."""
        return cls(at=iso(happened.at_ms), words=happened.words)


class ReportAnswer(BaseModel):
    """What became of a run, or has so far."""

    version: Literal["cc.report/1"] = Field(SCHEMA, alias="schema")
    made_at: str | None
    going: bool = Field(description="The run is not over: this is how far it has come.")
    run: StatusAnswer
    commands: list[str] = Field(description="What a person can do about the run now.")
    phases_s: dict[str, float] = Field(description="Seconds, by phase, of all tasks together.")
    used: list[SpendingAnswer]
    happened: list[HappenedAnswer]
    tasks: list[TaskReportAnswer]

    @classmethod
    def of(cls, report: RunReport) -> Self:
        """Return the wire form."""
        return cls(
            schema=SCHEMA,
            made_at=iso(report.made_ms),
            going=report.going,
            run=StatusAnswer.of(report.run),
            commands=list(report.commands),
            phases_s=_by_name(report.seconds),
            used=[SpendingAnswer.of(each) for each in report.used],
            happened=[HappenedAnswer.of(each) for each in report.happened],
            tasks=[TaskReportAnswer.of(each) for each in report.tasks],
        )


def _by_name(seconds: Mapping[Phase, float]) -> dict[str, float]:
    return {phase.value: round(spent, 3) for phase, spent in seconds.items()}
