"""Events as a stream (Server-Sent Events) and as a list that can be waited for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from commandcenter.api.needs import Service
from commandcenter.api.schema import EventAnswer
from commandcenter.core.run import Event, EventKind

_HEARTBEAT_S = 15.0


async def sse(service: Service, run: str, *, after: int) -> AsyncIterator[str]:
    """Give the events of a run after this position, as they come, until the run has ended.

    A comment is sent when nothing happens, so that both sides notice a dead connection.
    """
    yield "retry: 1000\n\n"
    while True:
        events = await service.wait_for_events(run, after=after, timeout_s=_HEARTBEAT_S)
        yield "".join(map(_frame, events)) or ": nothing happened\n\n"
        after = events[-1].seq if events else after
        if _may_be_last(events) and await over(service, run, after=after):
            return


async def over(service: Service, run: str, *, after: int) -> bool:
    """Say whether the run has ended and nothing happened after this position."""
    return await service.ended(run) and not await service.events(run, after=after, limit=1)


async def page(
    service: Service, run: str, *, after: int, limit: int, wait_s: float
) -> Sequence[EventAnswer]:
    """Return the events after this position; when there are none, wait for some, bounded."""
    events = await service.events(run, after=after, limit=limit)
    if not events and wait_s > 0 and not await over(service, run, after=after):
        events = await service.wait_for_events(run, after=after, timeout_s=wait_s)
    return [EventAnswer.of(event) for event in events[:limit]]


def _may_be_last(events: Sequence[Event]) -> bool:
    return not events or any(event.kind is EventKind.RUN_ENDED for event in events)


def _frame(event: Event) -> str:
    body = json.dumps(EventAnswer.of(event).model_dump(mode="json"), separators=(",", ":"))
    return f"id: {event.seq}\ndata: {body}\n\n"
