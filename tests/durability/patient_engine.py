"""An engine with one workflow that waits a little; its clock is a test's.

usage: patient_engine.py DATABASE DELAY_S

Prints `enqueued` when the workflow waits, and `ran` when it has run.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from commandcenter.flow.engine import Engine, Queue
from commandcenter.store import database


async def main(path: Path, delay_s: float) -> None:
    database.prepare_sqlite(path)
    store = database.open_engine(database.sqlite_url(path))
    engine = Engine(store, poll_s=0.1)
    ended = asyncio.Event()

    async def body(word: str) -> None:
        print(word, flush=True)
        ended.set()

    engine.create()
    engine.register("body", Queue("q", 1), body)
    await engine.launch()
    await engine.transact(
        "submit", lambda session: engine.enqueue(session, "body", "w", "ran", delay_s=delay_s)
    )
    print("enqueued", flush=True)
    await ended.wait()
    await engine.stop()
    store.dispose()


asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
