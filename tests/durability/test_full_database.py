"""The disk of the database is full: workflows wait, askers are told, and a start says why not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.core.errors import DiskFull
from commandcenter.flow.engine import Engine, Queue
from commandcenter.store import database
from commandcenter.testing.desk import Host
from commandcenter.testing.disk import Disk, small_disk
from commandcenter.testing.scene import Sample, batch, plan, task

PATIENCE_S = 150
TEXT = plan(
    batch(
        1,
        task(
            "1.1",
            "One",
            files=["1.txt"],
            script="print started\nsleep 3\nwrite 1.txt\n| content",
            checks=["test -s 1.txt"],
        ),
    )
)


@pytest.fixture
def little(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("A disk of its own needs root: run as root")
    with small_disk(tmp_path / "little", mebibytes=32) as disk:
        yield disk


@pytest.fixture
def store(little: Disk) -> Iterator[sa.Engine]:
    path = little.folder / "db.sqlite"
    database.prepare_sqlite(path)
    engine = database.open_engine(database.sqlite_url(path))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE words (word TEXT)"))
    yield engine
    engine.dispose()


def write(session: Session, word: str) -> None:
    # Longer than what a partly used page of the log still takes.
    session.execute(sa.text("INSERT INTO words VALUES (:word)"), {"word": word * 20_000})


def written(store: sa.Engine) -> list[str]:
    with store.connect() as connection:
        return [word[0] for word in connection.scalars(sa.text("SELECT word FROM words"))]


async def test_a_workflow_waits_for_room_and_records_what_it_does_once(
    store: sa.Engine, little: Disk
) -> None:
    begun, ended, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def wait() -> dict[str, Any]:
        begun.set()
        await go.wait()
        return {"long": "x" * 20_000}

    async def body(word: str) -> None:
        await engine.step("wait", "owner", wait)
        await engine.transact("write", write, word)
        ended.set()

    engine = Engine(store, poll_s=0.05)
    engine.create()
    engine.register("body", Queue("q", 1), body)
    await engine.launch()
    await engine.transact("submit", lambda session: engine.enqueue(session, "body", "w", "w"))
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    with little.filled():
        go.set()
        with pytest.raises(DiskFull):
            await engine.transact("other", write, "o")
        with pytest.raises(DiskFull):
            await database.Database(store).transact(write, "o")
        while_full = (written(store), ended.is_set())
    await asyncio.wait_for(ended.wait(), PATIENCE_S)
    await engine.transact("other", write, "o")
    await engine.stop()

    assert while_full == ([], False)
    assert written(store) == ["w", "o"]


async def test_a_service_without_room_does_not_start_and_says_why(host: Host) -> None:
    with small_disk(host.installation.data_dir, mebibytes=32) as disk, disk.filled():
        exit_code, printed = await refused_start(host)

    assert exit_code in (1, 2)
    assert "full" in printed or "No space" in printed
    assert "Traceback" not in printed
    assert "unexpectedly" not in printed


@pytest.mark.slow
async def test_a_service_that_was_killed_on_a_full_disk_starts_when_there_is_room(
    host: Host, sample: Sample
) -> None:
    with small_disk(host.installation.data_dir, mebibytes=64) as disk:
        with host.serving() as first:
            desk = await host.desk(first)
            run = await desk.start(sample, TEXT)
            # Nothing makes room while it works.
            await desk.until_agent_says(run, "started", PATIENCE_S)
            with disk.filled():
                refused = await desk.post("/start", desk.body(sample, TEXT))
                first.kill()
                first.wait(timeout=30)
            # Filled anew: what the killed service had open may have left room.
            with disk.filled():
                exit_code, printed = await refused_start(host)
        with host.serving() as third:
            desk = await host.desk(third)
            await desk.until(f"/{run}/status", lambda s: s["completed_at"] is not None, PATIENCE_S)
            status = await desk.get(f"/{run}/status")

    assert refused.status_code == 503
    assert "full" in refused.json()["detail"]
    assert exit_code in (1, 2), printed
    assert "unexpectedly" not in printed
    assert status["status"] == "completed"


async def refused_start(host: Host) -> tuple[int, str]:
    """Return with which exit code a service ends that cannot start, and what it prints."""
    with host.serving() as service:
        printed, _ = await asyncio.to_thread(service.communicate, timeout=PATIENCE_S)
        return service.returncode, printed
