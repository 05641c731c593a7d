"""Events over a real socket: live, resumable, and with an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx

from commandcenter.core.run import EventKind

if TYPE_CHECKING:
    from tests.api.conftest import MemoryService

EVENTS = "/api/v1/autonomous/exec_0badcafe/events"


async def _frames(lines: AsyncIterator[str]) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    identity = 0
    async for line in lines:
        if line.startswith("id: "):
            identity = int(line.removeprefix("id: "))
        elif line.startswith("data: "):
            yield identity, json.loads(line.removeprefix("data: "))


async def test_events_come_as_they_happen_and_the_stream_ends_with_the_run(
    served: httpx.AsyncClient, service: MemoryService
) -> None:
    await service.happen(EventKind.RUN_SUBMITTED)
    async with served.stream("GET", EVENTS) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        frames = _frames(answer.aiter_lines())
        first = await anext(frames)
        await service.happen(EventKind.TASK_STARTED, "1.1")
        second = await anext(frames)
        await service.happen(EventKind.RUN_ENDED)
        rest = [frame async for frame in frames]
    assert (first[0], first[1]["kind"], first[1]["task"]) == (1, "run.submitted", None)
    assert (second[0], second[1]["task"], second[1]["seq"]) == (2, "1.1", 2)
    assert [frame[1]["kind"] for frame in rest] == ["run.ended"]


async def test_a_reader_that_comes_back_misses_nothing_and_repeats_nothing(
    served: httpx.AsyncClient, service: MemoryService
) -> None:
    for kind in (EventKind.RUN_SUBMITTED, EventKind.TASK_STARTED, EventKind.RUN_ENDED):
        await service.happen(kind)
    headers = {"Last-Event-ID": "1"}
    async with served.stream("GET", EVENTS, headers=headers) as answer:
        by_header = [identity async for identity, _ in _frames(answer.aiter_lines())]
    async with served.stream("GET", EVENTS, params={"after": 2}) as answer:
        by_query = [identity async for identity, _ in _frames(answer.aiter_lines())]
    assert (by_header, by_query) == ([2, 3], [3])


async def test_a_browser_that_has_seen_the_end_is_told_to_stop(
    served: httpx.AsyncClient, service: MemoryService
) -> None:
    await service.happen(EventKind.RUN_ENDED)
    answer = await served.get(EVENTS, headers={"Last-Event-ID": "1"})
    assert answer.status_code == 204


async def test_events_are_listed_as_json(served: httpx.AsyncClient, service: MemoryService) -> None:
    for _ in range(3):
        await service.happen(EventKind.TASK_STARTED, "1.1")
    by_format = await served.get(EVENTS, params={"format": "json", "after": 1, "limit": 1})
    by_header = await served.get(EVENTS, headers={"Accept": "application/json"})
    assert [event["seq"] for event in by_format.json()] == [2]
    assert [event["seq"] for event in by_header.json()] == [1, 2, 3]


async def test_a_list_can_be_waited_for(served: httpx.AsyncClient, service: MemoryService) -> None:
    waiting = asyncio.create_task(served.get(EVENTS, params={"format": "json", "wait": 20}))
    await service.happen(EventKind.TASK_STARTED, "1.1")
    assert [event["seq"] for event in (await waiting).json()] == [1]


async def test_waiting_for_more_of_a_run_that_has_ended_answers_at_once(
    served: httpx.AsyncClient, service: MemoryService
) -> None:
    await service.happen(EventKind.RUN_ENDED)
    query: dict[str, str | int] = {"format": "json", "wait": 60, "after": 1}
    assert (await served.get(EVENTS, params=query)).json() == []


async def test_words_that_are_no_text_still_get_through(
    served: httpx.AsyncClient, service: MemoryService
) -> None:
    await service.happen(EventKind.AGENT, "1.1")
    odd = service.log[0]
    service.log[0] = type(odd)(
        odd.run, odd.kind, odd.at_ms, "1.1", data={"text": "caf\udce9"}, seq=1
    )
    listed = await served.get(EVENTS, params={"format": "json"})
    async with served.stream("GET", EVENTS) as answer:
        _, streamed = await anext(_frames(answer.aiter_lines()))
    assert listed.json()[0]["data"] == streamed["data"] == {"text": "caf\udce9"}
