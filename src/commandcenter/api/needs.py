"""What the API needs of the service: its interface, as seen from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from commandcenter.core.explanation import Explanation
from commandcenter.core.forge import Decision
from commandcenter.core.run import (
    BatchStatus,
    Event,
    Finding,
    Log,
    RunStatus,
    Started,
    Submission,
    TaskStatus,
)
from commandcenter.core.run_report import RunReport
from commandcenter.core.spending import Spending
from commandcenter.core.upkeep import Files, Item, Restored, Salvaged
from commandcenter.core.webhook import Headers, Heard


class Service(Protocol):
    """Everything a person may ask.

    Raises:
        NotFound: there is no such run or task.
        InputError: what was asked is wrong.
    """

    async def submit(self, submission: Submission) -> Started:
        """Start a run."""

    async def runs(self) -> Sequence[RunStatus]:
        """Return all runs, newest first."""

    async def run(self, execution_id: str) -> RunStatus:
        """Return one run."""

    async def ended(self, execution_id: str) -> bool:
        """Say whether a run is over; cheap, whatever its size."""

    async def batches(self, execution_id: str) -> Sequence[BatchStatus]:
        """Return the batches of a run, in plan order."""

    async def spending(self, execution_id: str) -> Sequence[Spending]:
        """Return what the agents of a run have used, by profile."""

    async def report(self, execution_id: str) -> RunReport:
        """Return what became of a run, or has so far."""

    async def explanation(self, execution_id: str, number: str) -> Explanation:
        """Return why a task stands where it does, in sentences."""

    async def task(self, execution_id: str, number: str) -> TaskStatus:
        """Return the task of exactly this number."""

    async def events(
        self, execution_id: str | None, *, after: int = 0, limit: int = 1000
    ) -> Sequence[Event]:
        """Return the events after this position, oldest first."""

    async def wait_for_events(
        self, execution_id: str | None, *, after: int, timeout_s: float
    ) -> Sequence[Event]:
        """Return the events after this position as soon as there are any; none at the timeout."""

    async def cancel(self, execution_id: str) -> RunStatus:
        """Cancel what has not ended."""

    async def retry(self, execution_id: str, task: str | None = None) -> RunStatus:
        """Try failed, skipped and cancelled tasks again, or one of them."""

    async def decide(
        self, execution_id: str, task: str | None, decision: Decision, words: str, by: str
    ) -> RunStatus:
        """Say what becomes of a change that waits for approval, or of all that do."""

    async def logs(
        self, execution_id: str, *, task: str | None = None, attempt: int | None = None
    ) -> Sequence[Log]:
        """Return what the commands of a run wrote."""

    async def gc(self, *, dry_run: bool) -> Sequence[Item]:
        """Free what is held elsewhere, and say of the rest why not; or only say what would go."""

    async def salvage(self) -> Sequence[Salvaged]:
        """Return the work that did not land and can be restored."""

    async def restore(self, id_: str, *, repository: str | None, branch: str | None) -> Restored:
        """Make a new branch of salvaged work in a repository, by default the run's own."""

    async def salvaged_files(self, id_: str) -> Files:
        """Return the files of salvaged work as an archive."""

    async def drop(self, id_: str) -> None:
        """Remove salvaged work for good."""

    async def webhook(self, forge: str, headers: Headers, body: bytes) -> Heard:
        """Take what claims to be a forge's webhook."""

    async def doctor(self) -> Sequence[Finding]:
        """Say what this machine can and cannot do."""
