"""The names and words of a published change: branch, commit, pull request. Pure text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from commandcenter.core.agent import Usage
from commandcenter.core.change import Change
from commandcenter.core.check import Found, Judgement, Receipt, Verdict
from commandcenter.core.forge import Decision
from commandcenter.core.markdown import cell, code
from commandcenter.core.plan import Plan, Task
from commandcenter.core.workspace import WorkspaceKey

HEAD_TRAILER = "CommandCenter-Head"
"""In a commit that stands for another one on the target: which one that is."""
OPENING_MAX = 1000
HOSTS_MAX = 20
"""How many refused hosts a pull request names."""
_RESULT = "result"
_REFUSED = (".lock", _RESULT)
"""Ends of names that git refuses, or that the branch of a run's result has."""
_SIGNS = {
    Found.PASSED: "passed",
    Found.FAILED: "**failed**",
    Found.FAILED_ON_BASE: "failed, as it did before this change",
    Found.NOT_RUN: "**not run**",
}


def branch_name(run: str, task: Task) -> str:
    """Return the branch of a task in a run: the same ones give the same name, others another."""
    slug = re.sub(r"[^a-z0-9]+", "-", task.title.lower()).strip("-")[:40].rstrip("-")
    return f"commandcenter/{run}/{_identity(task.id)}{f'-{slug}' if slug else ''}"


