"""The wire schema of patterns in a report: their rounds, and how they ended."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, Field

from commandcenter.api.schema import Tokens, iso
from commandcenter.core.rounds import Answered, Asked, Concluded, Joined, Played, Round, Subtask


class AnsweredAnswer(BaseModel):
    """What one run of an agent said, what it left, and what was measured of that."""

    at: str | None
    profile: str
    outcome: str = Field(description="done, failed or stopped; of one that does not count, why.")
    reason: str | None
    words: str | None = Field(description="The agent's last ones. Never trusted.")
    result: dict[str, Any] | None = Field(description="Its structured answer, by its `schema`.")
    problem: str | None = Field(description="Why its answer could not be used.")
    refused: str | None = Field(description="Why what it left could not be taken.")
    commit: str | None
    files: int
    insertions: int
    deletions: int
    moved: bool = Field(description="Whether its lane holds another tree than before.")
    checks: str | None = Field(description="Judgement of the checks; null: they were not run.")
    failing: list[str]
    flags: list[str] = Field(description="Tests and checks that it weakened, in sentences.")
    left: list[str] = Field(description="Files that it changed although it was only to read.")
    tokens: Tokens
    cost_usd: float | None

    @classmethod
    def of(cls, answered: Answered) -> Self:
        """Return the wire form."""
        return cls(
            at=iso(answered.at_ms),
            profile=answered.profile,
            outcome=answered.outcome,
            reason=answered.reason or None,
            words=answered.words or None,
            result=dict(answered.result) or None,
            problem=answered.problem or None,
            refused=answered.refused or None,
            commit=answered.commit or None,
            files=answered.files,
            insertions=answered.insertions,
            deletions=answered.deletions,
            moved=answered.moved,
            checks=answered.checks or None,
            failing=list(answered.failing),
            flags=list(answered.flags),
            left=list(answered.left),
            tokens=Tokens(input=answered.input_tokens, output=answered.output_tokens),
            cost_usd=answered.cost_usd,
        )


class AskAnswer(BaseModel):
    """One agent that was asked in a round."""

    position: int
    role: str
    profile: str
    lane: int = Field(description="Its workspace; 0: a throw-away checkout, to read.")
    text: str = Field(description="The beginning of what it was asked beyond the task.")
    answer: AnsweredAnswer | None
    uncounted: list[AnsweredAnswer] = Field(description="Runs that the world or we ended.")

    @classmethod
    def of(cls, asked: Asked) -> Self:
        """Return the wire form."""
        return cls(
            position=asked.position,
            role=asked.role,
            profile=asked.profile,
            lane=asked.lane,
            text=asked.text,
            answer=AnsweredAnswer.of(asked.answered) if asked.answered else None,
            uncounted=[AnsweredAnswer.of(each) for each in asked.uncounted],
        )


class SubtaskAnswer(BaseModel):
    """A task that another one was split into."""

    task: str
    title: str
    landed: bool | None = Field(description="Null until all of the split have ended.")
    why: str | None = Field(description="Why it did not land.")

    @classmethod
    def of(cls, subtask: Subtask) -> Self:
        """Return the wire form."""
        return cls(
            task=subtask.id, title=subtask.title, landed=subtask.landed, why=subtask.words or None
        )


class JoinedAnswer(BaseModel):
    """What came of a split: the task's own checks, with what landed of its sub-tasks."""

    at: str | None
    checks: str | None = Field(description="Their judgement; null: they were not run.")
    failing: list[str]
    commit: str | None
    problem: str | None = Field(description="Why nothing was split.")

    @classmethod
    def of(cls, joined: Joined) -> Self:
        """Return the wire form."""
        return cls(
            at=iso(joined.at_ms),
            checks=joined.checks or None,
            failing=list(joined.failing),
            commit=joined.commit or None,
            problem=joined.problem or None,
        )


class RoundAnswer(BaseModel):
    """Agents that were asked side by side, or a split into tasks."""

    round: int
    at: str | None
    until: str = Field(description="all; green: it is over when one passes the checks.")
    asks: list[AskAnswer]
    tasks: list[SubtaskAnswer] = Field(description="What the task was split into; else empty.")
    reason: str | None = Field(description="Why it was split like this, in the planner's words.")
    joined: JoinedAnswer | None

    @classmethod
    def of(cls, one: Round) -> Self:
        """Return the wire form."""
        return cls(
            round=one.number,
            at=iso(one.at_ms),
            until=one.until,
            asks=[AskAnswer.of(each) for each in one.asks],
            tasks=[SubtaskAnswer.of(each) for each in one.subtasks],
            reason=one.reason or None,
            joined=JoinedAnswer.of(one.joined) if one.joined else None,
        )


class ConclusionAnswer(BaseModel):
    """How a pattern ended, and why."""

    at: str | None
    result: str = Field(description="accepted, rejected, exhausted, stalled, blocked")
    words: str
    lane: int = Field(description="Accepted: whose work was taken.")
    facts: dict[str, Any] = Field(
        description="By pattern: candidates, ranking and scores, route, handoffs, the last ledger."
    )

    @classmethod
    def of(cls, concluded: Concluded) -> Self:
        """Return the wire form."""
        return cls(
            at=iso(concluded.at_ms),
            result=concluded.result,
            words=concluded.words,
            lane=concluded.lane,
            facts=dict(concluded.facts),
        )


class PatternAnswer(BaseModel):
    """A pattern as one try of a task played it."""

    attempt: int
    pattern: str | None = Field(description="As a plan writes it.")
    rounds: list[RoundAnswer]
    conclusion: ConclusionAnswer | None = Field(description="Null while it goes on.")

    @classmethod
    def of(cls, played: Played) -> Self:
        """Return the wire form."""
        return cls(
            attempt=played.attempt,
            pattern=played.pattern or None,
            rounds=[RoundAnswer.of(each) for each in played.rounds],
            conclusion=ConclusionAnswer.of(played.concluded) if played.concluded else None,
        )
