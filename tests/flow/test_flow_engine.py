"""The seam to the durable engine: what it promises, shown with tiny workflows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.flow.engine import Engine, Queue
from commandcenter.store import database

PATIENCE_S = 30
Record = dict[str, Any]  # Any: JSON, as a step returns it


class Place:
    """A database, and engines that follow one another on it."""

    def __init__(self, path: Path) -> None:
        database.prepare_sqlite(path)
        self.store = database.open_engine(database.sqlite_url(path))
        with self.store.begin() as connection:
            connection.execute(sa.text("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)"))

    @asynccontextmanager
    async def engine(self, register: Callable[[Engine], None]) -> AsyncIterator[Engine]:
        engine = Engine(self.store, poll_s=0.05)
        engine.create()
        register(engine)
        await engine.launch()
        try:
            yield engine
        finally:
            await engine.stop()

    @property
    def words(self) -> list[str]:
        with self.store.connect() as connection:
            return list(connection.scalars(sa.text("SELECT word FROM words ORDER BY id")))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "db.sqlite")
    yield place
    place.store.dispose()


def write(session: Session, word: str) -> str:
    session.execute(sa.text("INSERT INTO words (word) VALUES (:word)"), {"word": word})
    return word


async def until(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_S)


class Counting:
    """A workflow that writes its argument, and knows when `expected` of them have ended."""

    def __init__(self, expected: int, queue: Queue) -> None:
        self.queue = queue
        self.left = expected
        self.ended = asyncio.Event()
        self.at_once = self.most_at_once = 0

    def register(self, engine: Engine) -> None:
        async def body(word: str) -> None:
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            await engine.transact("write", write, word)
            self.at_once -= 1
            self.left -= 1
            if self.left == 0:
                self.ended.set()

        engine.register("count", self.queue, body)


def enqueue_all(engine: Engine, **options: Any) -> Callable[[Session, Sequence[str]], None]:
    def body(session: Session, words: Sequence[str]) -> None:
        write(session, "submitted")
        for word in words:
            engine.enqueue(session, "count", word, word, **options)

    return body


async def test_a_workflow_begins_when_the_transaction_that_enqueued_it_ends(place: Place) -> None:
    counting = Counting(2, Queue("q", 4))
    async with place.engine(counting.register) as engine:
        await engine.transact("submit", enqueue_all(engine), ["a", "b"])
        await until(counting.ended)
    assert place.words[0] == "submitted"
    assert sorted(place.words[1:]) == ["a", "b"]


async def test_a_transaction_that_fails_takes_its_workflows_back(place: Place) -> None:
    counting = Counting(1, Queue("q", 1))

    def broken(session: Session) -> None:
        enqueue_all(engine)(session, ["lost"])
        raise ZeroDivisionError

    async with place.engine(counting.register) as engine:
        with pytest.raises(ZeroDivisionError):
            await engine.transact("submit", broken)
        await engine.transact("submit", enqueue_all(engine), ["kept"])
        await until(counting.ended)
    assert place.words == ["submitted", "kept"]


async def test_the_same_identity_runs_once(place: Place) -> None:
    counting = Counting(2, Queue("q", 1))
    async with place.engine(counting.register) as engine:
        for _ in range(3):
            await engine.transact("submit", enqueue_all(engine), ["once"])
        await engine.transact("submit", enqueue_all(engine), ["last"])
        await until(counting.ended)
    assert [word for word in place.words if word != "submitted"] == ["once", "last"]


async def test_a_partition_is_served_one_by_one_in_the_order_of_arrival(place: Place) -> None:
    names = [str(n) for n in range(8)]
    counting = Counting(len(names), Queue("q", partitioned=True))
    async with place.engine(counting.register) as engine:
        for name in names:
            await engine.transact("submit", enqueue_all(engine, partition="main"), [name])
        await until(counting.ended)
    assert [word for word in place.words if word != "submitted"] == names
    assert counting.most_at_once == 1


async def test_what_has_the_lower_priority_number_goes_first(place: Place) -> None:
    counting = Counting(4, Queue("q", 1))

    def submit(session: Session) -> None:
        for number in (3, 1, 4, 2):
            engine.enqueue(session, "count", str(number), str(number), priority=number)

    async with place.engine(counting.register) as engine:
        await engine.transact("submit", submit)
        await until(counting.ended)
    assert place.words == ["1", "2", "3", "4"]


async def test_a_delayed_workflow_waits(place: Place) -> None:
    counting = Counting(1, Queue("q", 1))
    async with place.engine(counting.register) as engine:
        began = time.monotonic()
        await engine.transact("submit", enqueue_all(engine, delay_s=1.0), ["late"])
        await until(counting.ended)
    assert time.monotonic() - began >= 0.9


class Stepping:
    """A workflow of a step that waits for leave, and a transaction that tells how it went."""

    def __init__(self) -> None:
        self.begun, self.leave, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.begins = 0

    def register(self, engine: Engine) -> None:
        async def effect() -> Record:
            self.begins += 1
            self.begun.set()
            await self.leave.wait()
            return {"done": True}

        async def body(name: str) -> None:
            await engine.transact("begin", write, "begin")
            record = await engine.step("effect", f"{name}/effect", effect)
            await engine.transact("end", write, ",".join(record))
            self.ended.set()

        engine.register("step", Queue("steps", 2), body)

    @staticmethod
    def submit(session: Session, engine: Engine, name: str) -> None:
        engine.enqueue(session, "step", name, name)


async def test_an_interrupted_step_ends_as_interrupted_and_others_go_on(place: Place) -> None:
    stepping = Stepping()
    async with place.engine(stepping.register) as engine:
        await engine.transact("submit", stepping.submit, engine, "run_1")
        await until(stepping.begun)
        engine.interrupt("run_2/")
        engine.interrupt("run_1/")
        await until(stepping.ended)
    assert place.words == ["begin", "interrupted"]


async def test_a_stop_leaves_the_work_to_the_next_start(place: Place) -> None:
    former, latter = Stepping(), Stepping()
    latter.leave.set()
    async with place.engine(former.register) as engine:
        await engine.transact("submit", former.submit, engine, "run_1")
        await until(former.begun)
    assert place.words == ["begin"]

    async with place.engine(latter.register):
        await until(latter.ended)
    assert place.words == ["begin", "done"]
    assert latter.begins == 1


async def test_what_was_queued_at_a_stop_runs_after_the_next_start(place: Place) -> None:
    former, latter = Stepping(), Stepping()
    latter.leave.set()
    async with place.engine(former.register) as engine:
        for name in ("a", "b", "c", "d"):
            await engine.transact("submit", former.submit, engine, name)
        await until(former.begun)

    async with place.engine(latter.register):
        while place.words.count("done") < 4:
            latter.ended.clear()
            await until(latter.ended)
    assert sorted(place.words) == ["begin"] * 4 + ["done"] * 4


async def test_a_step_that_fails_is_an_error_of_its_workflow_alone(place: Place) -> None:
    caught = asyncio.Event()

    def register(engine: Engine) -> None:
        async def effect() -> Record:
            raise LookupError("nothing there")

        async def body() -> None:
            try:
                await engine.step("effect", "x", effect)
            except LookupError as error:
                await engine.transact("tell", write, str(error))
                caught.set()

        engine.register("fail", Queue("q", 1), body)

    async with place.engine(register) as engine:
        await engine.transact("submit", lambda s: engine.enqueue(s, "fail", "f"))
        await until(caught)
    assert place.words == ["nothing there"]


def engine_process(path: Path, how: str, version: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("dying_engine.py")
    arguments = [sys.executable, str(script), str(path), how, version]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("version", ["old", "new"])
def test_after_kill_9_the_broken_step_runs_again_and_recorded_ones_do_not(
    tmp_path: Path, version: str
) -> None:
    path = tmp_path / "db.sqlite"
    with engine_process(path, "hang", "old") as dying:
        assert dying.stdout is not None
        seen = [dying.stdout.readline().strip() for _ in range(2)]
        dying.kill()
    with engine_process(path, "go", version) as reborn:
        words = reborn.communicate(timeout=PATIENCE_S)[0].split("\n")

    assert seen == ["first", "second"]
    appended = ["appended"] if version == "new" else []
    assert words == ["second", *appended, "counted 1", ""]
