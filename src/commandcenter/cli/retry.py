"""`commandcenter retry`: another chance for what did not land."""

from __future__ import annotations

import click

from commandcenter.api.schema import StatusAnswer
from commandcenter.cli import journal
from commandcenter.cli.client import Client, serving
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.signals import Stop, until_stopped
from commandcenter.cli.wording import count
from commandcenter.settings import Settings


@click.command()
@click.argument("run")
@click.argument("task", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
@invocation
def retry(invocation: Invocation, run: str, task: str | None, as_json: bool) -> int:
    """Try TASK again; without TASK, every task of RUN that did not land."""
    settings = invocation.settings()
    journal.keep(settings.data_dir)
    until_stopped(lambda stop: _retry(settings, run, task, stop, as_json=as_json))
    return 0


async def _retry(
    settings: Settings, run: str, task: str | None, stop: Stop, *, as_json: bool
) -> None:
    async with serving(settings) as client:
        stop.listen()
        answer = await client.post(f"/{run}/retry", {"task": task} if task else {})
        if as_json:
            print(answer.text)
            return
        status = StatusAnswer.model_validate_json(answer.content)
        left = status.tasks_total - round(status.progress * status.tasks_total)
        print(f"{count(left, 'task')} will be tried again: {run}")
        print(_advice(client, run))


def _advice(client: Client, run: str) -> str:
    if client.embedded:
        return f"hint: go on with: commandcenter run --resume {run}, or commandcenter serve"
    return f"hint: watch it with: commandcenter run --resume {run}"
