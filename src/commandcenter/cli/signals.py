"""Ctrl-C and its kin: the first stops cleanly, the second at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from commandcenter.cli.failure import Interrupted

_T = TypeVar("_T")
_SHOW_CURSOR = "\x1b[?25h"


def until_stopped(
    work: Callable[[Stop], Coroutine[Any, Any, _T]],  # Any: what a coroutine yields to its loop
) -> _T:
    """Run this to its end, or until a signal cancels it.

    Raises:
        Interrupted: a signal ended it, and it has cleaned up.
    """
    with asyncio.Runner() as runner:
        return runner.run(_stoppable(work))


class Stop:
    """Turns the first signal into a cancellation, and the second into the end."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self.number: int | None = None
        self.farewell: Callable[[], None] = _say_stopping
        """Tells the person what becomes of the work; called at the first signal."""

    def listen(self) -> None:
        """Handle the signals from now on. Servers that we start may have taken them: repeat."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._heard, number)

    def _heard(self, number: int) -> None:
        if self.number is not None:
            _leave(number)
        self.number = number
        self._task.cancel()
        # Whoever read our words may be gone, with the terminal for example.
        with suppress(OSError):
            self.farewell()


async def _stoppable(work: Callable[[Stop], Coroutine[Any, Any, _T]]) -> _T:
    task = asyncio.current_task()
    assert task is not None
    stop = Stop(task)
    stop.listen()
    try:
        return await work(stop)
    except asyncio.CancelledError:
        if stop.number is None:
            raise
        raise Interrupted(stop.number) from None


def _leave(number: int) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(_SHOW_CURSOR)
        sys.stdout.flush()
    os._exit(128 + number)


def _say_stopping() -> None:
    print("stopping", file=sys.stderr, flush=True)
