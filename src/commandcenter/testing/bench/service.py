"""Starts the real service as a process of its own, and gives it plans over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from commandcenter.testing.bench.machine import processor_s, resident_mb

_PIPELINE = "/api/v1/autonomous"
_WAIT_S = 5.0


class TooLong(Exception):  # noqa: N818 - it names an outcome
    """A part of the bench reached its time cap."""


@dataclass(frozen=True)
class Measured:
    """A run, from its submission to its end."""

    wall_s: float
    processor_s: float
    """Of the service and all that it started."""
    landed: tuple[float, ...]
    """When each task landed, in seconds after the submission."""
    resident_mb: float
    """Of the service, at the end."""


class BenchService:
    """A running service on a data folder of its own."""

    def __init__(self, process: subprocess.Popen[str], http: httpx.Client) -> None:
        self._process = process
        self._http = http

    def run(
        self,
        plan: Path,
        repository: Path,
        agent: str,
        *,
        cap_s: float,
        execution_mode: str = "local",
    ) -> Measured:
        """Run a plan with a command as its agent.

        Raises:
            TooLong: it did not end within `cap_s`; it was cancelled.
        """
        before, started = processor_s(self._process.pid), time.time()
        run = self.start(plan, repository, agent, execution_mode)
        landed, ended = self._follow(run, started, cap_s)
        self._need_success(run)
        used = processor_s(self._process.pid) - before
        return Measured(ended, used, landed, resident_mb(self._process.pid))

    def start(self, plan: Path, repository: Path, agent: str, execution_mode: str = "local") -> str:
        """Start a run of a plan with a command as its agent; return its id."""
        body = {
            "plan_path": str(plan),
            "repository": str(repository),
            "agent_command": agent,
            "execution_mode": execution_mode,
        }
        answer = self._http.post(f"{_PIPELINE}/start", json=body)
        answer.raise_for_status()
        return str(answer.json()["execution_id"])

    def wait(self, run: str, *, cap_s: float) -> None:
        """Wait until a run has ended as it should.

        Raises:
            TooLong: it did not end within `cap_s`; it was cancelled.
        """
        self._follow(run, time.time(), cap_s)
        self._need_success(run)

    def end(self, run: str, *, cap_s: float) -> None:
        """Wait until a run has ended, however.

        Raises:
            TooLong: it did not end within `cap_s`; it was cancelled.
        """
        self._follow(run, time.time(), cap_s)

    def events(self, run: str, kind: str) -> list[float]:
        """Return when the events of a kind happened, in seconds since 1970."""
        told = self._ask(f"{run}/events", format="json", limit=10_000)
        return [datetime.fromisoformat(e["at"]).timestamp() for e in told if e["kind"] == kind]

    def phases(self, run: str) -> list[str]:
        """Return the phases of the run's tasks."""
        tasks = [task for batch in self._ask(f"{run}/batches") for task in batch["tasks"]]
        return [str(task["phase"]) for task in tasks]

    def kill(self) -> None:
        """Kill the service as a crash would."""
        self._process.kill()
        self._process.wait()

    def _follow(self, run: str, started: float, cap_s: float) -> tuple[tuple[float, ...], float]:
        """Return when each task landed and when the run ended, after `started`."""
        landed: list[float] = []
        after = 0
        while time.time() - started < cap_s:
            query: dict[str, str | float] = {"format": "json", "after": after, "wait": _WAIT_S}
            for event in self._ask(f"{run}/events", **query):
                after = event["seq"]
                at = datetime.fromisoformat(event["at"]).timestamp() - started
                if event["kind"] == "task.completed":
                    landed.append(at)
                if event["kind"] == "run.ended":
                    return tuple(landed), at
        self._http.post(f"{_PIPELINE}/{run}/cancel", json={})
        raise TooLong(f"stopped at its cap of {cap_s:.0f} s with {len(landed)} tasks landed")

    def _need_success(self, run: str) -> None:
        status = self._ask(f"{run}/status")
        if status["status"] == "completed":
            return
        tasks = [task for batch in self._ask(f"{run}/batches") for task in batch["tasks"]]
        words = [f"{task['task_number']}: {task['explanation']}" for task in tasks if task["error"]]
        raise RuntimeError(f"The run is {status['status']}. {'; '.join(words[:5])}")

    def _ask(self, path: str, **query: str | float) -> Any:  # Any: JSON
        answer = self._http.get(f"{_PIPELINE}/{path}", params=query)
        if answer.is_error:
            raise RuntimeError(f"The service answered {answer.status_code}: {answer.text}")
        return answer.json()

    @property
    def resident_mb(self) -> float:
        """Return the resident memory of the service now."""
        return resident_mb(self._process.pid)


@contextmanager
def serving(
    folder: Path, *, workers: int, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[BenchService]:
    """Run a service in `folder`, which may be one's of before, until the block ends."""
    folder.mkdir(exist_ok=True)
    config = folder / "config.toml"
    config.write_text(f"workers = {workers}\n", "utf-8")
    options = ("--config", str(config), "--data-dir", str(folder / "data"))
    process = subprocess.Popen(
        (sys.executable, "-m", "commandcenter", *options, "serve", "--port", "0"),
        env={**_environment(folder), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with httpx.Client(base_url=_url(process), timeout=120) as http:
            yield BenchService(process, http)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()


def _environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://\S+", line):
            return found[0]
    raise RuntimeError("The service ended before it told its address.")
