"""`commandcenter plan`: look at a plan before anything is started."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from commandcenter.cli.choosing import choosing, pairs
from commandcenter.cli.invocation import Invocation
from commandcenter.core.assignment import (
    Choices,
    assign,
    chosen,
    profiles_of,
    refuse_tasks,
    shown,
)
from commandcenter.core.budget import uncertain
from commandcenter.core.plan import (
    SIZE_BYTES_MAX,
    Batch,
    Diagnostic,
    Done,
    Edge,
    Plan,
    Priority,
    Task,
    VerificationKind,
    Why,
    edges,
    layers,
    to_json,
)
from commandcenter.core.plan.notation import handoff_text, pattern_text
from commandcenter.core.preview import BESIDES, Counting, Preview, preview
from commandcenter.core.run import Submission
from commandcenter.patterns import runs_max, subtasks_max
from commandcenter.readers import PlanSource, ReadResult, read_plan
from commandcenter.settings import built_in

_Function = TypeVar("_Function", bound=Callable[..., None])


@click.group()
def plan() -> None:
    """Check and show plans. Nothing is started."""


def _plan_options(function: _Function) -> _Function:
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--format", "dialect", metavar="DIALECT", help="Do not guess the dialect."),
        click.argument("path", metavar="PLAN", type=click.Path()),
    ):
        function = decorate(function)
    return function


@plan.command()
@_plan_options
@click.pass_context
def check(context: click.Context, path: str, dialect: str | None, as_json: bool) -> None:
    """Say everything that is wrong or doubtful about PLAN."""
    result = _read(context, path, dialect)
    if as_json:
        click.echo(json.dumps(_checked(result), indent=2, ensure_ascii=False))
    else:
        _tell(result.diagnostics)
        click.echo(_summary(path, result))
    context.exit(0 if result.ok else 2)


@plan.command()
@_plan_options
@click.option(
    "--assigned", is_flag=True, help="With --json: who works on what, in place of the plan."
)
@choosing
@click.pass_context
def show(
    context: click.Context,
    /,
    path: str,
    dialect: str | None,
    as_json: bool,
    assigned: bool,
    roles: tuple[str, ...],
    overrides: tuple[str, ...],
    agent: str | None,
    reviewer: str | None,
    pattern: str | None,
) -> None:
    """Show what PLAN says: batches, tasks, dependencies, files, verification, and who works.

    With the options of `run` it shows what would come of them.
    """
    found = _sound(context, path, dialect)
    if as_json and not assigned:
        click.echo(to_json(found, indent=2))
        return
    submission = Submission(
        agent=agent,
        reviewer=reviewer,
        pattern=pattern,
        roles=pairs("--role", roles),
        overrides=pairs("--set", overrides),
    )
    settings = (context.find_object(Invocation) or Invocation(None, None)).settings()
    choices = chosen(submission, settings=settings.words, built_in=built_in())
    refuse_tasks(found, choices)
    known = {profile.name: profile for profile in settings.profiles}
    used = profiles_of(found, choices)
    for name, origin in used.items():
        if name not in known:
            click.echo(_printable(f"warning: no agent profile is `{name}` ({origin})"), err=True)
    bounds = preview(found, choices, Counting(runs_max, subtasks_max))
    if as_json:
        click.echo(json.dumps(_assigned(found, choices, bounds), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_outline(found, choices)))
        click.echo(f"\n{bounds.words} ({BESIDES})")
        if any(task.budget_usd is not None for task in bounds.tasks):
            met = {name: known[name] for name in used if name in known}
            click.echo("\n".join(map(_printable, uncertain(met, settings.prices))))


@plan.command()
@_plan_options
@click.option("--dot", "form", flag_value="dot", help="Print the graph for Graphviz.")
@click.option("--mermaid", "form", flag_value="mermaid", help="Print the graph for Mermaid.")
@click.pass_context
def graph(
    context: click.Context, path: str, dialect: str | None, as_json: bool, form: str | None
) -> None:
    """Show which task of PLAN waits for which, in layers that can run together."""
    found = _sound(context, path, dialect)
    if as_json:
        click.echo(json.dumps([asdict(edge) for edge in edges(found)], indent=2))
    elif form == "dot":
        click.echo("\n".join(_dot(found)))
    elif form == "mermaid":
        click.echo("\n".join(_mermaid(found)))
    else:
        click.echo("\n".join(_layers(found)))


def _sound(context: click.Context, path: str, dialect: str | None) -> Plan:
    """Return the plan, or say what is wrong with it and leave with 2."""
    result = _read(context, path, dialect)
    if result.plan is None or not result.ok:
        _tell(result.diagnostics)
        click.echo(_summary(path, result), err=True)
        context.exit(2)
    assert result.plan is not None
    return result.plan


def _read(context: click.Context, path: str, dialect: str | None) -> ReadResult:
    """Read the file, or say in one sentence why it cannot be read and leave with 2."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(SIZE_BYTES_MAX + 1)
    except FileNotFoundError:
        _refuse(context, f"{path}: there is no such file.", "give the path of a plan file")
    except IsADirectoryError:
        _refuse(context, f"{path}: this is a folder.", "give the path of a plan file in it")
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}."
        _refuse(context, message, "check the file and its rights")
    return read_plan(PlanSource(content, path), dialect)


