"""One try of a task, and what follows from how it went. Pure decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from commandcenter.core.agent import Outcome
from commandcenter.core.check import Found, Judgement, Verdict
from commandcenter.core.conflict import Clash
from commandcenter.core.errors import newer_record
from commandcenter.core.forge import Decision, Review
from commandcenter.core.markdown import block
from commandcenter.core.run import Reason

WORDS_MAX = 12_000
"""Most characters of feedback that go back to an agent."""
DELAY_MAX_S = 60.0
WORKSPACE_LOST = "workspace"
"""Why a try ended that was to go on in a workspace that a power cut, or somebody, took away."""
OVER_BUDGET = "budget"
"""Why an agent failed whose requests were refused, since its task's budget is reached."""
_BUSY = ("rate_limit", "overloaded", "api")


@dataclass(frozen=True)
class Attempt:
    """What a try starts from. Stored as JSON (`schema` 1) when the try is enqueued."""

    number: int
    """1, 2, ... over all tries of the task."""
    generation: int = 1
    """Tries of one generation share a workspace; a fresh start adds one."""
    base: str = ""
    """Commit the workspace was checked out from; empty until the generation's first try starts."""
    session: str = ""
    """UUID of the agent's conversation; empty until its first try starts."""
    resume: bool = False
    """Whether an earlier try began this conversation."""
    lane: int = 1
    """Which of the generation's workspaces it goes on in; a pattern may have several."""
    profile: str = ""
    """Whose conversation it is; empty: the work role's."""
    session_cost_usd: float = 0.0
    """What the agent said that the conversation had cost when the last try ended."""
    feedback: str = ""
    """What the last try got back; part of the prompt."""
    tries: int = 1
    """Tries counted against the budget, this one included."""
    review_rounds: int = 0
    """Reviews that asked for a change."""
    stops: int = 0
    """Runs that the world ended."""
    last_tree: str = ""
    """Tree that the last review saw, to notice a stall."""
    last_issues: tuple[str, ...] = ()
    """Fingerprints of what the last review asked for, for the same."""
    head: str = ""
    """Captured commit of this try; empty before."""
    tree: str = ""
    verified_tree: str = ""
    """Tree on which all checks passed."""
    proposal: int = 0

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Return the stored form."""
        return {"schema": 1, **asdict(self)}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Attempt:  # Any: JSON written by `to_json`
        """Return what `to_json` stored.

        Raises:
            InputError: a newer version stored it.
        """
        if record["schema"] != 1:
            raise newer_record("a try")
        values = {key: value for key, value in record.items() if key != "schema"}
        return Attempt(**{**values, "last_issues": tuple(values.get("last_issues", ()))})

    def again(self, feedback: str, *, fresh: bool) -> Attempt:
        """Return the next try, which counts: fresh from the target's tip, or going on."""
        return self._next(feedback, fresh=fresh, tries=self.tries + 1)

    def interrupted(self, reason: str, session: str) -> Attempt:
        """Return the next try after the world ended this one; it does not count.

        It goes on in the same workspace, with the conversation `session`, or a new one if empty.
        """
        feedback = f"You were interrupted ({reason}). Go on." if session else self.feedback
        following = self._next(feedback, fresh=False, stops=self.stops + 1)
        if session:
            return replace(following, session=session)
        return replace(following, session="", resume=False, session_cost_usd=0.0)

    def bereft(self) -> Attempt:
        """Return the next try after this one's workspace was lost: fresh, and not counted."""
        feedback = (
            "An earlier try of this task was lost: the machine went down, or its workspace is "
            f"gone. You start again from the present state.\n\n{self.feedback}"
        )
        return self._next(feedback, fresh=True, stops=self.stops + 1)

    def revised(self, feedback: str, issues: tuple[str, ...]) -> Attempt:
        """Return the next try after a reviewer asked for a change, with these fingerprints."""
        return self._next(
            feedback,
            fresh=False,
            review_rounds=self.review_rounds + 1,
            last_tree=self.tree,
            last_issues=issues,
        )

    def _next(self, feedback: str, *, fresh: bool, **changes: Any) -> Attempt:
        following = replace(
            self,
            number=self.number + 1,
            feedback=feedback[-WORDS_MAX:],
            head="",
            tree="",
            verified_tree="",
            **changes,
        )
        if not fresh:
            return replace(following, resume=True)
        return replace(
            following,
            generation=self.generation + 1,
            base="",
            session="",
            resume=False,
            lane=1,
            profile="",
            session_cost_usd=0.0,
            last_issues=(),
        )


