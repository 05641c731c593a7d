"""`commandcenter events`: what happened in a run, and what happens."""

from __future__ import annotations

import json

import click

from commandcenter.api.schema import EventAnswer
from commandcenter.cli.client import Client, reading
from commandcenter.cli.invocation import Invocation, invocation
from commandcenter.cli.lines import learn, line_of, titles_of
from commandcenter.cli.signals import Stop, until_stopped
from commandcenter.settings import Settings

_WAIT_S = 10.0


@click.command()
@click.argument("run")
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@invocation
def events(invocation: Invocation, run: str, follow: bool, as_json: bool) -> int:
    """Print the events of RUN, oldest first."""
    settings = invocation.settings()
    until_stopped(lambda stop: _events(settings, run, stop, follow=follow, as_json=as_json))
    return 0


async def _events(settings: Settings, run: str, stop: Stop, *, follow: bool, as_json: bool) -> None:
    async with reading(settings) as client:
        titles = titles_of(await client.batches(run))
        after = 0
        while True:
            found = await client.events(run, after=after, wait_s=_WAIT_S if follow else 0)
            for event in found:
                learn(titles, event)
                _print(event, titles, as_json=as_json)
                after = event.seq
            if not found and not (follow and await _goes_on(client, run)):
                return


async def _goes_on(client: Client, run: str) -> bool:
    return (await client.status(run)).completed_at is None


def _print(event: EventAnswer, titles: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event.model_dump(mode="json"), separators=(",", ":")), flush=True)
    elif line := line_of(event, titles):
        print(line, flush=True)