def _refuse(context: click.Context, message: str, hint: str) -> NoReturn:
    click.echo(f"error: {message}\nhint: {hint}", err=True)
    context.exit(2)


def _tell(diagnostics: Iterable[Diagnostic]) -> None:
    for diagnostic in diagnostics:
        click.echo(_printable(str(diagnostic)), err=True)


def _checked(result: ReadResult) -> dict[str, object]:
    found = result.plan
    return {
        "ok": result.ok,
        "dialect": found.source.dialect if found else "",
        "batches": len(found.batches) if found else 0,
        "tasks": len(found.tasks) if found else 0,
        "diagnostics": [{"severity": str(d.severity), **asdict(d)} for d in result.diagnostics],
    }


def _summary(path: str, result: ReadResult) -> str:
    errors = sum(d.is_error for d in result.diagnostics)
    counts = f"{_count(errors, 'error')}, {_count(len(result.diagnostics) - errors, 'warning')}"
    if result.plan is None:
        return f"{path}: no plan; {counts}"
    found = result.plan
    sizes = f"{_count(len(found.batches), 'batch', 'es')}, {_count(len(found.tasks), 'task')}"
    done = sum(t.done.settled for t in found.tasks)
    return f"{path}: {sizes} ({done} done); {counts}"


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else plural}"


def _assigned(found: Plan, choices: Choices, bounds: Preview) -> dict[str, object]:
    return {
        "schema": "cc.assigned/1",
        "tasks": [_assignment(found, task, choices, bounds) for task in found.tasks],
        "runs_max": bounds.runs_max,
        "budget_usd": bounds.budget_usd,
        "words": bounds.words,
    }


def _assignment(found: Plan, task: Task, choices: Choices, bounds: Preview) -> dict[str, object]:
    assignment = assign(found, task, choices)
    return {
        "id": task.id,
        "pattern": pattern_text(assignment.pattern),
        "handoff": handoff_text(assignment.handoff),
        "review_rounds": assignment.review_rounds,
        "roles": dict(assignment.roles),
        "attempts": assignment.attempts,
        "timeout_s": assignment.timeout_s,
        "budget_usd": assignment.budget_usd,
        "origins": dict(assignment.origins),
        "runs_max": sum(each.runs_max for each in bounds.tasks if each.id == task.id),
    }


