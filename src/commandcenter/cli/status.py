"""`commandcenter status`: how far runs have come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.text import Text

from commandcenter.api.schema import StatusAnswer
from commandcenter.cli import wording
from commandcenter.cli.client import reading
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.summary import STYLES, console, plain_table, summarize
from commandcenter.core.run import Phase
from commandcenter.settings import Settings


@click.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the service's answer.")
@invocation
def status(invocation: Invocation, run: str | None, as_json: bool) -> int:
    """Show RUN with its tasks; without RUN, list all runs."""
    asyncio.run(_status(invocation.settings(), run, as_json=as_json))
    return 0


async def _status(settings: Settings, run: str | None, *, as_json: bool) -> None:
    async with reading(settings) as client:
        if as_json:
            print((await client.get(f"/{run}/status" if run else "")).text)
        elif run is None:
            _list(await client.runs())
        else:
            shown = await client.status(run)
            batches, used = await client.batches(run), await client.usage(run)
            summarize(console(), shown, batches, used, whole=True)


def _list(runs: Sequence[StatusAnswer]) -> None:
    if not runs:
        print("There is no run yet. Start one: commandcenter run PLAN")
        return
    table = plain_table()
    for name in ("Run", "Status", "Tasks", "Started", "Time"):
        table.add_column(name, no_wrap=True)
    table.add_column("Plan", overflow="fold", min_width=10)
    now = datetime.now(UTC)
    for run in runs:
        ended = round(run.progress * run.tasks_total)
        table.add_row(
            run.execution_id,
            Text(_state(run), STYLES[run.status]),
            f"{ended}/{run.tasks_total}",
            wording.date(run.started_at),
            wording.elapsed(run.started_at, run.completed_at, now),
            Text(wording.one_line(run.title)),
        )
    console().print(table)


def _state(run: StatusAnswer) -> str:
    if run.phase is Phase.RECOVERING:
        return "interrupted"
    return run.status.replace("_", " ")
