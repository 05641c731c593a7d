"""What the dialects of forges have in common: texts, marks, and when a proposal may merge."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from commandcenter.core.errors import ForgeError, Refusal
from commandcenter.core.forge import (
    CheckState,
    Decision,
    ExternalCheck,
    Issue,
    Proposal,
    ProposalState,
    Review,
    StatusState,
)

REVIEW_CONTEXT = "commandcenter/review"
TEXT_CHARACTERS_MAX = 65_536
"""What GitHub takes; the others take more, and nobody reads more."""
DESCRIPTION_CHARACTERS_MAX = 140
MERGEABLE_WAITS_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_CUT = "\n\n*(The rest was cut: too long for the forge.)*"

SUMMARY_CHARACTERS_MAX = 4_000
"""Of what a check of others says."""
_STATUSES = {
    "pending": CheckState.PENDING,
    **dict.fromkeys(("success", "skipped"), CheckState.PASSED),
}
_VERBS = {
    Decision.APPROVE: "Approved",
    Decision.REVISE: "Changes requested",
    Decision.REJECT: "Rejected",
}


class StatusBoard(Protocol):
    """The part of a forge that shows commit statuses."""

    async def set_status(
        self, commit: str, *, context: str, state: StatusState, description: str
    ) -> None:
        """Set a commit status."""


@dataclass(frozen=True)
class SeenStatus:
    """A commit status of anybody's."""

    id: int
    context: str
    state: str
    description: str
    url: str


def newest(statuses: Iterable[SeenStatus]) -> list[ExternalCheck]:
    """Return the newest status of each context; what is neither good nor pending has failed."""
    latest = {each.context: each for each in sorted(statuses, key=lambda each: each.id)}
    return [
        ExternalCheck(
            each.context,
            _STATUSES.get(each.state, CheckState.FAILED),
            f"status/{each.id}",
            each.description[:SUMMARY_CHARACTERS_MAX],
            each.url,
        )
        for each in latest.values()
    ]


@dataclass(frozen=True)
class Placed:
    """The issues of a review by where they are shown."""

    on_lines: tuple[Issue, ...]
    in_summary: tuple[Issue, ...]


def has_lines(review: Review) -> bool:
    """Say whether any issue is about a line."""
    return any(issue.file and issue.line > 0 for issue in review.issues)


def placed(review: Review, shown: Mapping[str, Collection[int]]) -> Placed:
    """Put issues on their lines where the diff shows them, the others into the summary."""
    fits = [issue for issue in review.issues if issue.line in shown.get(issue.file, ())]
    rest = tuple(issue for issue in review.issues if issue not in fits)
    return Placed(tuple(fits), rest)


def check_can_merge(proposal: Proposal, head: str, *, mergeable: bool | None) -> None:
    """Make sure that a proposal can merge, as far as one can see.

    Raises:
        ForgeError: it has ended, its head is another one, or it conflicts.
    """
    if proposal.state is not ProposalState.OPEN:
        raise ForgeError(
            f"Pull request #{proposal.number} is {proposal.state.value}.",
            status=405,
            refusal=Refusal.UNMERGEABLE,
        )
    if proposal.head != head:
        raise ForgeError(
            f"Pull request #{proposal.number} is at {proposal.head[:12]}, not at {head[:12]}.",
            status=409,
            hint="It was pushed to after the review: review it again.",
            refusal=Refusal.MOVED,
        )
    if mergeable is False:
        raise ForgeError(
            f"Pull request #{proposal.number} conflicts with {proposal.base_branch}.",
            status=405,
            hint=f"Rebase {proposal.head_branch} onto {proposal.base_branch}.",
            refusal=Refusal.UNMERGEABLE,
        )


async def tell_verdict(forge: StatusBoard, review: Review) -> None:
    """Set the commit status that says whether a review approved."""
    good = review.decision is Decision.APPROVE
    await forge.set_status(
        review.commit,
        context=REVIEW_CONTEXT,
        state=StatusState.SUCCESS if good else StatusState.FAILURE,
        description=_described(review),
    )


def cut(text: str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    """Return the text as it can be sent, cut with a note when it is too long."""
    text = sendable(text)
    if len(text) <= characters_max:
        return text
    return text[: characters_max - len(_CUT)] + _CUT


def sendable(text: str) -> str:
    """Return the text without what no forge takes: NUL, and bytes that were not UTF-8."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def mark(review: Review) -> str:
    """Return an invisible mark that tells this very review from any other."""
    digest = hashlib.sha256(repr(review).encode(errors="surrogatepass")).hexdigest()[:16]
    return f"<!-- commandcenter:review:{digest} -->"


def review_text(review: Review, issues: Sequence[Issue]) -> str:
    """Return the body: it names the verdict, for the event may only be a comment."""
    by = f" by {review.reviewer}" if review.reviewer else ""
    parts = [f"**{_VERBS[review.decision]}**{by} at {review.commit}", review.summary]
    if issues:
        parts.append("\n".join(_bullet(issue) for issue in issues))
    ending = f"\n\n{mark(review)}"
    text = "\n\n".join(part for part in parts if part)
    return cut(text, TEXT_CHARACTERS_MAX - len(ending)) + ending


def _bullet(issue: Issue) -> str:
    line = f":{issue.line}" if issue.line else ""
    where = f" `{issue.file}{line}`" if issue.file else ""
    return f"- {_weight(issue)}{where}: {_said(issue)}".replace("\n", "\n  ")


def line_text(issue: Issue) -> str:
    """Return the body of a comment on a line."""
    return cut(f"{_weight(issue)}: {_said(issue)}")


def _weight(issue: Issue) -> str:
    return f"**{issue.severity.value}**" + ("" if issue.must_fix else " (optional)")


def _said(issue: Issue) -> str:
    return issue.problem + (f"\n\nSuggestion: {issue.suggestion}" if issue.suggestion else "")


def _described(review: Review) -> str:
    first_line = review.summary.strip().partition("\n")[0]
    verdict = _VERBS[review.decision]
    return f"{verdict}: {first_line}" if first_line else verdict
