"""Queues that are told of their work, on a real engine whose own polls are too rare to help."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from commandcenter.flow.dispatch import Bell
from commandcenter.flow.engine import Engine, Queue
from commandcenter.store import database

RARELY_S = 600.0
SOON_S = 20.0


class Desk:
    """An engine with one workflow, which notes its argument."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seen: list[str] = []
        self._news = asyncio.Condition()

    async def note(self, word: str) -> None:
        async with self._news:
            self.seen.append(word)
            self._news.notify_all()

    async def enqueue(self, *words: str) -> None:
        await self.engine.transact("enqueue", self._enqueue, words)

    def _enqueue(self, session: Session, words: tuple[str, ...]) -> None:
        for word in words:
            self.engine.enqueue(session, "note", word, word, partition="one")

    async def saw(self, *words: str) -> bool:
        async with asyncio.timeout(SOON_S), self._news:
            await self._news.wait_for(lambda: len(self.seen) >= len(words))
        return self.seen == list(words)


Opened = Callable[[Queue], Awaitable[Desk]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    path = tmp_path / "engine.sqlite"
    database.prepare_sqlite(path)
    tables = database.open_engine(database.sqlite_url(path))
    engine = Engine(tables, poll_s=RARELY_S)

    async def launch(queue: Queue) -> Desk:
        engine.create()
        desk = Desk(engine)
        engine.register("note", queue, desk.note)
        await engine.launch()
        return desk

    yield launch
    await engine.stop()
    tables.dispose()


async def test_enqueued_work_starts_at_once_however_rarely_its_queue_looks(opened: Opened) -> None:
    desk = await opened(Queue("notes"))

    await desk.enqueue("now")

    assert await desk.saw("now")


async def test_the_end_of_one_makes_room_for_the_next(opened: Opened) -> None:
    desk = await opened(Queue("notes", concurrency=1))

    await desk.enqueue("first", "second", "third")

    assert await desk.saw("first", "second", "third")


async def test_a_partition_goes_on_when_its_first_is_done(opened: Opened) -> None:
    desk = await opened(Queue("notes", partitioned=True))

    await desk.enqueue("first", "second", "third")

    assert await desk.saw("first", "second", "third")


def test_a_ring_during_the_work_is_not_lost() -> None:
    bell = Bell()
    bell.ring()
    assert bell.wait(RARELY_S) is False
    assert bell.wait(0.001) is False


def test_a_stop_wakes_the_worker() -> None:
    bell = Bell()
    worker = threading.Thread(target=bell.wait, args=(RARELY_S,))
    worker.start()
    bell.set()
    worker.join(SOON_S)
    assert not worker.is_alive()
