"""`commandcenter explain`: why the outcome of a task is what it is."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import click
from rich.text import Text

from commandcenter.api.schema import ExplanationAnswer
from commandcenter.cli.client import reading
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.summary import console
from commandcenter.cli.wording import one_line
from commandcenter.settings import Settings


@click.command()
@click.argument("run")
@click.argument("task")
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
@invocation
def explain(invocation: Invocation, run: str, task: str, as_json: bool) -> int:
    """Tell in sentences why TASK of RUN stands where it does: what was tried, and what decided."""
    asyncio.run(_explain(invocation.settings(), run, task, as_json=as_json))
    return 0


async def _explain(settings: Settings, run: str, task: str, *, as_json: bool) -> None:
    async with reading(settings) as client:
        answer = await client.get(f"/{run}/tasks/{quote(task, safe='')}/explanation")
    if as_json:
        print(answer.text)
        return
    for sentence in ExplanationAnswer.model_validate_json(answer.content).sentences:
        # Left to the terminal to wrap, so that a command can be copied whole.
        console().print(Text(one_line(sentence)), soft_wrap=True)
