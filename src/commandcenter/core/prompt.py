"""What agents are told, word for word. Pure text from values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from commandcenter.core.agent import Role
from commandcenter.core.check import Found, Receipt
from commandcenter.core.contract import SCHEMAS, plain
from commandcenter.core.markdown import block, code
from commandcenter.core.pattern import Ask
from commandcenter.core.plan import Plan, Task, VerificationKind
from commandcenter.core.verdict import VERDICT_SCHEMA

CONTEXT_MAX = 8_000
"""Most characters of the plan's own context in a prompt."""
DIFF_MAX = 200_000
"""Most bytes of a diff in a prompt."""

RULES = """\
- Work only in the current folder. Leave your result as files there: it is taken as it lies.
- Do not push, and do not create, switch or delete branches. You may commit; it makes no difference.
- Change only what the task needs. Do not weaken or delete tests to make them pass.
- There is no network except for the model. Do not wait for input: nobody answers.
- Your result is checked by running the commands above on it, then read by a reviewer."""


def work_prompt(plan: Plan, task: Task, *, landed: Sequence[str], feedback: str) -> str:
    """Return what the working agent is asked. `landed` names earlier tasks, one line each."""
    sections = [f"# Task {task.id}: {task.title}"]
    if plan.title:
        sections.append(f"It is part of the plan “{plan.title}”.")
    if plan.context.strip():
        sections.append(f"## Context of the plan\n\n{plan.context.strip()[:CONTEXT_MAX]}")
    if task.files:
        sections.append(f"## Files\n\n{_files(task)}")
    sections.append(f"## The task\n\n{task.instructions.strip() or task.title}")
    sections.append(f"## Verification\n\n{_verification(plan, task)}")
    if landed:
        sections.append(f"## Landed before, and in your folder already\n\n{_lines(landed)}")
    sections.append(f"## Rules\n\n{RULES}")
    if feedback:
        sections.append(f"## What came back from the last try\n\n{feedback}")
    return "\n\n".join(sections) + "\n"


def _files(task: Task) -> str:
    return _lines([f"{use.op.value}: {code(use.path)}" for use in task.files])


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _verification(plan: Plan, task: Task) -> str:
    commands = [f"- run: {code(command)}" for command in plan.commands_of(task)]
    prose = [f"- {v.text}" for v in task.verification if v.kind is VerificationKind.PROSE]
    return "\n".join([*commands, *prose]) or "The plan names none: the reviewer decides alone."


def continued_prompt(feedback: str) -> str:
    """Return what an agent is told that goes on with the same conversation."""
    return f"{feedback}\n\nThe task and its rules are as before.\n"


def pattern_prompt(
    plan: Plan,
    task: Task,
    ask: Ask,
    *,
    diffs: Mapping[str, str],
    landed: Sequence[str],
    feedback: str,
    problem: str,
) -> str:
    """Return what an agent is asked by a pattern, in a conversation that begins.

    `diffs` are those of `ask.shown`, by label. `feedback` is what an earlier try of the task got
    back, `problem` what the agent's last answer to this ask lacked.
    """
    if ask.role is Role.WORK:
        beginning = work_prompt(plan, task, landed=landed, feedback=feedback).rstrip("\n")
    else:
        beginning = _reading(plan, task, ask, landed, feedback)
    shown = [f"## Candidate {label}\n\n{block(diff, 'diff')}" for label, diff in diffs.items()]
    return _put([beginning, ask.text, *shown], ask, problem)


def continued_pattern_prompt(ask: Ask, problem: str) -> str:
    """Return what an agent is asked by a pattern in a conversation that goes on."""
    text = "" if problem else ask.text or "Go on."
    return _put([text, "The task and its rules are as before."], ask, problem)


