"""Starts enqueued workflows at once: the engine's queue workers, woken instead of left to poll.

Measured: a poll costs 4 to 5 ms of processor time, so five queues that look ten times a second
use a quarter of a processor, and still keep every workflow waiting for 50 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dbos import DBOS

# Private, so the engine's minor version is pinned: the loop that serves one queue.
from dbos._dbos import _get_dbos_instance
from dbos._queue import queue_worker_thread

JOIN_S = 10.0


class Bell(threading.Event):
    """The stop signal of a queue worker, which can also be rung: then it looks for work now."""

    def __init__(self) -> None:
        super().__init__()
        self._rung = threading.Event()

    def ring(self) -> None:
        """End the worker's wait; rung while it works, the next wait ends at once."""
        self._rung.set()

    def set(self) -> None:
        """Stop the worker."""
        super().set()
        self._rung.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a ring, and say whether it is the end."""
        self._rung.wait(timeout)
        self._rung.clear()
        return self.is_set()


class Dispatch:
    """The workers of our queues."""

    def __init__(self) -> None:
        self._bells: dict[str, Bell] = {}
        self._workers: list[threading.Thread] = []

    def claim(self) -> None:
        """Keep the engine from serving queues by itself; called before its launch."""
        DBOS.listen_queues([])

    async def start(self, names: Sequence[str]) -> None:
        """Serve these registered queues."""
        for name in names:
            queue = await DBOS.retrieve_queue_async(name)
            assert queue is not None, f"the queue {name} was registered just now"
            bell = self._bells[name] = Bell()
            worker = threading.Thread(
                target=queue_worker_thread,
                args=(bell, _get_dbos_instance(), queue),
                name=f"queue-{name}",
                daemon=True,
            )
            worker.start()
            self._workers.append(worker)
            bell.ring()

    def ring(self, name: str) -> None:
        """Have a queue looked at now; one that is not served yet looks at its start."""
        if name in self._bells:
            self._bells[name].ring()

    def stop(self) -> None:
        """Stop serving, and wait for the workers."""
        for bell in self._bells.values():
            bell.set()
        for worker in self._workers:
            worker.join(JOIN_S)
