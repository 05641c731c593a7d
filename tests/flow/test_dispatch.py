"""Queues that are told of their work, on a real engine whose own polls are too rare to help."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.flow.dispatch import Bell
from commandcenter.flow.engine import Engine, Queue
from commandcenter.store import database

RARELY_S = 600.0
SOON_S = 20.0
_WRITE = sa.text("INSERT INTO written VALUES (1)")


class Desk:
    """An engine with one workflow, which notes its argument."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seen: list[str] = []
        self.work = self.note
        self._news = asyncio.Condition()

    async def run(self, word: str) -> None:
        await self.work(word)

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
        return await self.saw_all(*words) and self.seen == list(words)

    async def saw_all(self, *words: str) -> bool:
        async with asyncio.timeout(SOON_S), self._news:
            await self._news.wait_for(lambda: len(self.seen) >= len(words))
        return sorted(self.seen) == sorted(words)


Opened = Callable[[Queue], Awaitable[Desk]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    path = tmp_path / "engine.sqlite"
    database.prepare_sqlite(path)
    tables = database.open_engine(database.sqlite_url(path))
    with tables.begin() as connection:
        connection.execute(sa.text("CREATE TABLE written (number INTEGER)"))
    engine = Engine(tables, poll_s=RARELY_S)

    async def launch(queue: Queue) -> Desk:
        engine.create()
        desk = Desk(engine)
        engine.register("note", queue, desk.run)
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


async def test_many_writers_at_once_never_wait_for_a_connection_of_each_other(
    opened: Opened,
) -> None:
    """A transaction of the engine takes a second connection while it holds the write lock."""
    desk = await opened(Queue("notes"))
    words = tuple(f"note {number}" for number in range(40))
    everybody = asyncio.Barrier(len(words))

    async def write(word: str) -> None:
        await everybody.wait()
        await desk.engine.transact("write", _write)
        await desk.note(word)

    desk.work = write
    await desk.enqueue(*words)

    assert await desk.saw_all(*words)


def _write(session: Session) -> None:
    session.execute(_WRITE)


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
