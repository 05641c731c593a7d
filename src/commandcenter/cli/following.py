"""Follows a run until it has ended, whatever becomes of the service meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from commandcenter.api.schema import BatchAnswer, EventAnswer, StatusAnswer
from commandcenter.cli.client import Client, Link, ServiceGone

_WAIT_S = 5.0
_PAUSE_S = 0.25
"""Lets events gather, so that a busy run does not cost a snapshot for each."""


class View(Protocol):
    """Shows a run while it goes on."""

    def happened(self, event: EventAnswer) -> None:
        """Take note of an event."""

    def show(self, status: StatusAnswer, batches: Sequence[BatchAnswer]) -> None:
        """Show how far it has come."""

    def say(self, sentence: str) -> None:
        """Show a sentence that is not about a task."""


async def follow(link: Link, run: str, view: View, *, after: int = 0) -> StatusAnswer:
    """Show a run until it has ended, or waits for a person only; return how it stands.

    When the service goes away, another is found or made, and the run goes on there.
    """
    while True:
        try:
            status = await _snapshot(link, run, view)
            events = await link.client.events(run, after=after, wait_s=_WAIT_S)
        except ServiceGone:
            await link.renew()
            view.say(_where(link))
            continue
        for event in events:
            view.happened(event)
            after = event.seq
        if not events and (status.completed_at or status.waiting_for):
            return status
        await asyncio.sleep(_PAUSE_S)


async def newest(client: Client, run: str) -> int:
    """Return the position of the newest event of a run."""
    after = 0
    while events := await client.events(run, after=after):
        after = events[-1].seq
    return after


async def _snapshot(link: Link, run: str, view: View) -> StatusAnswer:
    status = await link.client.status(run)
    view.show(status, await link.client.batches(run))
    return status


def _where(link: Link) -> str:
    if link.client.embedded:
        return "The service went away; this command goes on with the run itself."
    return f"The service went away; the run goes on at {link.client.url}"