def _outline(found: Plan, choices: Choices) -> Iterator[str]:
    yield _printable(found.title or found.source.path)
    if found.defaults.verify:
        yield f"every task is verified by: {'; '.join(found.defaults.verify)}"
    waits = _by_task(edges(found))
    for batch in found.batches:
        yield ""
        yield _printable(_batch_line(batch))
        for task in found.tasks_of(batch.id):
            for line in _task_lines(task, found, waits.get(task.id, [])):
                yield _printable(line)
            for each in () if task.done.settled else shown(assign(found, task, choices)):
                yield _printable(f"    {each.label:<8} {each.text} ({each.origin})")


def _batch_line(batch: Batch) -> str:
    kind = "phase" if batch.kind == "container" else batch.kind
    name = batch.id if batch.id.startswith(f"{kind}-") else f"{kind} {batch.id}"
    where = f", {batch.workspace}" if batch.workspace else ""
    return f"{name}: {batch.title}  [{batch.mode}{where}]"


def _task_lines(task: Task, found: Plan, waits: list[Edge]) -> Iterator[str]:
    state = "" if task.done is Done.TODO else f"  [{task.done} in the plan]"
    yield f"  task {task.id}: {task.title}{state}"
    for edge in waits:
        about = f" of {edge.about}" if edge.about else ""
        yield f"    waits for {edge.on} ({edge.why}{about}, line {edge.line})"
    for use in task.files:
        yield f"    {use.op:<8} {use.path}{':' + use.lines if use.lines else ''}"
    for item in task.verification:
        mark = "$" if item.kind is VerificationKind.COMMAND else "-"
        yield f"    verify {mark} " + item.text.replace("\n", "\n             ")
    if not found.commands_of(task) and not task.done.settled:
        yield "    unverified: no command verifies it"
    if (priority := found.priority_of(task)) is not Priority.NORMAL:
        yield f"    priority {priority}"
    if task.commit:
        yield f"    commit   {task.commit.splitlines()[0]}"


def _by_task(found: Iterable[Edge]) -> dict[str, list[Edge]]:
    grouped: dict[str, list[Edge]] = {}
    for edge in found:
        grouped.setdefault(edge.task, []).append(edge)
    return grouped


def _layers(found: Plan) -> Iterator[str]:
    waits = _by_task(edges(found))
    for number, tasks in enumerate(layers(found), 1):
        yield f"layer {number}"
        for task in tasks:
            reasons = ", ".join(f"{e.on} ({e.why})" for e in waits.get(task.id, []))
            state = f"  [{task.done}]" if task.done.settled else ""
            suffix = f"  waits for {reasons}" if reasons else ""
            yield _printable(f"  {task.id} {task.title}{state}{suffix}")


def _dot(found: Plan) -> Iterator[str]:
    yield "digraph plan {"
    yield "  rankdir=LR; node [shape=box];"
    for task in found.tasks:
        style = ", style=dashed" if task.done.settled else ""
        yield f'  "{task.id}" [label={_dot_text(f"{task.id} {task.title}")}{style}];'
    for edge in edges(found):
        style = "solid" if edge.why is Why.EXPLICIT else "dashed"
        yield f'  "{edge.on}" -> "{edge.task}" [label="{edge.why}", style={style}];'
    yield "}"


def _dot_text(text: str) -> str:
    escaped = _printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _mermaid(found: Plan) -> Iterator[str]:
    names = {task.id: f"t{n}" for n, task in enumerate(found.tasks)}
    yield "graph LR"
    for task in found.tasks:
        title = _printable(task.title).replace("&", "&amp;").replace('"', "&quot;")
        title = title.replace("<", "&lt;").replace(">", "&gt;")
        yield f'  {names[task.id]}["{task.id} {title}"]'
    for edge in edges(found):
        arrow = "-->" if edge.why is Why.EXPLICIT else "-.->"
        yield f"  {names[edge.on]} {arrow}|{edge.why}| {names[edge.task]}"


def _printable(text: str) -> str:
    """Show control characters instead of sending them to the terminal."""
    return "".join(c if c == "\n" or c.isprintable() else f"\\x{ord(c):02x}" for c in text)
