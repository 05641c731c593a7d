"""`commandcenter logs`: what agents and checks printed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import click
from pydantic import TypeAdapter

from commandcenter.api.schema import LogAnswer, TaskAnswer
from commandcenter.cli.client import Client, reading
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.signals import Stop, until_stopped
from commandcenter.cli.summary import console, plain_table
from commandcenter.cli.wording import clean, size
from commandcenter.core.errors import InputError
from commandcenter.settings import Settings

_LOGS = TypeAdapter(list[LogAnswer])
_PAUSE_S = 0.5


@click.command()
@click.argument("run")
@click.argument("task", required=False)
@click.option("--attempt", type=click.IntRange(min=1), help="By default the newest.")
@click.option("--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@invocation
def logs(
    invocation: Invocation,
    run: str,
    task: str | None,
    attempt: int | None,
    follow: bool,
    as_json: bool,
) -> int:
    """Print what the agent and the checks of TASK printed; without TASK, list the logs of RUN."""
    if follow and task is None:
        raise click.UsageError("--follow needs a TASK.")
    settings = invocation.settings()
    wanted = _Wanted(run, task, attempt)
    until_stopped(lambda stop: _logs(settings, wanted, stop, follow=follow, as_json=as_json))
    return 0


class _Wanted:
    """Which logs, and how much of each was printed."""

    def __init__(self, run: str, task: str | None, attempt: int | None) -> None:
        self.run = run
        self.task = task
        self.attempt = attempt
        self.query: dict[str, str | float] = {}
        if task is not None:
            self.query["task"] = task
        if attempt is not None:
            self.query["attempt"] = attempt
        self.printed: dict[tuple[int, str, str], int] = {}
        self.last: tuple[int, str, str] | None = None


async def _logs(
    settings: Settings, wanted: _Wanted, stop: Stop, *, follow: bool, as_json: bool
) -> None:
    async with reading(settings) as client:
        if wanted.task is not None:
            await _task(client, wanted)
        answer = await client.get(f"/{wanted.run}/logs", **wanted.query)
        found = _LOGS.validate_json(answer.content)
        if as_json:
            print(answer.text)
        elif wanted.task is None:
            _list(found)
        elif not found and not follow:
            raise InputError("There is no log of this task yet.", hint="add --follow to wait")
        else:
            await _print_all(client, wanted, follow=follow)


async def _task(client: Client, wanted: _Wanted) -> TaskAnswer:
    answer = await client.get(f"/{wanted.run}/tasks/{wanted.task}")
    return TaskAnswer.model_validate_json(answer.content)


def _list(found: Sequence[LogAnswer]) -> None:
    if not found:
        print("There is no log yet.")
        return
    table = plain_table()
    for name in ("Task", "Attempt", "Of", "Stream", "Size"):
        table.add_column(name, no_wrap=True)
    for log in found:
        table.add_row(log.task, str(log.attempt), log.name, log.stream, size(log.size_bytes))
    console().print(table)


async def _print_all(client: Client, wanted: _Wanted, *, follow: bool) -> None:
    while True:
        # Asked before reading: what is written until the task ends is printed.
        ended = (await _task(client, wanted)).status.ended
        answer = await client.get(f"/{wanted.run}/logs", **wanted.query)
        for log in _newest(_LOGS.validate_json(answer.content)):
            await _print_rest(client, wanted, log)
        if ended or not follow:
            return
        await asyncio.sleep(_PAUSE_S)


def _newest(found: Sequence[LogAnswer]) -> list[LogAnswer]:
    attempt = max((log.attempt for log in found), default=0)
    return [log for log in found if log.attempt == attempt]


async def _print_rest(client: Client, wanted: _Wanted, log: LogAnswer) -> None:
    key = (log.attempt, log.name, log.stream)
    offset = wanted.printed.get(key, 0)
    if log.size_bytes <= offset:
        return
    answer = await client.get(
        f"/{wanted.run}/logs",
        task=log.task,
        attempt=log.attempt,
        name=log.name,
        stream=log.stream,
        offset=offset,
    )
    if wanted.last != key:
        print(f"==> task {log.task}, attempt {log.attempt}: {log.name} {log.stream} <==")
    _write(answer.content)
    wanted.last = key
    wanted.printed[key] = offset + len(answer.content)


def _write(content: bytes) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(clean(content.decode(errors="replace").replace("\r\n", "\n")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
    sys.stdout.flush()
