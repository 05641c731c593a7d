"""What agents are told, word for word. Pure text from values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from commandcenter.core.check import Found, Receipt
from commandcenter.core.markdown import block, code
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
        lines = "\n".join(f"- {use.op.value}: {code(use.path)}" for use in task.files)
        sections.append(f"## Files\n\n{lines}")
    sections.append(f"## The task\n\n{task.instructions.strip() or task.title}")
    sections.append(f"## Verification\n\n{_verification(plan, task)}")
    if landed:
        lines = "\n".join(f"- {line}" for line in landed)
        sections.append(f"## Landed before, and in your folder already\n\n{lines}")
    sections.append(f"## Rules\n\n{RULES}")
    if feedback:
        sections.append(f"## What came back from the last try\n\n{feedback}")
    return "\n\n".join(sections) + "\n"


def _verification(plan: Plan, task: Task) -> str:
    commands = [f"- run: {code(command)}" for command in plan.commands_of(task)]
    prose = [f"- {v.text}" for v in task.verification if v.kind is VerificationKind.PROSE]
    return "\n".join([*commands, *prose]) or "The plan names none: the reviewer decides alone."


def continued_prompt(feedback: str) -> str:
    """Return what an agent is told that goes on with the same conversation."""
    return f"{feedback}\n\nThe task and its rules are as before.\n"


def review_prompt(
    plan: Plan, task: Task, *, diff: str, receipts: Sequence[Receipt], problem: str = ""
) -> str:
    """Return what the reviewing agent is asked; `problem` is what its last answer lacked."""
    schema = json.dumps(_plain(VERDICT_SCHEMA), indent=2)
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
        "```json fence, or written to the file named by `$CC_RESULT_FILE`:\n\n"
        f"```json-schema\n{schema}\n```",
    ]
    if problem:
        parts.append(f"Your last answer could not be used: {problem}")
    return "\n\n".join(parts) + "\n"


def _found(receipt: Receipt) -> str:
    if receipt.found is Found.FAILED_ON_BASE:
        return "failed, as it did before this change"
    return receipt.found.value.replace("_", " ")


def _plain(value: Any) -> Any:  # Any: a JSON schema made of read-only mappings
    if hasattr(value, "items"):
        return {key: _plain(item) for key, item in value.items()}
    return value