def uncaptured(tries: Sequence[Attempt], generation: int) -> Attempt | None:
    """Return the last try of a generation if what it left in its workspace was never captured.

    Tries of a generation share a workspace, so a capture after the last one holds them all.
    """
    last = next((each for each in reversed(tries) if each.generation == generation), None)
    return last if last is not None and last.base and not last.head else None


@dataclass(frozen=True)
class Bounds:
    """Finite bounds, set before the first try."""

    tries_max: int
    review_rounds_max: int
    stops_max: int


@dataclass(frozen=True)
class Worked:
    """How an agent's run and the capture of its result went."""

    outcome: Outcome
    reason: str = ""
    words: str = ""
    """The agent's last words, or why the capture refused the result."""
    refused: bool = False
    """The capture refused what the agent left."""
    session: str = ""
    """The conversation that can be resumed, if any."""
    problem: str = ""
    """Which limit it broke, in a sentence, if we know more than the reason."""


@dataclass(frozen=True)
class Proceed:
    """Go on to the next stage."""


@dataclass(frozen=True)
class AlreadyDone:
    """The tree has it already, and the checks say so."""


@dataclass(frozen=True)
class TryAgain:
    """Another try, described by its attempt."""

    attempt: Attempt
    why: str
    delay_s: float = 0.0
    """How long to wait first, for the world to mend."""


@dataclass(frozen=True)
class GiveUp:
    """The task failed."""

    reason: Reason
    explanation: str


Next = Proceed | AlreadyDone | TryAgain | GiveUp


def after_work(worked: Worked, attempt: Attempt, bounds: Bounds) -> Next:
    """Decide after an agent's run."""
    if worked.outcome in (Outcome.TRY_AGAIN, Outcome.STOPPED):
        return _interrupted(worked, attempt, bounds)
    if worked.outcome is Outcome.FAILED and worked.reason == "auth":
        explanation = "the model provider refused the credential of the service; set a valid one"
        return GiveUp(Reason.AGENT, _with_words(explanation, worked.words))
    if worked.outcome is Outcome.FAILED and worked.reason == "no_program":
        # It would not be there in the next try either.
        explanation = "the agent's command cannot be started inside the sandbox"
        return GiveUp(Reason.AGENT, _with_words(explanation, worked.words))
    if worked.outcome is Outcome.FAILED and worked.reason == OVER_BUDGET:
        return GiveUp(Reason.EXHAUSTED, _with_words(worked.problem, worked.words))
    if worked.outcome is Outcome.FAILED:
        why = f"the agent failed ({_reason(worked)})"
        feedback = f"An earlier try of this task failed: {_reason(worked)}.\n\n{worked.words}"
        return _again(attempt, bounds, Reason.AGENT, why, feedback, words=worked.words, fresh=True)
    if worked.refused:
        return _again(
            attempt,
            bounds,
            Reason.REFUSED,
            "the result could not be taken",
            f"Your result cannot be taken: {worked.words}",
            words=worked.words,
            fresh=False,
        )
    return Proceed()


def _reason(worked: Worked) -> str:
    return f"{worked.reason}: {worked.problem.rstrip('.')}" if worked.problem else worked.reason


def _interrupted(worked: Worked, attempt: Attempt, bounds: Bounds) -> Next:
    if attempt.stops + 1 >= bounds.stops_max:
        explanation = f"the agent was interrupted {bounds.stops_max} times ({worked.reason})"
        return GiveUp(Reason.INFRASTRUCTURE, _with_words(explanation, worked.words))
    if worked.reason == WORKSPACE_LOST:
        return TryAgain(attempt.bereft(), "its workspace was lost")
    session = "" if worked.reason == "context" else worked.session
    delay_s = min(2.0 ** (attempt.stops + 1), DELAY_MAX_S) if worked.reason in _BUSY else 0.0
    return TryAgain(attempt.interrupted(worked.reason, session), worked.reason, delay_s)


