"""Configures and launches the durable engine; the seam between it and our workflows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from dbos import (
    DBOS,
    DBOSClient,
    DBOSConfig,
    DBOSPortableJSONSerializer,
    SQLAlchemyDatasource,
)
from sqlalchemy.orm import Session

from commandcenter.flow.dispatch import Dispatch
from commandcenter.flow.stalls import Stalls
from commandcenter.store.database import impatient

P = ParamSpec("P")
R = TypeVar("R")

APPLICATION = "commandcenter"
# Pinned: with the automatic version, any change of our code would strand unfinished workflows.
# Steps are only ever appended; anything else is a new workflow name, kept until the old drained.
APPLICATION_VERSION = "1"
EXECUTOR = "local"
RECOVERIES_MAX = 1000
THREADS_MAX = 32
SLOW_S = 5.0
"""A transaction that takes longer is told to people."""
DELAY_MAX_S = 120.0
"""The longest delay of a workflow. What waits longer does so because the clock was put back."""
CLOCK_LOOK_S = 2.0
CLOCK_JUMP_S = 1.0
log = logging.getLogger(__name__)
Workflow = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Queue:
    """A durable queue: how many of its workflows run at once, in all or per partition."""

    name: str
    concurrency: int | None = None
    partitioned: bool = False
    """One at a time per partition, in the order of arrival."""


class Engine:
    """The durable engine on one database. There is at most one in a process.

    A workflow is a short chain of steps and transactions. What a step returns is plain JSON.
    """

    def __init__(self, database: sa.Engine, *, poll_s: float) -> None:
        """`database` holds the engine's tables beside ours, so that both commit together.

        Queues look for work when there is some, and every `poll_s` for what nobody told them of.
        """
        self._database = database
        self._poll_s = poll_s
        self._serializer = DBOSPortableJSONSerializer()
        self._queues: dict[str, Queue] = {}
        self._workflows: dict[str, Queue] = {}
        self._source: SQLAlchemyDatasource | None = None
        self._client: DBOSClient | None = None
        self._dispatch = Dispatch()
        self._active: set[asyncio.Task[Any]] = set()  # Any: what the engine makes of a workflow
        self._running: dict[str, asyncio.Task[Any]] = {}  # Any: what the step returns
        self._stopping = False
        self._minding: asyncio.Task[None] | None = None
        self.stalls = Stalls()

    def create(self) -> None:
        """Configure the engine; workflows are registered after this and before `launch`."""
        url = self._database.url.render_as_string(hide_password=False)
        DBOS(
            config=DBOSConfig(
                name=APPLICATION,
                system_database_url=url,
                system_database_engine=self._database,
                application_version=APPLICATION_VERSION,
                executor_id=EXECUTOR,
                serializer=self._serializer,
                max_executor_threads=THREADS_MAX,
                log_level="ERROR",
                enable_otlp=False,
                notification_listener_polling_interval_sec=1.0,
            )
        )
        # The engine prints by itself; its words belong where ours go.
        engines = logging.getLogger("dbos")
        for handler in tuple(engines.handlers):
            engines.removeHandler(handler)
        engines.propagate = True
        self._source = SQLAlchemyDatasource.create(
            url, engine=self._database, serializer=self._serializer
        )
        self._client = DBOSClient(
            system_database_engine=self._database,
            serializer=self._serializer,
            application_name=APPLICATION,
            lazy=True,
        )

    def register(self, name: str, queue: Queue, body: Workflow) -> None:
        """Make `body` the durable workflow `name`, run from `queue`."""
        self._queues[queue.name] = queue
        self._workflows[name] = queue

        async def workflow(*arguments: str | int) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._active.add(task)
            # Its end, which the engine records in this task, too, makes room for the next one.
            task.add_done_callback(lambda _: self._dispatch.ring(queue.name))
            task.add_done_callback(self._active.discard)
            self._leave_if_stopping()
            await body(*arguments)

        DBOS.workflow(name=name, max_recovery_attempts=RECOVERIES_MAX)(workflow)

    async def launch(self) -> None:
        """Start; work that a dead owner left goes on by itself.

        Called on the event loop that the workflows are to run on.
        """
        # The engine adopts the running loop, so this call cannot move to a thread.
        self._dispatch.claim()
        DBOS.launch()
        for queue in self._queues.values():
            await DBOS.register_queue_async(
                queue.name,
                worker_concurrency=queue.concurrency,
                partition_concurrency=1 if queue.partitioned else None,
                polling_interval_sec=self._poll_s,
                on_conflict="always_update",
            )
        await self._dispatch.start(tuple(self._queues))
        await self._bring_forward()
        self._minding = asyncio.create_task(self._mind_the_clock())

    async def stop(self) -> None:
        """End all steps, let them clean up, and leave their workflows to the next start."""
        self._stopping = True
        if self._minding is not None:
            self._minding.cancel()
            await asyncio.wait({self._minding})
        await asyncio.to_thread(self._dispatch.stop)
        for task in self._running.values():
            task.cancel()
        # The engine does not wait for its workflows: one that met its end would be an error.
        while self._active:
            await asyncio.wait(self._active)
        # The engine made its own pool the loop's default one, and is about to close it.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS_MAX))
        logging.getLogger("dbos").setLevel(logging.CRITICAL)
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)

    async def _mind_the_clock(self) -> None:
        """Bring delays forward when the clock is put back: the engine measures them by it."""
        offset_s = _clock_offset_s()
        while True:
            await asyncio.sleep(CLOCK_LOOK_S)
            before_s, offset_s = offset_s, _clock_offset_s()
            if offset_s < before_s - CLOCK_JUMP_S:
                log.warning("The clock was put back by %.0f s.", before_s - offset_s)
                try:
                    await self._bring_forward()
                except Exception:  # the border of a loop that must go on
                    log.exception("Delays could not be brought forward.")
                    offset_s = before_s

    async def _bring_forward(self) -> None:
        """End the delays that are longer than any that we ask for."""
        longest_ms = (time.time() + DELAY_MAX_S) * 1000
        for delayed in await DBOS.list_workflows_async(status="DELAYED", load_input=False):
            if (delayed.delay_until_epoch_ms or 0) > longest_ms:
                await DBOS.set_workflow_delay_async(delayed.workflow_id, delay_seconds=0)

    def enqueue(
        self,
        session: Session,
        workflow: str,
        identity: str,
        *arguments: str | int,
        priority: int = 0,
        partition: str | None = None,
        delay_s: float = 0.0,
    ) -> None:
        """Enqueue a workflow as part of the caller's transaction; the same identity runs once.

        `delay_s` is at most `DELAY_MAX_S`.
        """
        assert delay_s <= DELAY_MAX_S
        assert self._client is not None, "the engine is not launched"
        queue = self._workflows[workflow]
        options: dict[str, Any] = {  # Any: the engine's TypedDict of options
            "workflow_name": workflow,
            "queue_name": queue.name,
            "workflow_id": identity,
            "app_version": APPLICATION_VERSION,
        }
        if delay_s:
            options["delay_seconds"] = delay_s
        if queue.partitioned:
            options["queue_partition_key"] = partition
        elif priority:
            options["priority"] = priority
        self._client.enqueue_in_transaction(session, options, *arguments)  # type: ignore[arg-type]
        sa.event.listen(
            session, "after_commit", lambda _: self._dispatch.ring(queue.name), once=True
        )

    async def transact(
        self,
        name: str,
        body: Callable[Concatenate[Session, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run `body` in one transaction; inside a workflow, exactly once, and recorded."""
        source = self._source
        assert source is not None, "the engine is not launched"

        def transaction() -> R:
            return body(source.sql_session(), *args, **kwargs)

        self._leave_if_stopping()
        if DBOS.workflow_id is not None:
            return await self._recorded(lambda: source.run_tx_step({"name": name}, transaction))
        # Somebody waits for the answer, and is told at once that there is no room.
        with impatient():
            return await asyncio.to_thread(lambda: source.run_tx_step({"name": name}, transaction))

    async def _recorded(self, transaction: Callable[[], R]) -> R:
        """Run a transaction that is tried again until the database takes it; tell if it waits."""
        taking = asyncio.ensure_future(asyncio.to_thread(transaction))
        await asyncio.wait({taking}, timeout=SLOW_S)
        if taking.done():
            return await taking
        with self.stalls.noted("The database takes nothing at the moment. Is its disk full?"):
            return await taking

    async def step(
        self, name: str, owner: str, body: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:  # Any: JSON
        """Run an effect at least once and record what it returns.

        `owner`, unique among what runs, names it for `interrupt`; an interrupted step returns
        {"interrupted": true}.
        """

        async def effect() -> dict[str, Any]:
            self._leave_if_stopping()
            task = asyncio.ensure_future(body())
            self._running[owner] = task
            try:
                return await task
            except asyncio.CancelledError:
                if self._stopping or not task.cancelled():
                    raise
                return {"interrupted": True}
            finally:
                self._running.pop(owner, None)

        return await DBOS.run_step_async({"name": name}, effect)

    def _leave_if_stopping(self) -> None:
        """End a workflow that comes here during a stop; unrecorded, it goes on after a start."""
        if self._stopping:
            raise asyncio.CancelledError

    def interrupt(self, prefix: str) -> None:
        """End the running steps whose owner starts with `prefix`."""
        for owner, task in list(self._running.items()):
            if owner.startswith(prefix):
                task.cancel()


def _clock_offset_s() -> float:
    """Return how far the clock that people set is from the one that nobody can."""
    return time.time() - time.monotonic()