def _identity(task: str) -> str:
    """Return the task's id if it is plain, else one that git takes and no other task has."""
    # Without a dash, the first one in a branch's name is where the title begins.
    if re.fullmatch(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*", task) and not task.endswith(_REFUSED):
        return task
    words = ".".join(re.findall(r"[A-Za-z0-9]+", task)) or "task"
    return f"{words}_{hashlib.sha256(task.encode()).hexdigest()[:8]}"


def landing_branch(run: str) -> str:
    """Return the branch that holds a run's result when its target cannot be moved."""
    return f"commandcenter/{run}/{_RESULT}"


def salvage_branch(key: WorkspaceKey) -> str:
    """Return the branch on which work that did not land is given back, unless another is named."""
    return f"salvage/{key.run}/{_identity(key.task)}-{key.purpose}-{key.attempt}"


def proposal_title(task: Task) -> str:
    """Return the title of a task's pull request."""
    return f"Task {task.id}: {task.title}"[:250]


def commit_message(run: str, task: Task, number: int) -> str:
    """Return the message of a task's commit, with trailers that say where it comes from."""
    subject = task.commit.strip() or f"{task.title}\n\nTask {task.id} of the plan."
    return f"{subject}\n\n{_trailers(run, task, number)}\n"


def salvage_message(run: str, task: Task, number: int) -> str:
    """Return the message of the commit that keeps what a try left unfinished."""
    subject = f"Unfinished: {task.title}"
    return f"{subject}\n\nNot captured when it ended.\n\n{_trailers(run, task, number)}\n"


def _trailers(run: str, task: Task, number: int) -> str:
    return (
        f"CommandCenter-Run: {run}\nCommandCenter-Task: {task.id}\nCommandCenter-Attempt: {number}"
    )


def squash_message(run: str, task: Task, attempt: int, proposal: int, head: str) -> str:
    """Return the message of the commit that stands for a task's pull request, at this head."""
    words = task.commit.strip() or _opening(task)
    trailers = f"{_trailers(run, task, attempt)}\n{HEAD_TRAILER}: {head}"
    return (
        "\n\n".join(filter(None, [f"{proposal_title(task)} (#{proposal})", words, trailers])) + "\n"
    )


def rebase_message(run: str, task: Task, attempt: int, head: str) -> str:
    """Return the message of a task's commit where it is put onto what landed before it."""
    return f"{commit_message(run, task, attempt).rstrip()}\n{HEAD_TRAILER}: {head}\n"


def _opening(task: Task) -> str:
    """Return the first paragraph of what the task asks for, unless that is a list or a field."""
    first = task.instructions.strip().partition("\n\n")[0]
    return "" if re.match(r"\*\*|[-*#>|`]|\d+[.)]", first) else first[:OPENING_MAX]


def merge_message(task: Task, number: int, branch: str) -> str:
    """Return the message of the commit that merges a task's branch."""
    return f"Merge pull request #{number} from {branch}\n\n{proposal_title(task)}\n"


def proposal_body(
    plan: Plan,
    task: Task,
    change: Change,
    verdict: Verdict,
    usage: Usage,
    *,
    run: str,
    number: int,
    refused: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Return the body of a task's pull request: what it is, what changed, what was checked.

    `refused`: hosts that its commands were not allowed to reach, and how often they tried.
    """
    parts = [
        _quoted(task),
        f"### Files changed\n\n{_files(change)}",
        f"### Checks\n\n{_checks(verdict)}",
    ]
    if change.notes:
        parts.append("### Left out\n\n" + "\n".join(f"- {note}" for note in change.notes))
    if refused:
        parts.append(f"### Refused connections\n\n{_refused(refused)}")
    origin = f"Plan: {plan.title or plan.source.path or 'untitled'}, batch {task.batch}"
    parts.append(f"---\n{origin}. Run `{run}`, try {number}. {_cost(usage)}")
    return "\n\n".join(parts) + "\n"


def renewed_body(shown: str, ours: str, task: Task, run: str) -> str:
    """Return a pull request's body with our part brought up to date; what people wrote stays.

    Where our part cannot be told any more, all of it is theirs, and ours comes after it.
    """
    text = shown.replace("\r\n", "\n")  # as browsers send it
    first = re.escape(_quoted(task))
    last = rf"Plan: [^\n]* Run `{re.escape(run)}`, try \d+\.[^\n]*$"
    part = re.search(rf"^{first}.*?^{last}", text, re.MULTILINE | re.DOTALL)
    if part is None:
        return f"{text.rstrip()}\n\n{ours}" if text.strip() else ours
    return f"{text[: part.start()]}{ours.rstrip()}{text[part.end() :]}"


def _quoted(task: Task) -> str:
    text = task.instructions.strip() or task.title
    return "\n".join(f"> {line}".rstrip() for line in text[:20_000].splitlines())


def _files(change: Change) -> str:
    shown = [f"- {code(path)}" for path in change.files[:100]]
    more = len(change.files) - len(shown)
    tail = [f"- and {more} more"] if more > 0 else []
    return "\n".join([*shown, *tail, "", f"+{change.insertions} -{change.deletions} lines"])


def _refused(refused: Mapping[str, int]) -> str:
    found = sorted(refused.items())
    lines = [f"- {code(where)}{f', {n} times' if n > 1 else ''}" for where, n in found[:HOSTS_MAX]]
    more = len(found) - len(lines)
    tail = [f"- and {more} more"] if more > 0 else []
    return "\n".join(["Not allowed by the egress policy:", "", *lines, *tail])


def _checks(verdict: Verdict) -> str:
    if verdict.judgement is Judgement.UNVERIFIED:
        return "**Unverified**: the plan gives no command that checks this task."
    rows = [_row(receipt) for receipt in verdict.receipts]
    head = ["| check | result | exit code | seconds | log |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows, "", f"All on tree `{verdict.tree}`."])


def _row(receipt: Receipt) -> str:
    command = cell(receipt.command[:200])
    code = "" if receipt.exit_code is None else str(receipt.exit_code)
    log = receipt.log_sha256[:12]
    return f"| {command} | {_SIGNS[receipt.found]} | {code} | {receipt.duration_s:.1f} | `{log}` |"


def _cost(usage: Usage) -> str:
    tokens = usage.input_tokens + usage.output_tokens
    if not tokens:
        return "No model tokens were counted."
    cost = f", ${usage.cost_usd:.2f}" if usage.cost_usd is not None else ""
    return f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out{cost}."


def landed_line(task: Task, files: Sequence[str]) -> str:
    """Return the line that tells later tasks what landed."""
    names = ", ".join(code(path) for path in files[:12])
    return f"Task {task.id}: {task.title}" + (f" ({names})" if names else "")


def decision_comment(decision: Decision, words: str, by: str) -> str:
    """Return what a pull request is told of a person's decision."""
    verb = {
        Decision.APPROVE: "Approved",
        Decision.REVISE: "Sent back to its agent",
        Decision.REJECT: "Rejected",
    }[decision]
    quoted = "".join(f"\n> {line}" for line in words.strip().splitlines())
    return f"{verb} by {by}.{chr(10) if quoted else ''}{quoted}"
