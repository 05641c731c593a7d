"""`commandcenter cancel`: end a run early."""

from __future__ import annotations

import asyncio

import click

from commandcenter.api.schema import StatusAnswer
from commandcenter.cli import journal
from commandcenter.cli.client import Client, serving
from commandcenter.cli.following import newest
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.signals import Stop, until_stopped
from commandcenter.cli.wording import count
from commandcenter.settings import Settings

_WAIT_S = 1.0
_ENDED_S = 60.0


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
@invocation
def cancel(invocation: Invocation, run: str, as_json: bool) -> int:
    """End RUN: tasks that have not landed are cancelled; what has landed stays."""
    settings = invocation.settings()
    journal.keep(settings.data_dir)
    until_stopped(lambda stop: _cancel(settings, run, stop, as_json=as_json))
    return 0


async def _cancel(settings: Settings, run: str, stop: Stop, *, as_json: bool) -> None:
    async with serving(settings) as client:
        stop.listen()
        answer = await client.post(f"/{run}/cancel", {})
        status = await _ended(client, run)
        if as_json:
            print(answer.text)
        else:
            print(_sentence(status))


async def _ended(client: Client, run: str) -> StatusAnswer:
    """Return the status once the run has ended, or what it is after a while."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _ENDED_S
    after = await newest(client, run)
    while (status := await client.status(run)).completed_at is None and loop.time() < deadline:
        found = await client.events(run, after=after, wait_s=_WAIT_S)
        after = found[-1].seq if found else after
    return status


def _sentence(status: StatusAnswer) -> str:
    landed = count(status.tasks_completed, "task")
    if status.completed_at is None:
        return f"The run is being cancelled; {landed} had completed: {status.execution_id}"
    return (
        f"The run is {status.status}: {count(status.tasks_cancelled, 'task')} cancelled, "
        f"{landed} completed: {status.execution_id}"
    )
