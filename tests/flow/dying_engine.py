"""An engine in a process of its own, which a test kills. Run it again: the work goes on.

usage: dying_engine.py DATABASE hang|go old|new
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from commandcenter.flow.engine import Engine, Queue
from commandcenter.store import database


async def main(path: Path, how: str, version: str) -> None:
    database.prepare_sqlite(path)
    store = database.open_engine(database.sqlite_url(path))
    engine = Engine(store, poll_s=0.05)
    ended = asyncio.Event()

    def say(word: str) -> dict[str, Any]:
        print(word, flush=True)
        return {"word": word}

    async def first() -> dict[str, Any]:
        return say("first")

    async def second() -> dict[str, Any]:
        say("second")
        if how == "hang":
            await asyncio.Event().wait()
        return {}

    async def appended() -> dict[str, Any]:
        return say("appended")

    async def body(name: str) -> None:
        await engine.transact("count", count)
        await engine.step("first", f"{name}/first", first)
        await engine.step("second", f"{name}/second", second)
        if version == "new":
            await engine.step("appended", f"{name}/appended", appended)
        ended.set()

    def count(session: Session) -> None:
        session.execute(sa.text("INSERT INTO counted DEFAULT VALUES"))

    def submit(session: Session) -> None:
        session.execute(sa.text("CREATE TABLE IF NOT EXISTS counted (id INTEGER PRIMARY KEY)"))
        engine.enqueue(session, "body", "only", "only")

    engine.create()
    engine.register("body", Queue("bodies", 1), body)
    await engine.launch()
    await engine.transact("submit", submit)
    await ended.wait()
    counted = await engine.transact(
        "look", lambda s: s.scalar(sa.text("SELECT count(*) FROM counted"))
    )
    await engine.stop()
    store.dispose()
    say(f"counted {counted}")


asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