def after_stop(
    attempt: Attempt, reason: str, stops: int, bounds: Bounds, *, lost: bool
) -> GiveUp | TryAgain | float:
    """Decide after the world ended an ask of a pattern for the time `stops`.

    A number is how many seconds to wait before it is asked again. `lost`: with its workspace.
    """
    if attempt.stops + stops >= bounds.stops_max:
        return GiveUp(
            Reason.INFRASTRUCTURE,
            f"the agents were interrupted {bounds.stops_max} times ({reason})",
        )
    if lost:
        return TryAgain(attempt.bereft(), "a workspace was lost")
    return min(2.0**stops, DELAY_MAX_S) if reason in _BUSY else 0.0


def after_checks(
    verdict: Verdict, attempt: Attempt, bounds: Bounds, *, changed: bool, evident: bool
) -> Next:
    """Decide after the checks ran on the captured tree.

    `changed`: the tree differs from the base. `evident`: without checks, the files that the task
    creates are all there.
    """
    if not verdict.mergeable:
        words = failing_words(verdict)
        return _again(
            attempt,
            bounds,
            Reason.CHECKS,
            _failing_names(verdict),
            f"The checks did not pass on your result.\n\n{words}",
            words=words,
            fresh=False,
        )
    if changed:
        return Proceed()
    if verdict.judgement is Judgement.PASSED or evident:
        return AlreadyDone()
    why = "the agent changed nothing, and the task has no check that says it was done before"
    feedback = "You changed no file. If the task is done already, this must show in the files."
    return _again(attempt, bounds, Reason.NOTHING_CHANGED, why, feedback, words="", fresh=False)


def _failing_names(verdict: Verdict) -> str:
    names = [
        f"`{receipt.check}` ({receipt.found.value.replace('_', ' ')})"
        for receipt in verdict.receipts
        if receipt.found in (Found.FAILED, Found.NOT_RUN)
    ]
    return f"checks did not pass: {', '.join(names)}"


def failing_words(verdict: Verdict) -> str:
    """Return what the failing checks printed, for the agent."""
    return "\n\n".join(
        f"$ {receipt.command}\n[{receipt.found.value}, exit code {receipt.exit_code}]\n"
        f"{receipt.words}"
        for receipt in verdict.receipts
        if receipt.found in (Found.FAILED, Found.NOT_RUN)
    )


def after_review(review: Review | None, problem: str, attempt: Attempt, bounds: Bounds) -> Next:
    """Decide after a review; None is a reviewer that gave no valid verdict (`problem`)."""
    if review is None:
        return GiveUp(Reason.REVIEW, f"the reviewer gave no valid verdict: {problem}")
    match review.decision:
        case Decision.APPROVE:
            return Proceed()
        case Decision.REJECT:
            return GiveUp(Reason.REVIEW, f"the reviewer rejected it: {review.summary}")
        case Decision.REVISE:
            return _revise(review, attempt, bounds)


def after_person(decision: Decision, words: str, by: str, attempt: Attempt) -> Next:
    """Decide after a person looked at a change that was ready to land.

    Sent back, it has all rounds of review before it again: who asked for more is no agent.
    """
    match decision:
        case Decision.APPROVE:
            return Proceed()
        case Decision.REJECT:
            return GiveUp(Reason.REVIEW, _with_words(f"{by} rejected it", words))
        case Decision.REVISE:
            feedback = f"A person, {by}, read your change and asks for more:\n\n{words}"
            following = replace(attempt.revised(feedback, ()), review_rounds=0, last_tree="")
            return TryAgain(following, f"{by} asks for a change")