def _reading(plan: Plan, task: Task, ask: Ask, landed: Sequence[str], feedback: str) -> str:
    """Return the task for an agent that only reads."""
    sections = [
        f"# {_TITLES[ask.role]} for task {task.id}: {task.title}",
        "The current folder is a throw-away checkout. Read it, and run what helps you; what you "
        "change is discarded. Nobody answers questions.",
    ]
    if plan.context.strip():
        sections.append(f"## Context of the plan\n\n{plan.context.strip()[:CONTEXT_MAX]}")
    if task.files:
        sections.append(f"## Files\n\n{_files(task)}")
    sections.append(f"## The task\n\n{task.instructions.strip() or task.title}")
    sections.append(f"## Its verification\n\n{_verification(plan, task)}")
    if landed:
        sections.append(f"## Landed before\n\n{_lines(landed)}")
    if feedback:
        sections.append(f"## What came back from the last try\n\n{feedback}")
    sections.append("## What you are asked")
    return "\n\n".join(sections)


_TITLES = {
    Role.WORK: "Work",
    Role.REVIEW: "Review",
    Role.JUDGE: "Judgement",
    Role.ROUTE: "Routing",
    Role.PLAN: "Planning",
    Role.MANAGE: "Management",
}


def _put(parts: Sequence[str], ask: Ask, problem: str) -> str:
    lacked = f"Your last answer could not be used: {problem}" if problem else ""
    return "\n\n".join(part for part in (*parts, _answer(ask), lacked) if part) + "\n"


def _answer(ask: Ask) -> str:
    """Return how to answer: whoever only reads must, whoever works may."""
    if not ask.answers:
        return ""
    schemas = "\n\n".join(
        f"```json-schema\n{json.dumps(plain(SCHEMAS[name]), indent=1)}\n```" for name in ask.answers
    )
    must = "must" if ask.role.reads_only else "may"
    which = "this schema" if len(ask.answers) == 1 else "one of these schemas"
    options = ", ".join(map(code, ask.options))
    return (
        f"## Your answer\n\nYour last message {must} be one JSON object by {which}, in a ```json "
        f"fence, or written to the file named by `$CC_RESULT_FILE`.{_PURPOSES[ask.role]}"
        + (f" {_BY_TOOL}" if ask.schema else "")
        + (f" Names that you may choose among: {options}." if options else "")
        + f"\n\n{schemas}"
    )


_BY_TOOL = "If you have a tool for structured output, answer by that."
_PURPOSES = dict.fromkeys(Role, "") | {
    Role.WORK: " What you claim there is noted, but only checks decide. Say `blocked` or "
    "`needs_input` if it cannot be done without people."
}


def review_prompt(
    plan: Plan, task: Task, *, diff: str, receipts: Sequence[Receipt], problem: str = ""
) -> str:
    """Return what the reviewing agent is asked; `problem` is what its last answer lacked."""
    schema = json.dumps(plain(VERDICT_SCHEMA), indent=2)
    lines = [f"- {code(r.command)}: {_found(r)}" for r in receipts] or ["- none were given"]
    checks = "\n".join(lines)
    parts = [
        f"# Review of task {task.id}: {task.title}",
        "You review a change that another agent made. The current folder is a throw-away checkout "
        "with the change applied. Read it, and run what helps you; what you change is discarded.",
        f"## The task\n\n{task.instructions.strip() or task.title}",
        f"## Checks that the orchestrator ran\n\n{checks}",
        f"## The change\n\n{block(diff, 'diff')}",
        "## Your answer\n\nDecide `approve` when it does what the task asks and breaks nothing, "
        "`revise` when it needs work that you name issue by issue, `reject` when the task cannot "
        "be done this way. Your last message must be one JSON object by this schema, in a "
        "```json fence, or written to the file named by `$CC_RESULT_FILE`. "
        f"{_BY_TOOL}\n\n"
        f"```json-schema\n{schema}\n```",
    ]
    if problem:
        parts.append(f"Your last answer could not be used: {problem}")
    return "\n\n".join(parts) + "\n"


def _found(receipt: Receipt) -> str:
    if receipt.found is Found.FAILED_ON_BASE:
        return "failed, as it did before this change"
    return receipt.found.value.replace("_", " ")
