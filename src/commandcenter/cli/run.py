"""`commandcenter run`: hand over a plan, and watch it land."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from commandcenter.api.schema import StatusAnswer
from commandcenter.cli import journal
from commandcenter.cli.choosing import choosing, pairs
from commandcenter.cli.client import Client, Link
from commandcenter.cli.failure import FAILED
from commandcenter.cli.following import View, follow, newest
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.lines import Lines
from commandcenter.cli.screen import Screen
from commandcenter.cli.signals import Stop, until_stopped
from commandcenter.cli.summary import console, summarize
from commandcenter.cli.wording import clean, count
from commandcenter.core.errors import InputError
from commandcenter.core.run import State
from commandcenter.settings import Settings

_OTHERS_PAUSE_S = 1.0


@click.command()
@click.argument("plan", required=False)
@click.option("--repo", "repository", help="Path or URL; by default the one that holds PLAN.")
@click.option("--mode", "execution_mode", help="Kind of workspace: local, container or dagger.")
@choosing
@click.option("--agent-command", help="A command line used as the agent, prompt on stdin.")
@click.option("--review-command", help="A command line used as the reviewer.")
@click.option("--into", help="Branch to land on; by default the one that is checked out.")
@click.option("--start-batch", type=click.IntRange(min=0), help="First batch to run.")
@click.option("--end-batch", type=click.IntRange(min=1), help="Last batch to run.")
@click.option("--no-merge", is_flag=True, help="Leave the pull requests open.")
@click.option(
    "--rerun", metavar="done|TASK[,TASK]", help="Run all tasks that are done, or these, again."
)
@click.option(
    "--continue",
    "continues",
    metavar="RUN",
    help="Do not run what an earlier run has landed, unless it was edited.",
)
@click.option("--resume", metavar="RUN", help="Go on with a run that was interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Print the final status as JSON.")
@invocation
def run(
    invocation: Invocation,
    /,
    plan: str | None,
    resume: str | None,
    as_json: bool,
    no_merge: bool,
    **options: Any,  # Any: passed on as they are; the service validates them
) -> int:
    """Run PLAN until every task has landed or has not.

    Exit code: 0 all landed, 1 something did not, 2 the input was wrong, 130 interrupted.
    """
    if (plan is None) == (resume is None):
        raise click.UsageError("Give a PLAN, or --resume RUN.")
    body = None if plan is None else _body(plan, auto_merge=not no_merge, **options)
    settings = invocation.settings()
    journal.keep(settings.data_dir)
    return until_stopped(lambda stop: _run(settings, body, resume or "", stop, as_json=as_json))


def _body(
    plan: str,
    repository: str | None,
    roles: Sequence[str],
    overrides: Sequence[str],
    **options: Any,
) -> dict[str, Any]:
    if not Path(plan).exists():
        raise InputError(f"There is no plan at {plan}.", hint="give the path of a markdown plan")
    body = {"plan_path": str(Path(plan).absolute()), **options}
    body |= {"roles": pairs("--role", roles), "overrides": pairs("--set", overrides)}
    if repository is not None:
        body["repository"] = _location(repository)
    return {name: value for name, value in body.items() if value is not None}


def _location(repository: str) -> str:
    # The service may live in another folder; an URL or `host:path` means the same everywhere.
    remote = ":" in repository and not Path(repository).exists()
    return repository if remote else str(Path(repository).absolute())


async def _run(
    settings: Settings, body: dict[str, Any] | None, run: str, stop: Stop, *, as_json: bool
) -> int:
    async with Link(settings) as link:
        stop.listen()
        if body is not None:
            run = await _start(link, {"request": secrets.token_hex(16), **body})
        after = await newest(link.client, run) if body is None else 0
        with _view(as_json=as_json) as view:
            stop.farewell = lambda: view.say(_farewell(link.client, run))
            status = await follow(link, run, view, after=after)
        await link.ask(lambda client: _report(client, run, as_json=as_json))
        await _stay(link, stop)
        return 0 if _went_well(status) else FAILED


def _went_well(status: StatusAnswer) -> bool:
    if status.completed_at is not None:
        return status.status is State.COMPLETED
    return not (status.tasks_failed or status.tasks_skipped or status.tasks_cancelled)


async def _start(link: Link, body: dict[str, Any]) -> str:
    started = await link.ask(lambda client: client.start(body))
    client = link.client
    for warning in started.warnings:
        # What is said of the plan names its place and weight itself.
        _tell(warning if ": warning[" in warning else f"warning: {warning}")
    where = "" if client.embedded else f", by the service at {client.url}"
    bounds = f" ({started.preview})" if started.preview else ""
    _tell(f"The run was started{where}: {started.execution_id}{bounds}")
    return started.execution_id


@contextmanager
def _view(*, as_json: bool) -> Iterator[View]:
    if as_json:
        yield Lines(sys.stderr)
    elif sys.stdout.isatty():
        with Screen(console()) as screen:
            yield screen
    else:
        yield Lines(sys.stdout)


def _farewell(client: Client, run: str) -> str:
    if not client.embedded:
        return f"The run goes on at {client.url}; to end it: commandcenter cancel {run}"
    return f"stopping; the run can go on: commandcenter serve, or commandcenter run --resume {run}"


async def _report(client: Client, run: str, *, as_json: bool) -> None:
    answer = await client.get(f"/{run}/status")
    if as_json:
        print(answer.text, flush=True)
        return
    status = StatusAnswer.model_validate_json(answer.content)
    summarize(console(), status, await client.batches(run), await client.usage(run))


async def _stay(link: Link, stop: Stop) -> None:
    """Keep the embedded service up for the runs that others started in it."""
    stop.farewell = lambda: _tell("stopping; the other runs go on with: commandcenter serve")
    told = False
    try:
        while link.client.embedded and (others := await _going(link.client)):
            if not told:
                runs = f"{count(len(others), 'other run')} ({', '.join(others)})"
                _tell(f"This command serves {runs} until the end; Ctrl-C stops it.")
            told = True
            await asyncio.sleep(_OTHERS_PAUSE_S)
    except asyncio.CancelledError:
        # The run of this command has ended, and its exit code stands.
        if stop.number is None:
            raise


async def _going(client: Client) -> list[str]:
    return [
        run.execution_id
        for run in await client.runs()
        if run.completed_at is None and run.waiting_for is None
    ]


def _tell(sentence: str) -> None:
    print(clean(sentence), file=sys.stderr, flush=True)