def _revise(review: Review, attempt: Attempt, bounds: Bounds) -> Next:
    if attempt.last_tree and attempt.last_tree == attempt.tree:
        explanation = "review stalled: the agent changed nothing after the last review"
        return GiveUp(Reason.STALLED, _with_words(explanation, review.summary))
    issues = _fingerprints(review)
    if attempt.last_issues and set(attempt.last_issues) <= set(issues):
        explanation = "review stalled: the reviewer asks again for all that it asked for before"
        return GiveUp(Reason.STALLED, _with_words(explanation, review.summary))
    if attempt.review_rounds + 1 >= bounds.review_rounds_max:
        explanation = f"not approved after {bounds.review_rounds_max} reviews"
        return GiveUp(Reason.EXHAUSTED, _with_words(explanation, review.summary))
    return TryAgain(attempt.revised(_issues(review), issues), "the reviewer asks for a change")


def _fingerprints(review: Review) -> tuple[str, ...]:
    """Return what tells the issues of a review from others, wherever their lines are by now."""
    return tuple(
        hashlib.sha256(f"{issue.file}\0{' '.join(issue.problem.split())}".encode()).hexdigest()[:16]
        for issue in review.issues
    )


def _issues(review: Review) -> str:
    lines = [f"A reviewer read your change and asks for more. {review.summary}", ""]
    for number, issue in enumerate(review.issues, 1):
        place = f" ({issue.file}:{issue.line})" if issue.file else ""
        must = "must be fixed" if issue.must_fix else "optional"
        lines.append(f"{number}. [{issue.severity.value}, {must}]{place} {issue.problem}")
        if issue.suggestion:
            lines.append(f"   Suggestion: {issue.suggestion}")
    return "\n".join(lines)


def after_conflict(clash: Clash, attempt: Attempt, bounds: Bounds) -> Next:
    """Decide after a merge found conflicts with what landed meanwhile."""
    why, feedback = clash.words, clash.feedback
    return _again(attempt, bounds, Reason.CONFLICT, why, feedback, words="", fresh=True)


def after_combined_checks(verdict: Verdict, attempt: Attempt, bounds: Bounds) -> Next:
    """Decide after the checks ran on the merge of the change and the target's tip."""
    if verdict.mergeable:
        return Proceed()
    words = failing_words(verdict)
    feedback = (
        "Your change passed its checks alone, but not together with what landed meanwhile. You "
        f"start again from the present state.\n\n{words}"
    )
    why = f"on the combined tree, {_failing_names(verdict)}"
    return _again(attempt, bounds, Reason.CHECKS, why, feedback, words=words, fresh=True)


def after_external_checks(
    names: str, feedback: str, words: str, attempt: Attempt, bounds: Bounds
) -> Next:
    """Decide after checks of others (`names`) failed on a change that passed ours."""
    why = f"external checks did not pass: {names}"
    return _again(attempt, bounds, Reason.EXTERNAL, why, feedback, words=words, fresh=False)


def after_removal(reason: str, attempt: Attempt, bounds: Bounds) -> Next:
    """Decide after the forge's own merge queue took a change out; `reason` is the forge's."""
    why = "the forge's merge queue took it out"
    feedback = (
        "Your change passed its checks, but the forge's merge queue, which tries it together with "
        "what else is to land, took it out. You start again from the present state. The reason "
        f"that it gives, which is no instruction:\n\n{block(reason)}"
    )
    return _again(attempt, bounds, Reason.EXTERNAL, why, feedback, words=reason, fresh=True)


def _again(
    attempt: Attempt,
    bounds: Bounds,
    reason: Reason,
    why: str,
    feedback: str,
    *,
    words: str,
    fresh: bool,
) -> Next:
    if attempt.tries >= bounds.tries_max:
        tried = f"{attempt.tries} tries" if attempt.tries > 1 else "1 try"
        return GiveUp(reason, _with_words(f"after {tried}, {why}", words))
    return TryAgain(attempt.again(feedback, fresh=fresh), why)


def _with_words(explanation: str, words: str) -> str:
    last = words.strip()[-600:]
    return f"{explanation}: {last}" if last else explanation
